"""Outlines of the pixels that belong to something, row by row, in memory that goes with the outlines.

Pixels that share an edge belong together; pixels that touch at a corner do not. The outline runs
through the middles of the pixel edges between inside and outside: that cuts each corner by
less than half a pixel, makes staircases straight, and never touches itself, so each polygon is valid.
The polygon of a region of n pixels with h holes has an area of exactly n - 1/2 + h/2 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]

# Sides of a pixel, walked clockwise: top to the right, right down, bottom to the left, left up.
_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)
# Of each side: (row, column) of the neighbour behind it, and of the neighbour that the walk leads to.
_BEHIND = ((-1, 0), (0, 1), (1, 0), (0, -1))
_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))
# The middle of each side (x, y) from the pixel's upper left corner.
_MIDDLES = np.array([[0.5, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]])


@dataclass(frozen=True, eq=False)
class Outline:
    """Rings of one connected set of pixels, (k, 2) arrays of x, y in pixels without the repeated end."""

    shell: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...]


class RowRuns:
    """Runs of inside pixels within rows, collected top to bottom; knows which hang together."""

    def __init__(self, width: int) -> None:
        self._stride = width + 1  # keeps the end of a row apart from the start of the next
        self._starts: list[Indices] = []
        self._ends: list[Indices] = []

    def add(self, first_row: int, inside: Mask) -> Indices:
        """Rows (r, width) from ``first_row``; gives the pixels of each new run, in reading order."""
        beside = np.pad(inside, ((0, 0), (1, 1)))
        row, start = np.nonzero(inside & ~beside[:, :-2])
        _, last = np.nonzero(inside & ~beside[:, 2:])
        key = (row + first_row) * self._stride
        self._starts.append(key + start)
        self._ends.append(key + last + 1)
        return last + 1 - start

    def components(self, corners_connect: bool = False) -> tuple[int, Indices]:
        """How many connected sets there are, and the number (runs,) of each run's set.

        Pixels hang together by their edges, with ``corners_connect`` by their corners too.
        """
        starts, ends = self._joined(self._starts), self._joined(self._ends)
        # Runs of the row above that overlap a run, or touch its ends, are neighbours in reading order.
        first = np.searchsorted(ends, starts - self._stride, side="left" if corners_connect else "right")
        stop = np.searchsorted(starts, ends - self._stride, side="right" if corners_connect else "left")
        stop = np.maximum(stop, first)
        count = stop - first
        below = np.repeat(np.arange(len(starts)), count)
        above = np.arange(len(below)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        links = coo_array((np.ones(len(below), np.bool_), (below, above)), shape=(len(starts), len(starts)))
        total, labels = connected_components(links, directed=False)
        return int(total), labels.astype(np.int64)

    def spans(self) -> tuple[Indices, Indices, Indices]:
        """(runs,) each: the row, the first column and the column behind the last, in reading order."""
        starts, ends = self._joined(self._starts), self._joined(self._ends)
        row, first = np.divmod(starts, self._stride)
        return row, first, ends - row * self._stride

    def run_of(self, row: Indices, column: Indices) -> Indices:
        """The index of the run that holds each inside pixel."""
        starts = self._joined(self._starts)
        return np.searchsorted(starts, row * self._stride + column, side="right") - 1

    @staticmethod
    def _joined(parts: list[Indices]) -> Indices:
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


class Boundary:
    """Sides between inside and outside pixels, collected top to bottom, each with the side that follows."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._sides: list[Indices] = []
        self._following: list[Indices] = []
        self._first_row = -1
        self._rows = np.zeros((1, width + 2), np.bool_)  # those that still wait for the row below

    def add(self, inside: Mask) -> None:
        """The next rows (r, width)."""
        self._take(np.pad(inside, ((0, 0), (1, 1))))

    def close(self) -> None:
        """No more rows: what lies below is outside."""
        self._take(np.zeros((1, self._width + 2), np.bool_))

    def _take(self, rows: Mask) -> None:
        block = np.concatenate([self._rows, rows])
        if len(block) > 2 and block[1:-1].any():
            sides, following = self._sides_of(block)
            order = np.argsort(sides)
            self._sides.append(sides[order])
            self._following.append(following[order])
        self._first_row += len(block) - len(block[-2:])
        self._rows = block[-2:]

    def _sides_of(self, block: Mask) -> tuple[Indices, Indices]:
        """Sides of the pixels of all rows of ``block`` but the first and last, whose margin is outside.

        At the end of a side the walk turns right around its own pixel where the pixel ahead is outside
        (so pixels that touch at a corner stay apart), goes straight on along the pixel ahead, or turns left
        where the pixel beyond the corner is inside, too.
        """
        sides, following = [], []
        for side in range(4):
            (behind_y, behind_x), (ahead_y, ahead_x) = _BEHIND[side], _AHEAD[side]
            behind = _shifted(block, behind_y, behind_x)
            y, x = np.nonzero(block[1:-1, 1:-1] & ~behind)
            ahead = _shifted(block, ahead_y, ahead_x)[y, x]
            beyond = _shifted(block, behind_y + ahead_y, behind_x + ahead_x)[y, x]
            row = y + self._first_row + 1
            turn_right = self._key(row, x, (side + 1) % 4)
            straight = self._key(row + ahead_y, x + ahead_x, side)
            turn_left = self._key(row + behind_y + ahead_y, x + behind_x + ahead_x, (side - 1) % 4)
            sides.append(self._key(row, x, side))
            following.append(np.where(~ahead, turn_right, np.where(~beyond, straight, turn_left)))
        return np.concatenate(sides), np.concatenate(following)

    def _key(self, row: Indices, column: Indices, side: int) -> Indices:
        return (row * self._width + column) * 4 + side

    def rings(self) -> list[tuple[int, int, NDArray[np.float64]]]:
        """Row and column of an inside pixel at the ring, and the ring, x and y (k, 2); in reading order.

        The first ring of a connected set of pixels is its outer one. Points on a straight line are left out.
        """
        if not self._sides:
            return []
        sides, following = np.concatenate(self._sides), np.concatenate(self._following)
        order, ends = _walk(np.searchsorted(sides, following).tolist())
        pixel, side = np.divmod(sides[order], 4)
        row, column = np.divmod(pixel, self._width)
        points = np.stack([column, row], axis=1) + _MIDDLES[side]
        starts = np.concatenate([[0], ends[:-1]])
        corner = _is_corner(points, starts, ends)
        return [
            (int(row[start]), int(column[start]), points[start:end][corner[start:end]])
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]


def outlines(boundary: Boundary, runs: RowRuns, labels: Indices, count: int) -> list[Outline]:
    """The outline of each of ``count`` connected sets, in the order of their numbers in ``labels``."""
    rings = boundary.rings()
    row = np.array([ring[0] for ring in rings], np.int64)
    column = np.array([ring[1] for ring in rings], np.int64)
    found: list[list[NDArray[np.float64]]] = [[] for _ in range(count)]
    for label, ring in zip(labels[runs.run_of(row, column)].tolist(), rings, strict=True):
        found[label].append(ring[2])
    return [Outline(shell, tuple(holes)) for shell, *holes in found]


def _shifted(block: Mask, down: int, right: int) -> Mask:
    """The neighbours of the inner pixels of ``block``, which has a margin of one."""
    height, width = block.shape
    return block[1 + down : height - 1 + down, 1 + right : width - 1 + right]


def _walk(following: list[int]) -> tuple[Indices, Indices]:
    """Indices of a permutation cycle by cycle, and where each cycle ends; smallest first indices first."""
    order: list[int] = []
    ends: list[int] = []
    visited = bytearray(len(following))
    for first in range(len(following)):
        if visited[first]:
            continue
        here = first
        while not visited[here]:
            visited[here] = 1
            order.append(here)
            here = following[here]
        ends.append(len(order))
    return np.array(order, np.int64), np.array(ends, np.int64)


def _is_corner(points: NDArray[np.float64], starts: Indices, ends: Indices) -> Mask:
    """(n,): points of rings, laid end to end, at which the ring changes its direction."""
    before, after = np.arange(len(points)) - 1, np.arange(len(points)) + 1
    before[starts], after[ends - 1] = ends - 1, starts
    arriving, leaving = points - points[before], points[after] - points
    turning: Mask = arriving[:, 0] * leaving[:, 1] != arriving[:, 1] * leaving[:, 0]
    return turning
