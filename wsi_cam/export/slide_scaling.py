"""Windows of a slide at any spacing, each pixel the mean of the area that it covers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.geometry import Affine, Box, Frame, Level0, Mpp, Size
from wsi_cam.slides.slide import LevelInfo, Slide

#: A read covers at most this many pixels of a level; what needs more is averaged in parts.
_LARGEST_READ = 2**24


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
    level, info = _level_for(slide.info.levels, grid.to_level0)
    step_x = grid.to_level0.scale_x / info.to_level0.scale_x
    step_y = grid.to_level0.scale_y / info.to_level0.scale_y
    rows = max(1, min(height, int(_LARGEST_READ / (width * step_x * step_y))))
    parts = []
    for top in range(y, y + height, rows):
        count = min(rows, y + height - top)
        window = grid.to_level0.box(Box(x, top, width, count))
        wanted = info.to_level0.inverse().box(window)
        left, upper = math.floor(wanted.x + 1e-6), math.floor(wanted.y + 1e-6)
        right, lower = math.ceil(wanted.right - 1e-6), math.ceil(wanted.bottom - 1e-6)
        right, lower = max(right, left + 1), max(lower, upper + 1)
        pixels = slide.read_region(level, (left, upper, right - left, lower - upper))
        inside = (
            max(wanted.x - left, 0.0),
            max(wanted.y - upper, 0.0),
            min(wanted.right - left, right - left),
            min(wanted.bottom - upper, lower - upper),
        )
        method = Image.Resampling.BOX if min(step_x, step_y) >= 1 else Image.Resampling.BILINEAR
        parts.append(np.asarray(Image.fromarray(pixels).resize((width, count), method, box=inside)))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _level_for(levels: tuple[LevelInfo, ...], to_level0: Affine[Scaled, Level0]) -> tuple[int, LevelInfo]:
    fine = [
        number
        for number, level in enumerate(levels)
        if level.to_level0.scale_x <= to_level0.scale_x * 1.001
        and level.to_level0.scale_y <= to_level0.scale_y * 1.001
    ]
    number = max(fine, key=lambda number: levels[number].to_level0.scale_x, default=0)
    return number, levels[number]
