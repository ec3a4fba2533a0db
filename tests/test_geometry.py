"""Frames, units and the one affine between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_cam.geometry import Affine, Box, Heatmap, Level, Level0, Point

scales = st.floats(1e-3, 1e4)
offsets = st.floats(-1e6, 1e6)
affines = st.builds(Affine, scales, scales, offsets, offsets)
coordinates = st.floats(0, 1e6)


@given(affines, coordinates, coordinates)
def test_there_and_back_is_the_same_point(affine: Affine[Level, Level0], x: float, y: float) -> None:
    back = affine.inverse().point(affine.point(Point(x, y)))
    # The offset may be far larger than the point: rounding is relative to what was added.
    tolerance = 1e-9 * (1 + abs(x) + abs(y) + max(map(abs, (affine.offset_x, affine.offset_y))) / 1e-3)
    assert back.x == pytest.approx(x, abs=tolerance)
    assert back.y == pytest.approx(y, abs=tolerance)


@given(affines, affines, coordinates, coordinates)
def test_one_after_the_other_is_their_composition(
    first: Affine[Level, Level0], second: Affine[Level0, Heatmap], x: float, y: float
) -> None:
    step_by_step = second.point(first.point(Point(x, y)))
    at_once = first.then(second).point(Point(x, y))
    assert at_once.x == pytest.approx(step_by_step.x, rel=1e-9, abs=1e-3)
    assert at_once.y == pytest.approx(step_by_step.y, rel=1e-9, abs=1e-3)


def test_a_box_keeps_its_corners() -> None:
    affine: Affine[Heatmap, Level0] = Affine(64, 32, offset_x=10)
    box = affine.box(Box(1, 2, 3, 4))
    assert (box.x, box.y, box.right, box.bottom) == (74, 64, 266, 192)


def test_arrays_and_points_are_mapped_alike() -> None:
    affine: Affine[Heatmap, Level0] = Affine(2.5, 3.5, 1, -1)
    mapped = affine.points(np.array([[0.0, 0.0], [4.0, 5.0]]))
    point = affine.point(Point(4.0, 5.0))
    assert mapped.tolist() == [[1, -1], [point.x, point.y]]


def test_boxes_that_do_not_meet_have_an_empty_intersection() -> None:
    left: Box[Level0] = Box(0, 0, 10, 10)
    assert left.intersection(Box(5, 5, 10, 10)) == Box(5, 5, 5, 5)
    assert left.intersection(Box(20, 0, 5, 5)).width == 0


@pytest.mark.parametrize("bad", [(0, 1), (1, -2), (float("nan"), 1), (1, float("inf"))])
def test_a_transform_that_loses_points_is_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="not a usable transform"):
        Affine(*bad)
