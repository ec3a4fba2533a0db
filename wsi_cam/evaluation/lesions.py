"""Lesions as CAMELYON16's evaluation code counts them.

From its ``Evaluation_FROC.py`` (B. Ehteshami Bejnordi, 2016; the challenge: JAMA 2017;318:2199): the truth is
taken at 7.776 um/px (level 5 of 0.243 um/px); every pixel less than 37.5 um from the target belongs to a
lesion, so that parts within 75 um of each other (five tumour cells) are one; holes are filled; lesions are
the 8-connected parts. A lesion whose major axis (of the ellipse with the same second moments) is below
275 um, which is 200 um before the growth, counts as isolated tumour cells: it need not be found, and a
detection in it is neither right nor wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from wsi_cam.evaluation.detections import Detections
from wsi_cam.evaluation.truth import Truth
from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Size

LATTICE_UM = 0.243 * 2**5
GROWTH_UM = 75 / 2
ISOLATED_UM = 275
#: scikit-image says the types of some of its functions only.
_parts: Any = regionprops


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of a slide on a lattice of 7.776 um, cut to where they are."""

    labels: NDArray[np.int32]
    """(rows, columns): the number of the lesion, from 1, 0 elsewhere."""
    to_level0: Affine[Heatmap, Level0]
    isolated: NDArray[np.bool_]
    """(lesions,): whether each is no more than isolated tumour cells."""

    def at(self, level0_xy: NDArray[np.float64]) -> NDArray[np.int32]:
        """The number of the lesion at each point (n, 2), 0 outside of all."""
        column, row = np.floor(self.to_level0.inverse().points(level0_xy)).astype(np.int64).T
        height, width = self.labels.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = np.zeros(len(level0_xy), np.int32)
        found[inside] = self.labels[row[inside], column[inside]]
        return found


def find_lesions(truth: Truth, mpp: Mpp) -> Lesions:
    """The lesions of a slide with this spacing of level 0.

    Memory is some ten bytes per 60 um2 of the box around the target.
    """
    box = truth.box
    if box is None:
        return Lesions(np.zeros((0, 0), np.int32), Affine(1, 1), np.zeros(0, np.bool_))
    step_x, step_y = LATTICE_UM / mpp.x, LATTICE_UM / mpp.y
    margin = math.ceil(GROWTH_UM / LATTICE_UM) + 1
    # The cut lies on the lattice of the whole slide, whose corner is that of level 0.
    left, top = math.floor(box.x / step_x) - margin, math.floor(box.y / step_y) - margin
    size = Size(math.ceil(box.right / step_x) + margin - left, math.ceil(box.bottom / step_y) + margin - top)
    to_level0 = Affine[Heatmap, Level0](step_x, step_y, left * step_x, top * step_y)
    labels = label_lesions(truth.raster(to_level0, size))
    axes = [part.axis_major_length for part in _parts(labels)]
    return Lesions(labels, to_level0, np.array(axes) < ISOLATED_UM / LATTICE_UM)


def label_lesions(target: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Grown, filled and numbered parts of a target (rows, columns) on the lattice of 7.776 um.

    Growing by a disc equals the distance transform of the original at a fraction of its memory.
    """
    radius = GROWTH_UM / LATTICE_UM
    reach = math.floor(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    grown = ndimage.binary_dilation(target, x**2 + y**2 < radius**2)
    filled = ndimage.binary_fill_holes(grown)
    labels: NDArray[np.int32] = ndimage.label(filled, np.ones((3, 3)), output=np.int32)[0]
    return labels


@dataclass(frozen=True, eq=False)
class Hits:
    """What the detections of a slide found: probabilities, each list in descending order."""

    false_positives: NDArray[np.float32]
    """Of the detections outside of all lesions."""
    lesions: NDArray[np.float32]
    """(lesions that count,): of the best detection in each, 0 where it was missed."""
    n_isolated: int


def match(detections: Detections, lesions: Lesions) -> Hits:
    """One hit per lesion: the best detection in it counts, further ones are neither right nor wrong."""
    at = lesions.at(detections.level0_xy)
    best = np.zeros(len(lesions.isolated) + 1, np.float32)
    np.maximum.at(best, at, detections.probability)
    found = best[1:][~lesions.isolated]
    outside = detections.probability[at == 0]
    return Hits(-np.sort(-outside), -np.sort(-found), int(lesions.isolated.sum()))
