"""The regular grid behind a plan: where its positions lie, and how much tissue each holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.tiling.tissue import TissueMask

BLOCK_PX = 2048
"""Side of a reading block in level pixels: 64 storage tiles of 256 px, some 12 MB decoded."""
ROUNDING = 1e-9
"""Share of a step that is taken for rounding: 7.0000000001 patches are 7."""
_NO_AREA_PX = 1e-6
"""Area in thumbnail pixels below which tissue under a patch is rounding, not tissue."""


def ceil_but_rounding(value: float) -> int:
    """The next whole number, except that a value above one by rounding only stays there."""
    return math.ceil(value - ROUNDING)


@dataclass(frozen=True)
class GridAxis:
    """The grid along one axis, in level-0 pixels: how many patches, and where they lie."""

    extent: int
    patch: float
    cell: float
    stride_cells: int
    level_scale: float

    @property
    def count(self) -> int:
        return max(1, ceil_but_rounding((self.extent - self.patch) / (self.stride_cells * self.cell)) + 1)

    @property
    def per_block(self) -> int:
        """Patches that fit side by side into a reading block of ``BLOCK_PX`` level pixels, at least one."""
        stride = self.stride_cells * self.cell
        return max(1, math.floor((BLOCK_PX * self.level_scale - self.patch) / stride) + 1)

    def spans(self, first: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Begin and end of the patches ``first`` to ``stop``, clipped to the slide, level-0 pixels."""
        begin = np.arange(first, stop, dtype=np.float64) * self.stride_cells * self.cell
        return begin, np.minimum(begin + self.patch, self.extent)


class TissueFractions:
    """Share of tissue of whole rows of the grid, from an integral image of the mask.

    The integral image, interpolated linearly between its corners, is the exact area of the mask's squares
    up to any float point; the grid being regular, rows and columns are interpolated one after the other.
    """

    def __init__(self, tissue: TissueMask, columns: GridAxis) -> None:
        height, width = tissue.mask.shape
        # int32 holds the count of any mask below 2^31 pixels, in half of the memory of int64.
        self._integral = np.zeros((height + 1, width + 1), np.int32)
        for row in range(height):  # row by row: a cumulative sum of the whole table would copy it
            np.cumsum(tissue.mask[row], out=self._integral[row + 1, 1:])
            self._integral[row + 1] += self._integral[row]
        self._to_level0 = tissue.to_level0
        self._columns = columns

    def of_rows(self, rows: GridAxis, first: int, stop: int) -> NDArray[np.float64]:
        """(stop - first, columns): tissue area over area inside the slide, 0 where there is none."""
        to0 = self._to_level0
        top, bottom = rows.spans(first, stop)
        left, right = self._columns.spans(0, self._columns.count)
        table = self._integral
        strips = _between(table, (bottom - to0.offset_y) / to0.scale_y, 0)
        strips -= _between(table, (top - to0.offset_y) / to0.scale_y, 0)
        area = _between(strips, (right - to0.offset_x) / to0.scale_x, 1)
        area -= _between(strips, (left - to0.offset_x) / to0.scale_x, 1)
        area[area < _NO_AREA_PX] = 0
        inside = np.outer(bottom - top, right - left) / (to0.scale_x * to0.scale_y)
        share: NDArray[np.float64] = np.minimum(area / inside, 1)
        return share


def _between(
    table: NDArray[np.int32] | NDArray[np.float64], position: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    """Rows (axis 0) or columns (axis 1) of ``table`` at float positions, linear between neighbours."""
    last = table.shape[axis] - 1
    position = np.clip(position, 0, last)
    lower = np.minimum(position.astype(np.int64), max(last - 1, 0))
    weight = (position - lower)[:, None] if axis == 0 else position - lower
    low = table.take(lower, axis=axis).astype(np.float64)
    high = table.take(np.minimum(lower + 1, last), axis=axis)
    low += weight * (high - low)
    return low
