"""Levels lie where they were made from, not where a division of sizes would put them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_cam.geometry import Size
from wsi_cam.slides.level_maps import level_maps


@settings(deadline=None)
@given(
    width=st.integers(2_000, 400_000),
    height=st.integers(2_000, 400_000),
    power=st.integers(0, 6),
    rounding=st.sampled_from(["down", "up"]),
)
def test_the_factor_of_a_power_of_two_pyramid_is_found(
    width: int, height: int, power: int, rounding: str
) -> None:
    factor = 2**power
    spare = factor - 1 if rounding == "up" else 0
    level = Size((width + spare) // factor, (height + spare) // factor)
    to_level0 = level_maps([Size(width, height), level])[1]
    assert (to_level0.scale_x, to_level0.scale_y) == (factor, factor)
    assert (to_level0.offset_x, to_level0.offset_y) == (0, 0)


@settings(deadline=None)
@given(
    width=st.integers(1, 50_000),
    height=st.integers(1, 50_000),
    part=st.floats(1e-4, 1),
    squeeze=st.floats(0.3, 1),
)
def test_whatever_the_sizes_a_level_covers_level_0_to_a_pixel_of_its_own(
    width: int, height: int, part: float, squeeze: float
) -> None:
    level = Size(max(1, int(width * part)), max(1, int(height * part * squeeze)))
    to_level0 = level_maps([Size(width, height), level])[1]
    for scale, small, full in (
        (to_level0.scale_x, level.width, width),
        (to_level0.scale_y, level.height, height),
    ):
        # Tiny levels leave the factor open; they must still not be off by more than what rounding can lose.
        assert abs(scale * small - full) <= max(scale, full / small) * 1.001


def test_a_scanner_that_drops_the_rest_does_not_drift() -> None:
    maps = level_maps([Size(46_003, 32_914), Size(11_500, 8_228), Size(2_875, 2_057)])
    assert [(m.scale_x, m.scale_y) for m in maps] == [(1, 1), (4, 4), (16, 16)]


def test_a_ratio_that_no_whole_factor_explains_stays_a_ratio() -> None:
    to_level0 = level_maps([Size(46_000, 32_914), Size(1_024, 732)])[1]
    assert (to_level0.scale_x, to_level0.scale_y) == pytest.approx((46_000 / 1_024, 32_914 / 732), rel=1e-12)


def test_each_axis_may_have_its_own_factor() -> None:
    to_level0 = level_maps([Size(4_001, 3_000), Size(2_000, 750)])[1]
    assert (to_level0.scale_x, to_level0.scale_y) == (2, 4)
