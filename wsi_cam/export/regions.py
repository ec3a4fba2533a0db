"""Regions of a class: what is connected and probable enough on the heatmap, with its outline and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from wsi_cam.export.contours import Boundary, Outline, RowRuns, outlines
from wsi_cam.geometry import Affine, Heatmap, Level0
from wsi_cam.heatmap.store import HeatmapStore


@dataclass(frozen=True, eq=False)
class Region:
    """A connected part of a slide in which a class is probable; numbers are over its heatmap pixels."""

    class_name: str
    polygon: Polygon
    """With holes, in level-0 pixels; at most half a heatmap pixel away from the pixels' own edges."""
    area_mm2: float
    """Of the polygon."""
    longest_diameter_mm: float
    """The greatest distance between two of its points."""
    probability_mean: float
    probability_max: float
    evidence_mean: float
    """In logits, signed."""
    evidence_max: float

    def measurements(self) -> dict[str, float]:
        """The numbers by the names that exports give them."""
        return {
            "area_mm2": self.area_mm2,
            "longest_diameter_mm": self.longest_diameter_mm,
            f"prob_mean_{self.class_name}": self.probability_mean,
            f"prob_max_{self.class_name}": self.probability_max,
            f"evidence_mean_{self.class_name}": self.evidence_mean,
            f"evidence_max_{self.class_name}": self.evidence_max,
        }


def find_regions(
    probability: HeatmapStore,
    evidence: HeatmapStore,
    class_name: str,
    threshold: float = 0.5,
    min_area_mm2: float = 0.0,
) -> list[Region]:
    """Regions where the probability of ``class_name`` is at least ``threshold``, the largest first.

    Heatmap pixels that share an edge belong together; uncovered pixels are outside. Regions smaller than
    ``min_area_mm2`` are left out. Taken from the heatmaps' finest level, band by band: memory goes with the
    length of the outlines. At the slide's far edges a region may reach past it by less than a heatmap pixel.
    Raises ValueError where the heatmaps do not lie on one lattice, OutputError where one cannot be read or
    has no such class.
    """
    if (probability.size, probability.to_level0) != (evidence.size, evidence.to_level0):
        raise ValueError(f"{probability.folder} and {evidence.folder} do not lie on one lattice")
    runs, boundary = RowRuns(probability.size.width), Boundary(probability.size.width)
    numbers = _RunNumbers()
    for first_row, p, e in _bands(probability, evidence, class_name):
        inside = p >= threshold  # never true for NaN
        boundary.add(inside)
        numbers.add(runs.add(first_row, inside), p[inside], e[inside])
    boundary.close()
    count, labels = runs.components()
    pixels, means, highest = numbers.of_components(count, labels)
    to_level0, mpp = probability.to_level0, probability.mpp
    pixel_mm2 = to_level0.scale_x * mpp.x * to_level0.scale_y * mpp.y * 1e-6
    regions = []
    for index, outline in enumerate(outlines(boundary, runs, labels, count)):
        area_mm2 = float(pixels[index] - 0.5 + 0.5 * len(outline.holes)) * pixel_mm2
        if area_mm2 < min_area_mm2:
            continue
        regions.append(
            Region(
                class_name,
                _polygon(outline, to_level0),
                area_mm2,
                longest_distance(to_level0.points(outline.shell) * [mpp.x, mpp.y] / 1000),
                probability_mean=float(means[0, index]),
                probability_max=float(highest[0, index]),
                evidence_mean=float(means[1, index]),
                evidence_max=float(highest[1, index]),
            )
        )
    return sorted(regions, key=lambda region: -region.area_mm2)


def _bands(
    probability: HeatmapStore, evidence: HeatmapStore, class_name: str
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """First row, probabilities and evidence (rows, width) of a class, top to bottom."""
    width = probability.size.width
    of_evidence = [evidence.channel_index(class_name)]
    for first_row, p in probability.iter_bands(0, [probability.channel_index(class_name)]):
        e = evidence.read(0, (0, first_row, width, p.shape[1]), of_evidence)
        yield first_row, p[0], e[0]


class _RunNumbers:
    """Pixels, sums and maxima of each run of pixels, to be added up to those of regions."""

    def __init__(self) -> None:
        self._pixels: list[NDArray[np.int64]] = []
        self._sums: list[NDArray[np.float64]] = []
        self._maxima: list[NDArray[np.float32]] = []

    def add(self, lengths: NDArray[np.int64], p: NDArray[np.float32], e: NDArray[np.float32]) -> None:
        """Values (n,) of the pixels of runs of the given lengths, one run after the other."""
        if len(lengths) == 0:
            return
        starts = np.cumsum(lengths) - lengths
        values = np.stack([p, e])
        self._pixels.append(lengths)
        self._sums.append(np.add.reduceat(values, starts, axis=1, dtype=np.float64))
        self._maxima.append(np.maximum.reduceat(values, starts, axis=1))

    def of_components(
        self, count: int, labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """Pixels (count,), means (2, count) and maxima (2, count) of probability and evidence."""
        maxima = np.full((2, count), -np.inf, np.float32)
        if count == 0:
            return np.empty(0), np.empty((2, 0)), maxima
        sums = np.concatenate(self._sums, axis=1)
        pixels = np.bincount(labels, np.concatenate(self._pixels), count).astype(np.float64)
        means = np.stack([np.bincount(labels, layer, count) / pixels for layer in sums])
        for layer, of_runs in zip(maxima, np.concatenate(self._maxima, axis=1), strict=True):
            np.maximum.at(layer, labels, of_runs)
        return pixels, means, maxima


def _polygon(outline: Outline, to_level0: Affine[Heatmap, Level0]) -> Polygon:
    return Polygon(to_level0.points(outline.shell), [to_level0.points(hole) for hole in outline.holes])


def longest_distance(points: NDArray[np.float64]) -> float:
    """The greatest distance between two of the points (n, 2); both lie on the convex hull."""
    corners = shapely.get_coordinates(shapely.convex_hull(shapely.multipoints(points)))
    return max(float(np.hypot(*(corners - corner).T).max()) for corner in corners)
