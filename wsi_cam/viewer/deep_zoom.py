"""Deep Zoom: a picture in levels of halves, cut into tiles that a browser fetches as it needs them.

One frame for all that the viewer shows: the part of level 0 that QuPath shows (the slide's bounds where it
states some, else all of it), in level-0 pixels from that part's corner. Level ``max_level`` has these pixels;
pixel i of level k spans exactly ``i * 2**(max_level - k)`` to ``(i + 1) * 2**(max_level - k)`` of them, so
the last row and column of a level may reach past the edge. Slide and heatmaps are cut by the same rule.

Format: https://learn.microsoft.com/previous-versions/windows/silverlight/dotnet-windows-silverlight/cc645077
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from wsi_cam.export.slide_scaling import ScaledGrid
from wsi_cam.geometry import Box, Level0, Mpp
from wsi_cam.viewer.not_found import NotFoundError

#: With a pixel of overlap on each side a tile has at most 256.
TILE_PX = 254
#: Pixels shared with each neighbour; without them browsers draw seams where tiles are scaled.
OVERLAP_PX = 1

_DESCRIPTOR = """\
<?xml version="1.0" encoding="UTF-8"?>
<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{format}" Overlap="{overlap}" \
TileSize="{tile}"><Size Width="{width}" Height="{height}"/></Image>
"""


@dataclass(frozen=True)
class TileAddress:
    level: int
    column: int
    row: int


PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class DeepZoom:
    """The levels and tiles over the part ``shown`` of level 0."""

    shown: Box[Level0]

    @property
    def width(self) -> int:
        return ceil(self.shown.width)

    @property
    def height(self) -> int:
        return ceil(self.shown.height)

    @property
    def max_level(self) -> int:
        """The level of full resolution; level 0 is a single pixel."""
        return (max(self.width, self.height) - 1).bit_length()

    def grid(self, level: int) -> ScaledGrid:
        """Size and place of a level's pixels. Raises NotFoundError where there is no such level."""
        if not 0 <= level <= self.max_level:
            raise NotFoundError(f"level {level} is not one of 0 to {self.max_level}")
        # Square in level-0 pixels, whatever these are in um.
        return ScaledGrid.over(self.shown, Mpp(1, 1), 2.0 ** (self.max_level - level))

    def tile_box(self, tile: TileAddress) -> PixelBox:
        """The pixels (x, y, width, height) of a tile's level that it holds, those it shares included.

        Raises NotFoundError where there is no such tile.
        """
        size = self.grid(tile.level).size
        left, right = _span(tile.column, size.width)
        top, bottom = _span(tile.row, size.height)
        if tile.column < 0 or tile.row < 0 or left >= right or top >= bottom:
            raise NotFoundError(f"level {tile.level} has no tile {tile.column}, {tile.row}")
        return left, top, right - left, bottom - top

    def descriptor(self) -> str:
        """The DZI file of the slide's tiles."""
        return _DESCRIPTOR.format(
            format="jpg", overlap=OVERLAP_PX, tile=TILE_PX, width=self.width, height=self.height
        )

    def level_within(self, longest_side_px: int) -> int:
        """The finest level with no side longer than this, at least 1."""
        times = ceil(max(self.width, self.height) / longest_side_px)
        return self.max_level - (times - 1).bit_length()


def _span(index: int, length: int) -> tuple[int, int]:
    """First and last + 1 of the pixels of a column or row of tiles; empty where there is none."""
    start, end = index * TILE_PX, min((index + 1) * TILE_PX, length)
    if start >= end:
        return 0, 0
    return max(start - OVERLAP_PX, 0), min(end + OVERLAP_PX, length)
