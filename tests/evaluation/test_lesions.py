"""Lesions are those of CAMELYON16's evaluation code, of which the test holds the slow original in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from shapely import MultiPolygon, Polygon

from wsi_cam.evaluation.detections import Detections
from wsi_cam.evaluation.lesions import ISOLATED_UM, LATTICE_UM, Lesions, find_lesions, label_lesions, match
from wsi_cam.evaluation.truth import DrawnTruth
from wsi_cam.geometry import Affine, Mpp

MPP = Mpp(0.972, 0.972)


def blobs(seed: int) -> NDArray[np.bool_]:
    """Spots of several sizes, some with holes, some touching, away from the border."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.random((90, 110)), random.uniform(1, 4))
    target: NDArray[np.bool_] = noise > np.quantile(noise, random.uniform(0.85, 0.99))
    target[:8] = target[-8:] = target[:, :8] = target[:, -8:] = False
    return target


@pytest.mark.filterwarnings("ignore:.*major_axis_length:FutureWarning")  # MONAI asks for it by that name
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_lesions_are_monai_s_and_the_distance_transform_s(seed: int) -> None:
    pathology = pytest.importorskip("monai.apps.pathology.utils", reason="MONAI is a development dependency")
    target = blobs(seed)
    mine = label_lesions(target)
    distance = ndimage.distance_transform_edt(~target)
    slow = ndimage.label(ndimage.binary_fill_holes(distance < 75 / (LATTICE_UM * 2)), np.ones((3, 3)))[0]
    np.testing.assert_array_equal(mine, slow)
    theirs = pathology.compute_multi_instance_mask(target.astype(int), 75 / (LATTICE_UM * 2))
    np.testing.assert_array_equal(mine, theirs)
    if mine.any():
        isolated = pathology.compute_isolated_tumor_cells(mine, ISOLATED_UM / LATTICE_UM)
        found = find_lesions(PixelTruth(target), MPP).isolated
        np.testing.assert_array_equal(np.flatnonzero(found) + 1, isolated)


class PixelTruth(DrawnTruth):
    """Outlines of the pixels of a picture on the lattice of 7.776 um."""

    def __init__(self, target: NDArray[np.bool_]) -> None:
        step = LATTICE_UM / MPP.x
        y, x = np.nonzero(target)
        squares = shapely.box(x * step, y * step, (x + 1) * step, (y + 1) * step)
        merged = shapely.union_all(squares, grid_size=1e-6)
        super().__init__(MultiPolygon([p for p in shapely.get_parts(merged) if isinstance(p, Polygon)]))


def square(x_um: float, y_um: float, width_um: float, height_um: float | None = None) -> Polygon:
    height_um = width_um if height_um is None else height_um
    corners = np.array([x_um, y_um, x_um + width_um, y_um + height_um]) / MPP.x
    return shapely.box(*corners)


def lesions_of(*polygons: Polygon) -> Lesions:
    return find_lesions(DrawnTruth(MultiPolygon(list(polygons))), MPP)


def test_one_patch_is_isolated_cells_and_two_in_a_row_are_a_lesion() -> None:
    # A square of 93 um grows to 168 um; the ellipse of its moments is 194 um long, below 275.
    # Two patches grow to 262 um, whose ellipse is 302 um long.
    assert lesions_of(square(1000, 1000, 93.3)).isolated.tolist() == [True]
    assert lesions_of(square(1000, 1000, 186.6, 93.3)).isolated.tolist() == [False]


def test_parts_within_75_um_are_one_lesion() -> None:
    assert len(lesions_of(square(500, 500, 150), square(710, 500, 150)).isolated) == 1
    assert len(lesions_of(square(500, 500, 150), square(740, 500, 150)).isolated) == 2


def test_a_ring_is_a_lesion_to_its_middle() -> None:
    ring = shapely.Point(2000, 2000).buffer(800).difference(shapely.Point(2000, 2000).buffer(600))
    lesions = find_lesions(DrawnTruth(MultiPolygon([ring])), MPP)
    places = np.array([[2000.0, 2000.0], [2000.0, 1200.0], [100.0, 100.0], [-5.0, 1e7]])
    assert lesions.at(places).tolist() == [1, 1, 0, 0]


def test_no_target_has_no_lesions() -> None:
    none = lesions_of()
    assert len(none.isolated) == 0
    assert none.at(np.array([[0.0, 0.0], [5.0, 5.0]])).tolist() == [0, 0]


def test_the_lattice_is_the_whole_slide_s_whatever_the_cut() -> None:
    lesions = lesions_of(square(1003, 517, 200))
    step = LATTICE_UM / MPP.x
    for offset in (lesions.to_level0.offset_x, lesions.to_level0.offset_y):
        assert offset / step == pytest.approx(round(offset / step))
    assert not math.isclose(lesions.to_level0.offset_x, 0)


def two_lesions() -> Lesions:
    """A lesion on the left, isolated cells on the right, nothing between."""
    labels = np.zeros((4, 12), np.int32)
    labels[:, :4], labels[:, 9:] = 1, 2
    return Lesions(labels, Affine(10, 10), np.array([False, True]))


def test_by_hand_one_hit_per_lesion_and_nothing_for_isolated_cells() -> None:
    xy = np.array([[15.0, 15], [25, 25], [65, 15], [105, 15], [300, 300]])
    probability = np.array([0.7, 0.9, 0.8, 0.95, 0.6], np.float32)
    hits = match(Detections(xy, probability), two_lesions())
    np.testing.assert_allclose(hits.lesions, [0.9])
    np.testing.assert_allclose(hits.false_positives, [0.8, 0.6])
    assert hits.n_isolated == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 25))
def test_hits_are_monai_s_and_further_detections_in_a_lesion_change_nothing_but_its_best(
    seed: int, n: int
) -> None:
    froc = pytest.importorskip("monai.metrics.froc", reason="MONAI is a development dependency")
    random = np.random.default_rng(seed)
    labels = label_lesions(blobs(seed))
    isolated = random.random(labels.max()) < 0.4
    lesions = Lesions(labels, Affine(1, 1), isolated)
    row, column = random.integers(0, 90, n), random.integers(0, 110, n)
    probability = np.round(random.random(n), 2).astype(np.float32) + np.float32(0.01)
    hits = match(Detections(np.stack([column, row], axis=1) + 0.5, probability), lesions)
    false, true, n_lesions = froc.compute_fp_tp_probs_nd(
        probability, np.stack([row, column], axis=1), labels, (np.flatnonzero(isolated) + 1).tolist()
    )
    np.testing.assert_array_equal(np.sort(hits.false_positives), np.sort(false))
    assert (len(hits.lesions), hits.n_isolated) == (n_lesions, isolated.sum())
    np.testing.assert_array_equal(np.sort(hits.lesions), np.sort(true[~isolated]))
