"""Halving a picture: the triangle filter, exact, and Pillow's to a grey level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.make_slides import Image
from wsi_cam.slides.resampling import halved, resized


def random_region(width: int, height: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (2 * height + 2, 2 * width + 2, 3), np.uint8)


def halved_slowly(region: Image) -> Image:
    """The weighted mean of 4 x 4 pixels, written as the sum that it is."""
    height, width = region.shape[0] // 2 - 1, region.shape[1] // 2 - 1
    total = np.zeros((height, width, 3), np.int64)
    for y, weight_y in enumerate((1, 3, 3, 1)):
        for x, weight_x in enumerate((1, 3, 3, 1)):
            part = region[y : y + 2 * height : 2, x : x + 2 * width : 2]
            total += weight_y * weight_x * part.astype(np.int64)
    return ((total + 32) // 64).astype(np.uint8)


@given(st.integers(1, 40), st.integers(1, 70), st.integers(0, 1000))
def test_half_a_picture_is_the_mean_that_the_filter_asks_for(width: int, height: int, seed: int) -> None:
    region = random_region(width, height, seed)
    np.testing.assert_array_equal(halved(region), halved_slowly(region))


def test_pillow_says_the_same_to_the_rounding_of_its_two_passes() -> None:
    region = random_region(100, 83)
    pillow = resized(region, (1, 1, 201, 167), (100, 83))
    difference = halved(region).astype(int) - pillow
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_a_plain_colour_stays_what_it_is(value: int) -> None:
    assert (halved(np.full((12, 10, 3), value, np.uint8)) == value).all()


def test_a_view_of_a_larger_picture_is_halved_like_its_copy() -> None:
    large = random_region(30, 30)
    part = large[3:37, 5:45]
    np.testing.assert_array_equal(halved(part), halved(part.copy()))
