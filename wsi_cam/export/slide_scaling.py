"""Windows of a slide at any spacing, each pixel the mean of the area that it covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_cam.geometry import Affine, Box, Frame, Level0, Mpp, Size
from wsi_cam.slides.slide import Slide

#: A read covers about this many pixels of a level; what needs more is averaged in parts.
_LARGEST_READ = 2**22


class Scaled(Frame):
    """Pixels of the slide at a chosen spacing."""


@dataclass(frozen=True)
class ScaledGrid:
    """Pixels of one spacing over a part of level 0; the last row and column may reach past it."""

    size: Size
    to_level0: Affine[Scaled, Level0]

    @classmethod
    def over(cls, shown: Box[Level0], mpp: Mpp, um_per_px: float) -> ScaledGrid:
        """Square pixels of ``um_per_px`` that begin at the corner of ``shown``; ``mpp`` is level 0's."""
        step_x, step_y = um_per_px / mpp.x, um_per_px / mpp.y
        size = Size(
            max(1, math.ceil(shown.width / step_x - 1e-6)), max(1, math.ceil(shown.height / step_y - 1e-6))
        )
        return cls(size, Affine(step_x, step_y, shown.x, shown.y))

    def centres(
        self, x: int, width: int, y: int, height: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Level-0 x of columns (width,) and y of rows (height,) of a window, at pixel centres."""
        affine = self.to_level0
        columns = (np.arange(x, x + width, dtype=np.float64) + 0.5) * affine.scale_x + affine.offset_x
        rows = (np.arange(y, y + height, dtype=np.float64) + 0.5) * affine.scale_y + affine.offset_y
        return columns, rows


def read_scaled(slide: Slide, grid: ScaledGrid, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    """RGB (height, width, 3) of a window of ``grid``; white outside the slide.

    Read from the coarsest level that is at least as fine. Raises SlideError where it cannot be read.
    """
    level = slide.info.level_for(grid.to_level0)
    to_level = grid.to_level0.then(slide.info.levels[level].to_level0.inverse())
    rows = max(1, min(height, int(_LARGEST_READ / (width * to_level.scale_x * to_level.scale_y))))
    parts = []
    for top in range(y, y + height, rows):
        count = min(rows, y + height - top)
        edges_x = np.arange(x, x + width + 1) * to_level.scale_x + to_level.offset_x
        edges_y = np.arange(top, top + count + 1) * to_level.scale_y + to_level.offset_y
        left, upper = math.floor(edges_x[0] + 1e-6), math.floor(edges_y[0] + 1e-6)
        # One more than the area covers: the means look at the pixel behind their last edge.
        right, lower = math.floor(edges_x[-1] + 1e-6) + 1, math.floor(edges_y[-1] + 1e-6) + 1
        if all(value.is_integer() for value in (edges_x[0], edges_y[0], to_level.scale_x, to_level.scale_y)):
            pixels = slide.read_region(level, (left, upper, right - left - 1, lower - upper - 1))
            parts.append(_block_means(pixels, width, count))
            continue
        values = slide.read_region(level, (left, upper, right - left, lower - upper)).astype(np.float32)
        means = _interval_means(values, edges_y - upper)
        means = _interval_means(means.swapaxes(0, 1), edges_x - left).swapaxes(0, 1)
        parts.append(np.rint(np.ascontiguousarray(means)).clip(0, 255).astype(np.uint8))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _block_means(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Means (height, width, 3) of the equal blocks into which ``pixels`` divide; much faster than parts."""
    down, across = pixels.shape[0] // height, pixels.shape[1] // width
    if down == across == 1:
        return pixels
    # Added slice by slice: numpy's own sums along short inner axes take several times as long.
    rows: NDArray[Any] = pixels[::down].astype(np.uint16 if down <= 256 else np.uint32)
    for offset in range(1, down):
        rows += pixels[offset::down]
    in_blocks = rows.reshape(height, width, across * 3)
    sums = in_blocks[..., :3].astype(np.uint32)
    for offset in range(1, across):
        sums += in_blocks[..., 3 * offset : 3 * offset + 3]
    means: NDArray[np.uint8] = np.rint(sums.astype(np.float32) / np.float32(down * across)).astype(np.uint8)
    return means


def _interval_means(values: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Means (n, ...) of ``values`` (m, ...) between ``edges`` (n + 1,); parts of a pixel count."""
    whole = np.clip(np.floor(edges + 1e-6).astype(np.int64), 0, len(values) - 1)
    part = np.clip(edges - whole, 0, 1).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    sums = np.add.reduceat(values, whole, axis=0)[:-1]
    # Between edges in one pixel there is no whole one; reduceat gives that pixel.
    sums[whole[1:] == whole[:-1]] = 0
    at_edges = values[whole] * part
    lengths = np.diff(edges).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    means: NDArray[np.float32] = (sums - at_edges[:-1] + at_edges[1:]) / lengths
    return means
