"""Rows in, chunks out: every level of the pyramid filled in one pass, each chunk given away once.

Level k holds the mean of the finite level-0 pixels of each 2^k block. It is carried as sums and counts,
because a mean of means weighs pixels differently wherever some are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_cam.geometry import Size

ChunkSink = Callable[[int, int, Mapping[int, NDArray[np.float32]]], None]
"""Called with a level, a chunk row and the chunks of it that hold a finite value: chunk column to values
(channels, chunk rows, chunk columns), NaN where nothing is known and past the level's edges."""

_STRIP_ROWS = 16  # rows reduced at a time: bounds the float64 temporaries


class PyramidRows:
    """Takes a heatmap row by row, top to bottom, and gives away the chunks of all its levels.

    A chunk is given away once, as soon as no later row can touch it, and only if it holds a finite value.
    Rows that are never put are NaN and cost nothing. All channels must be finite at the same pixels.

    State: the chunks in the making of one row of chunks per level, where something was seen in them, and
    one row of sums per level. In bytes, for C channels, chunks of R rows and W covered columns, at most
    ``8 C R W`` (levels 0, 1, 2 ... hold 4 C R (W + W/2 + W/4 ...)) and, of the heatmap's whole width,
    ``8 (C + 1)`` a column for the sums and ``250 (C + 1)`` a column while a strip is reduced. At C = 3 and
    R = 256 that is 71 MB for a heatmap 10 000 pixels wide and covered from side to side, whatever its height.
    """

    def __init__(self, sizes: Sequence[Size], channels: int, chunk: tuple[int, int], sink: ChunkSink) -> None:
        self._height = sizes[0].height
        self._width = sizes[0].width
        self._channels = channels
        self._levels = [_ChunkRow(level, size, channels, chunk, sink) for level, size in enumerate(sizes)]
        self._pending: list[_RowSum | None] = [None] * len(sizes)  # at k: the unfinished row of level k
        self._next_row = 0

    def put(self, first_row: int, rows: NDArray[np.float32]) -> None:
        """Adds rows (channels, rows, width) that begin at ``first_row`` and follow those put before.

        Raises ValueError where the shape does not fit, rows come twice or out of order, or the channels
        are not finite at the same pixels.
        """
        channels, count, width = rows.shape
        if channels != self._channels or width != self._width or first_row + count > self._height:
            raise ValueError(
                f"rows {first_row} to {first_row + count} of shape {rows.shape} do not fit a heatmap of "
                f"{self._channels} channels, {self._height} rows, {self._width} columns"
            )
        if first_row < self._next_row:
            raise ValueError(f"row {first_row} was put already: the next one is {self._next_row}")
        self._next_row = first_row + count
        for start in range(0, count, _STRIP_ROWS):
            self._put_strip(first_row + start, rows[:, start : start + _STRIP_ROWS])

    def close(self) -> None:
        """Gives away what is still held: the last row of chunks of each level."""
        for level in range(1, len(self._levels)):
            self._release(level)
        for chunk_row in self._levels:
            chunk_row.flush()

    def _put_strip(self, first_row: int, rows: NDArray[np.float32]) -> None:
        finite = np.isfinite(rows)
        covered = finite[0]
        if any(not np.array_equal(covered, other) for other in finite[1:]):
            raise ValueError(f"at row {first_row} or below, the channels are not finite at the same pixels")
        if not covered.any():
            return
        self._levels[0].put(first_row, rows, covered)
        if len(self._levels) > 1:
            sums_and_counts = np.zeros((self._channels + 1, *covered.shape))
            np.copyto(sums_and_counts[:-1], rows, where=covered)
            sums_and_counts[-1] = covered
            self._reduce(1, first_row, sums_and_counts)

    def _reduce(self, level: int, fine_row: int, sums_and_counts: NDArray[np.float64]) -> None:
        """Halves sums and counts (c + 1, r, w) that begin at ``fine_row`` of level - 1 and passes them on."""
        first_row = fine_row // 2
        coarse = _halved(sums_and_counts, fine_row % 2)
        pending = self._pending[level]
        if pending is not None and pending.row == first_row:
            coarse[:, 0] += pending.values
            self._pending[level] = None
        else:
            self._release(level)
        last_fine_row = fine_row + sums_and_counts.shape[1] - 1
        if last_fine_row % 2 == 0:  # its partner has yet to come
            self._pending[level] = _RowSum(first_row + coarse.shape[1] - 1, coarse[:, -1].copy())
            coarse = coarse[:, :-1]
        if coarse.shape[1]:
            self._pass_on(level, first_row, coarse)

    def _release(self, level: int) -> None:
        """The pending row of a level gets no partner any more: it is what it is."""
        pending = self._pending[level]
        if pending is not None:
            self._pending[level] = None
            self._pass_on(level, pending.row, pending.values[:, None])

    def _pass_on(self, level: int, first_row: int, sums_and_counts: NDArray[np.float64]) -> None:
        """Writes complete rows of a level, (c + 1, r, w), as means and goes on to the next coarser one."""
        sums, counts = sums_and_counts[:-1], sums_and_counts[-1]
        covered = counts > 0
        means = np.full(sums.shape, np.nan, np.float32)
        np.divide(sums, counts, out=means, where=covered, casting="same_kind")
        self._levels[level].put(first_row, means, covered)
        if level + 1 < len(self._levels):
            self._reduce(level + 1, first_row, sums_and_counts)


class _RowSum:
    """Sums and counts (c + 1, w) of one row of a level to which one more finer row may still add."""

    def __init__(self, row: int, values: NDArray[np.float64]) -> None:
        self.row = row
        self.values = values


def _halved(values: NDArray[np.float64], top: int) -> NDArray[np.float64]:
    """Adds (n, r, w) up over 2 x 2 blocks, to ceil of half the rows and columns.

    With ``top`` = 1 the first row is the lower one of its block. Columns are added first: then a row whose
    partner comes in a later call gives the same bits as one whose partner came along.
    """
    n, rows, width = values.shape
    paired = np.zeros((n, -(-(rows + top) // 2) * 2, -(-width // 2)))
    target = paired[:, top : top + rows]
    target[:] = values[:, :, 0::2]
    target[:, :, : width // 2] += values[:, :, 1::2]
    halved: NDArray[np.float64] = paired[:, 0::2] + paired[:, 1::2]
    return halved


class _ChunkRow:
    """One level's row of chunks in the making; a chunk takes memory once it holds something."""

    def __init__(
        self, level: int, size: Size, channels: int, chunk: tuple[int, int], sink: ChunkSink
    ) -> None:
        self._level = level
        self._rows, self._columns = chunk
        self._starts = np.arange(0, size.width, self._columns)
        self._shape = (channels, *chunk)
        self._blocks: dict[int, NDArray[np.float32]] = {}
        self._chunk_row = 0
        self._sink = sink

    def put(self, first_row: int, rows: NDArray[np.float32], covered: NDArray[np.bool_]) -> None:
        done = 0
        while done < len(covered):
            chunk_row, row = divmod(first_row + done, self._rows)
            if chunk_row != self._chunk_row:
                self.flush()
                self._chunk_row = chunk_row
            take = min(len(covered) - done, self._rows - row)
            part = rows[:, done : done + take]
            columns = covered[done : done + take].any(axis=0)
            for column in np.flatnonzero(np.logical_or.reduceat(columns, self._starts)):
                block = self._blocks.get(int(column))
                if block is None:
                    block = self._blocks[int(column)] = np.full(self._shape, np.nan, dtype=np.float32)
                start = int(self._starts[column])
                values = part[:, :, start : start + self._columns]
                block[:, row : row + take, : values.shape[2]] = values
            done += take

    def flush(self) -> None:
        if self._blocks:
            self._sink(self._level, self._chunk_row, dict(sorted(self._blocks.items())))
            self._blocks.clear()
