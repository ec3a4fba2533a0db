"""The slide with its heatmap blended in, as an RGB OME-TIFF that any viewer shows as it is.

JPEG tiles, a pyramid in SubIFDs, no alpha (QuPath drops it). It goes tile by tile; the lower levels wait in
temporary files beside the result, so memory is flat in the size of the slide. Equal input gives equal bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffWriter

from wsi_cam.export.colour_maps import ColourScale
from wsi_cam.export.jpeg import jpeg_bytes
from wsi_cam.export.origin import Origin, level0_to_displayed
from wsi_cam.export.overlay_tiff_xml import overlay_tiff_xml
from wsi_cam.export.slide_scaling import ScaledGrid, read_scaled
from wsi_cam.export.slide_view import heatmap_at
from wsi_cam.geometry import Box, Level0, Mpp, Size
from wsi_cam.heatmap.store import HeatmapStore
from wsi_cam.publishing import published
from wsi_cam.slides.slide import Slide

TILE_PX = 512
#: The pyramid ends with the first level whose sides are both at most this.
_TOP_LEVEL = 1024


@dataclass(frozen=True, eq=False)
class Blend:
    """A slide, the class of a store to lay over it, its colours, and the pixels of the result."""

    slide: Slide
    store: HeatmapStore
    class_name: str
    scale: ColourScale
    grid: ScaledGrid

    def window(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """RGB (height, width, 3): colours over the slide in grey; pale where no patch was seen."""
        picture = read_scaled(self.slide, self.grid, x, y, width, height)
        centres, step = self.grid.centres(x, width, y, height), self.grid.to_level0.scale_x
        return self.scale.over(heatmap_at(self.store, self.class_name, *centres, step), picture)


def write_overlay_ome_tiff(
    path: Path,
    slide: Slide,
    mpp: Mpp,
    store: HeatmapStore,
    class_name: str,
    scale: ColourScale,
    *,
    um_per_px: float = 2.0,
    origin: Origin = "qupath",
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``path`` (``*.ome.tif``) and give it back.

    ``mpp`` is the spacing of the slide's level 0, ``um_per_px`` that of the picture's square pixels. Where
    the slide has bounds and ``origin`` is ``"qupath"`` the picture is of them, as QuPath shows the slide.
    Raises SlideError where the slide cannot be read, OutputError where the file cannot be written or the
    store cannot be read.
    """
    info = slide.info
    shown = Box[Level0](0, 0, info.size.width, info.size.height)
    bounds = info.bounds if origin == "qupath" else None
    shown = shown if bounds is None else shown.intersection(bounds)
    grid = ScaledGrid.over(shown, mpp, um_per_px)
    blend = Blend(slide, store, class_name, scale, grid)
    sizes = _level_sizes(grid.size)
    xml = overlay_tiff_xml(
        name=path.name,
        description=f"{scale.meaning} The slide is in grey beneath, and pale where no patch was classified.",
        size=grid.size,
        um_per_px=um_per_px,
        to_displayed=grid.to_level0.then(level0_to_displayed(bounds, origin)),
        origin=origin,
        provenance=store.provenance if provenance is None else provenance,
        fingerprint=_fingerprint(store),
    )
    with (
        published(path) as partial,
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
        TiffWriter(partial, bigtiff=True, ome=False) as tiff,
    ):
        levels = _LowerLevels(Path(folder), sizes)
        for number, size in enumerate(sizes):
            _write_level(tiff, levels.tiles(blend, number), number, size, um_per_px, len(sizes), xml)
    return path


def _write_level(
    tiff: TiffWriter,
    tiles: Iterator[bytes],
    number: int,
    size: Size,
    um_per_px: float,
    count: int,
    xml: bytes,
) -> None:
    per_cm = 1e4 / (um_per_px * 2**number)
    tiff.write(
        tiles,
        shape=(size.height, size.width, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        compressionargs={"outcolorspace": "ycbcr"},
        subifds=count - 1 if number == 0 else None,
        subfiletype=0 if number == 0 else 1,
        description=xml if number == 0 else None,
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        software="wsi_cam",
        metadata=None,
        maxworkers=1,
    )


class _LowerLevels:
    """Levels 1 and down as files of raw pixels: each grows while the one above it is written."""

    def __init__(self, folder: Path, sizes: list[Size]) -> None:
        self._sizes = sizes
        # The sides are rounded up to whole tiles of the level above, so that its tiles fit in halves.
        self._files = {
            number: np.memmap(
                folder / f"{number}.raw",
                dtype=np.uint8,
                mode="w+",
                shape=(_padded(size.height), _padded(size.width), 3),
            )
            for number, size in enumerate(sizes)
            if number > 0
        }

    def tiles(self, blend: Blend, number: int) -> Iterator[bytes]:
        """JPEGs of a level's tiles, row by row; those of level 0 are blended, the others read back."""
        size, half = self._sizes[number], TILE_PX // 2
        for y in range(0, size.height, TILE_PX):
            for x in range(0, size.width, TILE_PX):
                if number == 0:
                    tile = self._blended(blend, x, y, size)
                else:
                    tile = np.array(self._files[number][y : y + TILE_PX, x : x + TILE_PX])
                if number + 1 in self._files:
                    below = self._files[number + 1]
                    below[y // 2 : y // 2 + half, x // 2 : x // 2 + half] = _halved(tile)
                yield jpeg_bytes(tile)

    @staticmethod
    def _blended(blend: Blend, x: int, y: int, size: Size) -> NDArray[np.uint8]:
        """A whole tile; past the picture's edge its last pixels are repeated."""
        width, height = min(TILE_PX, size.width - x), min(TILE_PX, size.height - y)
        picture = blend.window(x, y, width, height)
        return np.pad(picture, ((0, TILE_PX - height), (0, TILE_PX - width), (0, 0)), mode="edge")


def _padded(length: int) -> int:
    return -(-length // TILE_PX) * TILE_PX


def _halved(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 x 2 pixels, rounded half up."""
    wide = tile.astype(np.uint16)
    sums = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((sums + 2) // 4).astype(np.uint8)


def _level_sizes(size: Size) -> list[Size]:
    sizes = [size]
    while max(sizes[-1].width, sizes[-1].height) > _TOP_LEVEL:
        sizes.append(Size(-(-sizes[-1].width // 2), -(-sizes[-1].height // 2)))
    return sizes


def _fingerprint(store: HeatmapStore) -> bytes:
    return store.read(len(store.levels) - 1).tobytes()
