"""Outlines: of every shape of pixels, the same as those drawn square by square, but for half a pixel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from shapely import Polygon

from wsi_cam.export.contours import Boundary, Outline, RowRuns, outlines


def traced(mask: NDArray[np.bool_], band: int = 3) -> tuple[list[Outline], NDArray[np.int64]]:
    """Outlines, and the pixels of each connected set, from rows given ``band`` at a time."""
    runs, boundary = RowRuns(mask.shape[1]), Boundary(mask.shape[1])
    lengths = []
    for first in range(0, len(mask), band):
        boundary.add(mask[first : first + band])
        lengths.append(runs.add(first, mask[first : first + band]))
    boundary.close()
    count, labels = runs.components()
    pixels = np.bincount(labels, np.concatenate(lengths), count).astype(np.int64)
    return outlines(boundary, runs, labels, count), pixels


def polygon(outline: Outline) -> Polygon:
    return Polygon(outline.shell, outline.holes)


def square_by_square(mask: NDArray[np.bool_]) -> Polygon:
    y, x = np.nonzero(mask)
    return shapely.union_all(shapely.box(x, y, x + 1, y + 1))


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.integers(1, 6))
@settings(deadline=None, max_examples=150)
def test_outlines_follow_the_pixels_within_half_a_pixel(seed: int, density: float, band: int) -> None:
    mask = np.random.default_rng(seed).random((9, 11)) < density
    labels, count = ndimage.label(mask)
    found, pixels = traced(mask, band)
    assert len(found) == count
    truths = [square_by_square(labels == number) for number in range(1, count + 1)]
    for outline, n, truth in zip(found, pixels, truths, strict=True):
        drawn = polygon(outline)
        assert drawn.is_valid
        assert drawn.exterior.is_simple
        assert shapely.hausdorff_distance(truth.boundary, drawn.boundary) <= 0.5 + 1e-9
        assert truth.area == n
        assert drawn.area == pytest.approx(n - 0.5 + 0.5 * len(outline.holes))
    for one, other in pairwise(found):
        assert not polygon(one).intersects(polygon(other))


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_bands_make_no_difference(seed: int) -> None:
    mask = np.random.default_rng(seed).random((12, 7)) < 0.6
    whole, _ = traced(mask, band=12)
    for band in (1, 5):
        parts, _ = traced(mask, band)
        for a, b in zip(whole, parts, strict=True):
            np.testing.assert_array_equal(a.shell, b.shell)
            assert len(a.holes) == len(b.holes)


def test_a_square_has_eight_corners_and_a_single_pixel_four() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 2:9] = True
    mask[0, 19] = True
    (pixel, square), _ = traced(mask)
    assert len(square.shell) == 8
    assert len(pixel.shell) == 4
    np.testing.assert_array_equal([square.shell.min(axis=0), square.shell.max(axis=0)], [[2, 5], [9, 15]])


def test_a_staircase_becomes_a_straight_line() -> None:
    mask = np.tri(30, dtype=bool)
    (outline,), _ = traced(mask)
    assert len(outline.shell) <= 8


def test_an_island_in_a_hole_is_a_region_of_its_own() -> None:
    mask = np.zeros((11, 11), bool)
    mask[1:10, 1:10] = True
    mask[3:8, 3:8] = False
    mask[5, 5] = True
    (ring, island), pixels = traced(mask)
    assert (len(ring.holes), len(island.holes)) == (1, 0)
    assert pixels.tolist() == [56, 1]
    assert not polygon(ring).intersects(polygon(island))


def test_pixels_that_touch_at_a_corner_stay_apart() -> None:
    found, _ = traced(np.eye(4, dtype=bool))
    assert len(found) == 4


@pytest.mark.parametrize("mask", [np.zeros((4, 5), bool), np.zeros((0, 5), bool)])
def test_where_nothing_is_inside_there_is_no_outline(mask: NDArray[np.bool_]) -> None:
    runs, boundary = RowRuns(5), Boundary(5)
    runs.add(0, mask)
    boundary.add(mask)
    boundary.close()
    count, labels = runs.components()
    assert count == 0
    assert outlines(boundary, runs, labels, count) == []
