"""Foci: connected places of a heatmap where a class is probable enough, with their areas and diameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.cohort.pixel_edges import PixelEdges
from wsi_cam.export.contours import RowRuns
from wsi_cam.export.regions import longest_distance
from wsi_cam.heatmap.store import HeatmapStore

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Focus:
    """Heatmap pixels at or above the threshold that share an edge or a corner."""

    area_mm2: float
    """Of its pixels, as far as they lie on the slide."""
    diameter_mm: float
    """The longest: the greatest distance between two corners of its pixels (Feret)."""
    probability_max: float
    box_mm: tuple[float, float, float, float]
    """Left, top, right, bottom, from the corner of level 0."""


@dataclass(frozen=True)
class Foci:
    """The foci of one class on one slide."""

    count: int
    area_mm2: float
    """Of all of them."""
    largest: tuple[Focus, ...]
    """The first few by area, the largest first."""
    longest_diameter_mm: float
    """Of all of them, not only the largest; 0 where there is none."""


def find_foci(
    store: HeatmapStore, class_name: str, threshold: float, edges: PixelEdges, keep: int = 10
) -> Foci:
    """Foci of ``class_name`` on the heatmap's finest level: pixels of at least ``threshold``, 8-connected.

    ``edges`` are those of the heatmap's pixels; the ``keep`` largest are described one by one. Goes band by
    band: memory goes with the runs of pixels inside, not with the heatmap. Raises OutputError where it
    cannot be read or has no such class.
    """
    runs = RowRuns(store.size.width)
    maxima = [np.empty(0, np.float32)]
    for first_row, values in store.iter_bands(0, [store.channel_index(class_name)]):
        inside = values[0] >= threshold  # never true for NaN
        lengths = runs.add(first_row, inside)
        if len(lengths):
            maxima.append(np.maximum.reduceat(values[0][inside], np.cumsum(lengths) - lengths))
    count, labels = runs.components(corners_connect=True)
    if count == 0:
        return Foci(0, 0.0, (), 0.0)
    boxes = _RunBoxes.of(runs, edges)
    # Runs of one focus behind each other, foci in the order of their first pixels.
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(count))
    focus_boxes = boxes.joined(order, starts)
    areas = np.add.reduceat(boxes.areas_mm2[order], starts)
    highest = np.maximum.reduceat(np.concatenate(maxima)[order], starts)
    groups = np.split(order, starts[1:])
    largest = np.argsort(-areas, kind="stable")[:keep].tolist()
    diameters = {index: boxes.diameter_mm(groups[index]) for index in largest}
    described = tuple(
        Focus(float(areas[i]), diameters[i], float(highest[i]), focus_boxes.box_mm(i)) for i in largest
    )
    longest = _longest_mm(boxes, groups, focus_boxes.diagonals_mm, diameters)
    return Foci(count, float(areas.sum()), described, longest)


def _longest_mm(
    boxes: _RunBoxes, groups: list[Indices], diagonals_mm: Floats, known: dict[int, float]
) -> float:
    """The longest of all foci. No focus is longer than the diagonal of its box, so few need measuring."""
    longest = max(known.values())
    for index in np.argsort(-diagonals_mm, kind="stable").tolist():
        if diagonals_mm[index] <= longest:
            break
        if index not in known:
            longest = max(longest, boxes.diameter_mm(groups[index]))
    return longest


@dataclass(frozen=True, eq=False)
class _RunBoxes:
    """Rectangles in mm, of runs of pixels in a row or of whole foci."""

    left: Floats
    top: Floats
    right: Floats
    bottom: Floats

    @staticmethod
    def of(runs: RowRuns, edges: PixelEdges) -> _RunBoxes:
        row, first, stop = runs.spans()
        return _RunBoxes(edges.x_mm[first], edges.y_mm[row], edges.x_mm[stop], edges.y_mm[row + 1])

    def joined(self, order: Indices, starts: Indices) -> _RunBoxes:
        """The boxes around the runs ``order``, in groups that begin at ``starts``."""
        return _RunBoxes(
            np.minimum.reduceat(self.left[order], starts),
            np.minimum.reduceat(self.top[order], starts),
            np.maximum.reduceat(self.right[order], starts),
            np.maximum.reduceat(self.bottom[order], starts),
        )

    @property
    def areas_mm2(self) -> Floats:
        return (self.right - self.left) * (self.bottom - self.top)

    @property
    def diagonals_mm(self) -> Floats:
        diagonals: Floats = np.hypot(self.right - self.left, self.bottom - self.top)
        return diagonals

    def box_mm(self, index: int) -> tuple[float, float, float, float]:
        sides = (self.left, self.top, self.right, self.bottom)
        left, top, right, bottom = (float(side[index]) for side in sides)
        return left, top, right, bottom

    def diameter_mm(self, chosen: Indices) -> float:
        """The greatest distance between two corners of the rectangles ``chosen``."""
        x = np.stack([self.left[chosen], self.right[chosen]])
        y = np.stack([self.top[chosen], self.bottom[chosen]])
        corners = np.stack([np.concatenate([x, x]), np.concatenate([y, y[::-1]])], axis=-1)
        return longest_distance(corners.reshape(-1, 2))
