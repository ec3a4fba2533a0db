"""Laying patches' maps back onto the slide, band by band: an exact weighted mean, NaN where nothing was seen.

A heatmap pixel is ``sum_p w_p m_p / sum_p w_p`` over the patches p that cover it, both sums in float64.

Patches begin at multiples of the stride, so a map falls apart into blocks of stride x stride cells, each of
which lies on exactly one block of the lattice. The accumulator is kept as (lattice rows, lattice columns,
channels + 1, stride, stride), the last channel holding the weights: adding a batch of maps is then one
indexed addition per block, of whole contiguous blocks, and no patch of a call meets another one in it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import ModelError
from wsi_cam.geometry import Size
from wsi_cam.heatmap.blending import window

RowSink = Callable[[int, NDArray[np.float32]], None]
"""Called with a first row and rows (channels, rows, width). Calls come from top to bottom; rows that are in
no call are NaN. The array is the receiver's to keep."""

_ROWS_AT_A_TIME = 64  # rows divided and given away together: bounds the float32 copy


class BandStitcher:
    """Stitches the maps of patches into a heatmap that is given away from top to bottom.

    ``map_cells`` is the side of a patch's map, ``stride_cells`` the distance between patches; weights are
    those of :func:`wsi_cam.heatmap.blending.window`.

    The order of additions at a pixel is that of the calls and, within a call, of the position of the patch
    relative to the pixel: the same calls give the same bits.

    State: the band between the last ``finish_above`` and the lowest patch seen, ``8 (channels + 1)`` bytes
    per pixel (23 MB for 71 rows of 10 000 pixels and 3 channels). It does not depend on the heatmap's height.
    """

    def __init__(
        self, heatmap_size: Size, channels: int, map_cells: int, stride_cells: int, sink: RowSink
    ) -> None:
        self._size = heatmap_size
        self._channels = channels
        self._map_cells = map_cells
        self._stride = stride_cells
        self._sink = sink
        self._reach = -(-map_cells // stride_cells)  # blocks that a map spans along an axis
        side = self._reach * stride_cells
        self._weights = np.zeros((side, side))
        self._weights[:map_cells, :map_cells] = window(map_cells, stride_cells)
        # Lattice columns and rows hang over by reach - 1 blocks, so that patches at the rim need no clipping.
        self._overhang = self._reach - 1
        self._lattice_columns = -(-heatmap_size.width // stride_cells)
        self._lattice_rows = -(-heatmap_size.height // stride_cells)
        self._first = -self._overhang  # lattice row of the accumulator's first row
        self._band = self._empty_band(0)
        self._touched = 0  # rows of the band that hold something,
        self._left, self._right = self._band.shape[1], 0  # and the columns between which they do

    def add(self, cell_xy: NDArray[np.int64], maps: NDArray[np.floating]) -> None:
        """Adds patches whose first cells lie at (column, row) ``cell_xy`` (n, 2) of the heatmap.

        ``maps`` are (n, channels, map_cells, map_cells), or (n, channels) for one value per patch. Patches
        whose map is NaN throughout (they could not be read) count as not seen; cells outside the heatmap are
        dropped.

        Raises ModelError where a map holds some values that are not finite; ValueError where shapes do not
        fit, a patch lies off the lattice of strides or twice in one call, or rows already given away are hit.
        """
        maps = self._as_maps(cell_xy, maps)
        seen = _seen(maps, cell_xy)
        lattice_xy, off = np.divmod(cell_xy, self._stride)
        if off.any():
            raise ValueError(f"patches must begin at multiples of the stride of {self._stride} cells")
        last = [self._lattice_columns, self._lattice_rows]
        chosen = seen & (lattice_xy > -self._reach).all(axis=1) & (lattice_xy < last).all(axis=1)
        if not chosen.all():
            lattice_xy, maps = lattice_xy[chosen], maps[chosen]
        if not len(maps):
            return
        rows, columns = lattice_xy[:, 1] - self._first, lattice_xy[:, 0] + self._overhang
        if rows.min() < 0:
            raise ValueError(f"a patch begins above row {self.finished_rows}, which was given away already")
        self._grow(int(rows.max()) + self._reach)
        width = self._band.shape[1]
        origins = rows * width + columns
        if (np.diff(origins) <= 0).any() and len(np.unique(origins)) != len(origins):
            raise ValueError("a patch is twice in one call")
        self._left = min(self._left, int(columns.min()))
        self._right = max(self._right, int(columns.max()) + self._reach)
        flat = self._band.reshape(-1, *self._band.shape[2:])
        blocks = self._weighted_blocks(maps)
        for block_row in range(self._reach):
            for block_column in range(self._reach):
                flat[origins + (block_row * width + block_column)] += blocks[block_row, block_column]

    @property
    def finished_rows(self) -> int:
        """Rows given away (or left out as NaN) so far."""
        return min(max(self._first, 0) * self._stride, self._size.height)

    def finish_above(self, row: int) -> None:
        """Gives away the rows above ``row`` that are complete; no later patch may begin above it.

        A patch that begins at or below ``row`` may come later, so rows are given away in whole strides.
        """
        self._give_away(min(row, self._size.height) // self._stride)

    def close(self) -> None:
        """Gives away all the rest."""
        self._give_away(self._lattice_rows)

    def _as_maps(self, cell_xy: NDArray[np.int64], maps: NDArray[np.floating]) -> NDArray[np.floating]:
        if maps.ndim == 2:
            maps = maps[:, :, None, None]
        n, side = len(cell_xy), maps.shape[2]
        if maps.shape != (n, self._channels, side, side) or side not in (1, self._map_cells):
            raise ValueError(
                f"maps of shape {maps.shape} are not those of {n} patches with {self._channels} channels "
                f"and {self._map_cells} cells a side"
            )
        return maps

    def _weighted_blocks(self, maps: NDArray[np.floating]) -> NDArray[np.float64]:
        """Maps times weights, and the weights, as (reach, reach, n, channels + 1, stride, stride)."""
        n, reach, stride, cells = len(maps), self._reach, self._stride, self._map_cells
        side = reach * stride
        whole = np.zeros((n, self._channels + 1, side, side))
        np.multiply(maps, self._weights[:cells, :cells], out=whole[:, :-1, :cells, :cells])
        whole[:, -1] = self._weights
        if reach == 1:
            return whole[None, None]
        split = whole.reshape(n, self._channels + 1, reach, stride, reach, stride)
        return np.ascontiguousarray(split.transpose(2, 4, 0, 1, 3, 5))

    def _empty_band(self, rows: int) -> NDArray[np.float64]:
        columns = self._lattice_columns + 2 * self._overhang
        return np.zeros((rows, columns, self._channels + 1, self._stride, self._stride))

    def _grow(self, rows: int) -> None:
        if rows > len(self._band):
            band = self._empty_band(rows)
            band[: self._touched, self._left : self._right] = self._band[
                : self._touched, self._left : self._right
            ]
            self._band = band
        self._touched = max(self._touched, rows)

    def _give_away(self, lattice_row: int) -> None:
        """Gives away the lattice rows above ``lattice_row`` and moves the band down to it."""
        done = lattice_row - self._first
        if done <= 0:
            return
        step = max(1, _ROWS_AT_A_TIME // self._stride)
        for start in range(max(0, -self._first), min(done, self._touched), step):
            self._give_away_rows(start, min(start + step, done, self._touched))
        # Only what was written to is moved and cleared: the rest of the band has never taken memory.
        written = self._band[: self._touched, self._left : self._right]
        kept = max(0, self._touched - done)
        written[:kept] = written[done : done + kept].copy()
        written[kept:] = 0
        self._touched = kept
        if not kept:
            self._left, self._right = self._band.shape[1], 0
        self._first = lattice_row

    def _give_away_rows(self, start: int, stop: int) -> None:
        """Divides rows start to stop of the band and passes them on, unless nothing was seen in them."""
        left = max(self._left, self._overhang)
        right = min(self._right, self._overhang + self._lattice_columns)
        blocks = self._band[start:stop, left:right]
        sums, weights = blocks[:, :, :-1], blocks[:, :, -1:]
        if not weights.any():
            return
        stride, count = self._stride, stop - start
        rows = np.full((self._channels, count, stride, self._lattice_columns, stride), np.nan, np.float32)
        means = rows.transpose(1, 3, 0, 2, 4)[:, left - self._overhang : right - self._overhang]
        np.divide(sums, weights, out=means, where=weights > 0, casting="same_kind")
        first_row = (self._first + start) * stride
        rows = rows.reshape(self._channels, count * stride, self._lattice_columns * stride)
        self._sink(first_row, rows[:, : self._size.height - first_row, : self._size.width])


def _seen(maps: NDArray[np.floating], cell_xy: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which patches hold numbers (n,); raises ModelError where one holds numbers and others mixed."""
    # A sum is finite only if all its terms are: one pass over the values, and the rest only where needed.
    seen: NDArray[np.bool_] = np.isfinite(maps.sum(axis=(1, 2, 3), dtype=np.float64))
    for patch in np.flatnonzero(~seen):
        finite = np.isfinite(maps[patch])
        if finite.all():
            seen[patch] = True
        elif not np.isnan(maps[patch]).all():
            x, y = cell_xy[patch]
            raise ModelError(
                f"the map of the patch at cell {x}, {y} holds {int((~finite).sum())} values that are not "
                "finite: the model overflows on it; run it in float32 or check its weights"
            )
    return seen
