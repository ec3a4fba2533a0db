"""The numbers of one slide, from what its run stored: no model, no slide, no pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.cohort.foci import Foci, find_foci
from wsi_cam.cohort.patch_areas import answered_areas_mm2, patch_lattice
from wsi_cam.cohort.pixel_edges import pixel_edges
from wsi_cam.export.source import ExportSource
from wsi_cam.geometry import Box, Level0


@dataclass(frozen=True)
class ClassNumbers:
    """One class on one slide. Probabilities are the calibrated ones of readable patches."""

    score: float
    """The slide score for this class, as the run wrote it: mean of the ten highest probabilities."""
    probability_max: float
    probability_p99: float
    """99th percentile over the patches, linear between neighbours."""
    patches_above: int
    """Patches with at least the threshold."""
    area_mm2: float
    """What these patches answer for (:mod:`wsi_cam.cohort.patch_areas`)."""
    foci: Foci
    """Connected pixels of the heatmap with at least the threshold."""


@dataclass(frozen=True)
class SlideNumbers:
    """What a cohort is made of: one slide, all its classes."""

    target_class: str
    """The class that the run looked for."""
    tissue_mm2: float
    patches: int
    unread: int
    resolution_mm: float
    """The longest diameter that may be the mark of one patch alone."""
    classes: Mapping[str, ClassNumbers]

    @property
    def unread_share(self) -> float:
        return self.unread / self.patches

    def share_of_tissue(self, class_name: str) -> float:
        """Area of a class over that of the tissue; at most 1, as patches on the outline reach past it."""
        return min(1.0, self.classes[class_name].area_mm2 / self.tissue_mm2)


def slide_numbers(source: ExportSource, threshold: float) -> SlideNumbers:
    """Measure one slide at a threshold of the probability.

    Raises OutputError where a stored file cannot be read; KeyError, TypeError, ValueError or
    ZeroDivisionError where the record does not say what it should.
    """
    record, table, store = source.record, source.table, source.probability
    lattice, shown = patch_lattice(record), _shown_part(source)
    edges = pixel_edges(store.size, store.to_level0, store.mpp, shown)
    areas = answered_areas_mm2(table, lattice, threshold, shown)
    probabilities: NDArray[np.float32] = table.probabilities[table.readable]
    classes = {
        name: ClassNumbers(
            score=float(record["score"]["of_each_class"][name]),
            probability_max=float(column.max()),
            probability_p99=float(np.percentile(column.astype(np.float64), 99)),
            patches_above=int((column >= threshold).sum()),
            area_mm2=float(area),
            foci=find_foci(store, name, threshold, edges),
        )
        for name, column, area in zip(table.class_names, probabilities.T, areas, strict=True)
    }
    numbers = SlideNumbers(
        target_class=str(record["score"]["class"]),
        tissue_mm2=float(record["tissue_mm2"]),
        patches=len(table),
        unread=int((~table.readable).sum()),
        resolution_mm=lattice.resolution_mm,
        classes=classes,
    )
    if not (numbers.target_class in classes and numbers.tissue_mm2 > 0):
        raise ValueError(
            f"class {numbers.target_class!r} or tissue of {numbers.tissue_mm2} mm2 makes no sense"
        )
    return numbers


def _shown_part(source: ExportSource) -> Box[Level0]:
    """The part of level 0 that was scanned: the slide's bounds where it states some, else all of it."""
    size = source.record["slide"]["size"]
    whole = Box[Level0](0, 0, size["width"], size["height"])
    return whole if source.bounds is None else whole.intersection(source.bounds)
