"""Another grid for a heatmap: every new pixel is the mean of the old ones under it, weighted by area.

Unlike interpolation this keeps means (and so a constant), neither skips nor invents values at any ratio, and
pixels that are NaN take no part: a new pixel is NaN where no finite old one lies under it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from wsi_cam.errors import SettingsError
from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.stitcher import RowSink

_SLIVER = 1e-6  # of a target pixel: nearer to a lattice line than this is on it, but for rounding
_ROWS_AT_A_TIME = 64  # of a finer target: how many a call opens, but those of one source row in any case


def resampled_grid(
    slide_size: Size, slide_mpp: Mpp, heatmap_mpp: float
) -> tuple[Size, Affine[Heatmap, Level0]]:
    """The grid of square pixels of ``heatmap_mpp`` um that begins at the slide's corner and covers level 0.

    The last row and column may reach past the edge. Raises SettingsError for a spacing that is not a positive
    number or would make pixels finer than those of the slide.
    """
    if not (math.isfinite(heatmap_mpp) and heatmap_mpp >= min(slide_mpp.x, slide_mpp.y) * (1 - 1e-6)):
        raise SettingsError(
            f"a heatmap of {heatmap_mpp} um per pixel cannot be made of a slide of {slide_mpp.x} x "
            f"{slide_mpp.y} um: give a coarser --heatmap-mpp"
        )
    to_level0: Affine[Heatmap, Level0] = Affine(heatmap_mpp / slide_mpp.x, heatmap_mpp / slide_mpp.y)
    size = Size(
        max(1, math.ceil(slide_size.width / to_level0.scale_x - _SLIVER)),
        max(1, math.ceil(slide_size.height / to_level0.scale_y - _SLIVER)),
    )
    return size, to_level0


class BandResampler:
    """Takes the rows of a heatmap from top to bottom and gives away the rows of another grid.

    ``source_to_level0`` and ``target_to_level0`` say where both grids lie. :meth:`put` is a ``RowSink``, so a
    stitcher can feed it; :meth:`close` gives away the last rows and must be called at the end.

    State: sums and areas, ``8 (channels + 1)`` bytes per pixel, of the target rows that the next source row
    may still touch: one where the target is coarser, else as many as a source row is high, and one. While
    rows are put it is no more than twice that, or of 64 target rows.
    """

    def __init__(
        self,
        source_size: Size,
        source_to_level0: Affine[Heatmap, Level0],
        target_size: Size,
        target_to_level0: Affine[Heatmap, Level0],
        channels: int,
        sink: RowSink,
    ) -> None:
        to_target = source_to_level0.then(target_to_level0.inverse())
        # Edges of the source's rows and columns, in pixels of the target.
        self._row_edges = _edges(source_size.height, to_target.scale_y, to_target.offset_y)
        column_edges = _edges(source_size.width, to_target.scale_x, to_target.offset_x)
        self._columns = _overlaps(column_edges, 0, target_size.width)
        self._size = target_size
        self._channels = channels
        self._sink = sink
        self._next_row = 0  # of the source
        self._first = 0  # target row of the first open row
        self._open = np.zeros((channels + 1, 0, target_size.width))

    def put(self, first_row: int, rows: NDArray[np.float32]) -> None:
        """Adds rows (channels, rows, width) that begin at ``first_row``, below those put before.

        Rows left out are NaN. Raises ValueError where rows do not fit or come out of order.
        """
        channels, count, width = rows.shape
        if (channels, width) != (self._channels, self._columns.shape[1]) or count == 0:
            raise ValueError(f"rows of shape {rows.shape} do not fit the source of the resampling")
        if first_row < self._next_row or first_row + count >= len(self._row_edges):
            raise ValueError(f"rows {first_row} to {first_row + count} come out of order or past the end")
        self._next_row = first_row + count
        height = self._row_edges[1] - self._row_edges[0]
        step = count if height < 1 else max(1, int(_ROWS_AT_A_TIME / height))
        for start in range(0, count, step):
            self._put_some(first_row + start, rows[:, start : start + step])

    def close(self) -> None:
        """Gives away the last rows."""
        self._give_away(self._size.height)

    def _put_some(self, first_row: int, rows: NDArray[np.float32]) -> None:
        channels, count, _ = rows.shape
        edges = self._row_edges[first_row : first_row + count + 1]
        top = max(math.floor(edges[0]), 0)
        bottom = min(math.ceil(edges[-1]), self._size.height)
        self._give_away(top)
        if bottom <= top:
            return
        if bottom > self._first + self._open.shape[1]:
            grown = np.zeros((channels + 1, bottom - self._first, self._size.width))
            grown[:, : self._open.shape[1]] = self._open
            self._open = grown
        across = self._across(rows)
        down = _overlaps(edges, self._first, bottom)
        for values, total in zip(across, self._open, strict=True):
            total[: bottom - self._first] += down @ values
        self._give_away(max(math.floor(edges[-1]), 0))

    def _across(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sums over columns, and the finite areas: (channels + 1, rows, target width)."""
        channels, count, width = rows.shape
        finite = np.isfinite(rows[0])
        if any(not np.array_equal(finite, np.isfinite(other)) for other in rows[1:]):
            raise ValueError("the channels are not finite at the same pixels")
        values = np.zeros((channels + 1, count, width))
        np.copyto(values[:-1], rows, where=finite)
        values[-1] = finite
        summed = self._columns @ values.reshape(-1, width).T
        return np.ascontiguousarray(summed.T).reshape(channels + 1, count, -1)

    def _give_away(self, row: int) -> None:
        """Gives away the open rows above target row ``row``, unless nothing lies under them."""
        done = min(row, self._size.height) - self._first
        if done <= 0:
            return
        sums, areas = self._open[:-1, :done], self._open[-1, :done]
        covered = areas > 0
        if covered.any():
            means = np.full(sums.shape, np.nan, dtype=np.float32)
            np.divide(sums, areas, out=means, where=covered, casting="same_kind")
            self._sink(self._first, means)
        self._open = self._open[:, done:].copy()
        self._first += done


def _edges(count: int, scale: float, offset: float) -> NDArray[np.float64]:
    """Where ``count`` source pixels begin and end, (count + 1,), in target pixels; slivers are taken away."""
    edges = scale * np.arange(count + 1) + offset
    nearest = np.round(edges)
    snapped: NDArray[np.float64] = np.where(np.abs(edges - nearest) < _SLIVER, nearest, edges)
    return snapped


def _overlaps(edges: NDArray[np.float64], first: int, stop: int) -> csr_array:
    """Lengths (stop - first, len(edges) - 1) that target pixels ``first`` to ``stop`` share with sources."""
    lower, upper = edges[:-1], edges[1:]
    begin = np.maximum(np.floor(lower), first).astype(np.int64)
    end = np.minimum(np.ceil(upper), stop).astype(np.int64)
    counts = np.maximum(end - begin, 0)
    source = np.repeat(np.arange(len(lower)), counts)
    target = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts) + begin[source]
    lengths = np.minimum(upper[source], target + 1) - np.maximum(lower[source], target)
    return csr_array((lengths, (target - first, source)), shape=(stop - first, len(lower)))
