"""A slide as a picture shows it: small, isotropic, and with the place of every pixel known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.export.origin import Origin
from wsi_cam.geometry import Affine, Box, Frame, Heatmap, Level0, Mpp, Thumbnail
from wsi_cam.heatmap.store import HeatmapStore
from wsi_cam.slides.slide import Slide
from wsi_cam.slides.thumbnail import read_thumbnail

#: A thumbnail is enlarged by no more than this: a picture of a few pixels stays one.
_LARGEST_ENLARGEMENT = 8.0
_SMALLEST_SIDE = 160


class Panel(Frame):
    """Pixels of one panel of a picture."""


@dataclass(frozen=True, eq=False)
class SlideView:
    """A thumbnail, RGB (h, w, 3) uint8, and the part of level 0 that pictures show of it."""

    image: NDArray[np.uint8]
    to_level0: Affine[Thumbnail, Level0]
    mpp: Mpp
    """Spacing of level 0, um."""
    shown: Box[Level0]

    @property
    def shown_um(self) -> tuple[float, float]:
        """Width and height of the part shown, in um."""
        return self.shown.width * self.mpp.x, self.shown.height * self.mpp.y

    @property
    def natural_um_per_px(self) -> float:
        """Spacing of the thumbnail: a panel of it shows all there is."""
        return min(self.to_level0.scale_x * self.mpp.x, self.to_level0.scale_y * self.mpp.y)

    def panel(self, max_width: int, max_height: int) -> PanelGrid:
        """The largest isotropic panel within the limits, and not much finer than the thumbnail."""
        width_um, height_um = self.shown_um
        fitting = max(width_um / max_width, height_um / max_height)
        finest = min(self.natural_um_per_px / _LARGEST_ENLARGEMENT, max(width_um, height_um) / _SMALLEST_SIDE)
        um_per_px = max(fitting, finest)
        width = min(max_width, max(1, round(width_um / um_per_px)))
        height = min(max_height, max(1, round(height_um / um_per_px)))
        affine = Affine[Panel, Level0](
            self.shown.width / width, self.shown.height / height, self.shown.x, self.shown.y
        )
        return PanelGrid(width, height, affine, um_per_px)

    def pixels(self, grid: PanelGrid) -> NDArray[np.uint8]:
        """The slide on a panel, RGB (height, width, 3)."""
        box = self.to_level0.inverse().box(self.shown)
        height, width = self.image.shape[:2]
        corners = (max(box.x, 0.0), max(box.y, 0.0), min(box.right, width), min(box.bottom, height))
        picture = Image.fromarray(self.image).resize(
            (grid.width, grid.height), Image.Resampling.BICUBIC, box=corners
        )
        return np.asarray(picture)


@dataclass(frozen=True)
class PanelGrid:
    """Size of a panel in pixels, where they lie, and their spacing."""

    width: int
    height: int
    to_level0: Affine[Panel, Level0]
    um_per_px: float

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Level-0 x of the columns (width,) and y of the rows (height,), at pixel centres."""
        affine = self.to_level0
        x: NDArray[np.float64] = (
            np.arange(self.width, dtype=np.float64) + 0.5
        ) * affine.scale_x + affine.offset_x
        y: NDArray[np.float64] = (
            np.arange(self.height, dtype=np.float64) + 0.5
        ) * affine.scale_y + affine.offset_y
        return x, y


def read_slide_view(
    slide: Slide,
    mpp: Mpp,
    origin: Origin = "qupath",
    longest_side: int = 2048,
) -> SlideView:
    """Read a view of ``slide`` with about ``longest_side`` pixels along its longer side.

    The slide's bounds alone are shown where it has some and ``origin`` is ``"qupath"``. ``mpp`` is the
    spacing of level 0. Raises SlideError where the slide cannot be read.
    """
    size = slide.info.size
    whole = Box[Level0](0, 0, size.width, size.height)
    bounds = slide.info.bounds if origin == "qupath" else None
    shown = whole if bounds is None else whole.intersection(bounds)
    target = max(shown.width * mpp.x, shown.height * mpp.y) / longest_side
    image, to_level0 = read_thumbnail(slide, mpp, target_mpp_um=target)
    return SlideView(image, to_level0, mpp, shown)


def heatmap_on_panel(store: HeatmapStore, channel_name: str, grid: PanelGrid) -> NDArray[np.float32]:
    """As :func:`heatmap_at`, at the centres of a panel's pixels, (height, width)."""
    step = min(grid.to_level0.scale_x, grid.to_level0.scale_y)
    return heatmap_at(store, channel_name, *grid.centres(), step)


def heatmap_at(
    store: HeatmapStore,
    channel_name: str,
    level0_x: NDArray[np.float64],
    level0_y: NDArray[np.float64],
    step: float,
) -> NDArray[np.float32]:
    """A channel's values where columns ``level0_x`` (w,) and rows ``level0_y`` (h,), both ascending, cross.

    Gives (h, w), NaN where uncovered. Read from the coarsest level of the pyramid whose pixels are at most
    ``step`` level-0 pixels wide, and interpolated linearly between the finite pixels; a place is covered if
    the heatmap pixel that holds it is.
    """
    level = _level_for(store, step)
    affine = store.level_to_level0(level)
    size = store.levels[level]
    x = (level0_x - affine.offset_x) / affine.scale_x
    y = (level0_y - affine.offset_y) / affine.scale_y
    left, right = _needed(x, size.width)
    top, bottom = _needed(y, size.height)
    box = (left, top, right - left, bottom - top)
    values = store.read(level, box, [store.channel_index(channel_name)])[0]
    return interpolated(values, x - left, y - top)


def _level_for(store: HeatmapStore, step: float) -> int:
    affines: list[Affine[Heatmap, Level0]] = [store.level_to_level0(k) for k in range(len(store.levels))]
    fine_enough = [k for k, affine in enumerate(affines) if max(affine.scale_x, affine.scale_y) <= step]
    return max(fine_enough, default=0)


def _needed(positions: NDArray[np.float64], count: int) -> tuple[int, int]:
    """First and last + 1 of the pixels around ``positions``, within 0 to ``count``."""
    first = int(np.clip(np.floor(positions[0]) - 1, 0, count - 1))
    last = int(np.clip(np.floor(positions[-1]) + 2, first + 1, count))
    return first, last


def interpolated(
    values: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float32]:
    """``values`` (h, w) at pixel-corner coordinates: columns ``x`` (m,), rows ``y`` (n,); gives (n, m).

    Linear between pixel centres, weights shared among the finite neighbours; NaN where the pixel that
    holds the position is NaN or outside.
    """
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = ((row >= 0) & (row < values.shape[0]))[:, None] & ((column >= 0) & (column < values.shape[1]))
    height, width = values.shape
    finite = np.isfinite(values)
    filled = np.where(finite, values, 0).astype(np.float32)
    covered = finite.astype(np.float32)
    columns = _neighbours(x, width)
    total = np.zeros((len(y), len(x)), np.float32)
    weight = np.zeros_like(total)
    for rows, row_weight in _neighbours(y, height):
        for cols, column_weight in columns:
            both = row_weight[:, None] * column_weight
            total += both * filled[np.ix_(rows, cols)]
            weight += both * covered[np.ix_(rows, cols)]
    held = finite[np.ix_(np.clip(row, 0, height - 1), np.clip(column, 0, width - 1))]
    result = np.full_like(total, np.nan)
    np.divide(total, weight, out=result, where=inside & held & (weight > 0))
    return result


def _neighbours(
    positions: NDArray[np.float64], count: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """The two pixels beside each position with their weights, ends repeated."""
    shifted = positions - 0.5
    lower = np.floor(shifted).astype(np.int64)
    part = (shifted - lower).astype(np.float32)
    return [
        (np.clip(lower, 0, count - 1), 1 - part),
        (np.clip(lower + 1, 0, count - 1), part),
    ]
