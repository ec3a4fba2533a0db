"""A colour means one number, on every picture."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_cam.export.colour_maps import (
    EVIDENCE_MAP,
    PROBABILITY_MAP,
    colour_table,
    evidence_scale,
    probability_scale,
)


@pytest.mark.parametrize("name", [PROBABILITY_MAP, EVIDENCE_MAP])
def test_lightness_rises_steadily_along_a_map(name: str) -> None:
    linear = (colour_table(name) / 255.0) ** 2.2
    lightness = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])
    steps = np.diff(lightness[::8])
    assert (steps > 0).all()
    assert steps.max() < 3 * np.median(steps)


def test_the_range_is_fixed_whatever_the_values() -> None:
    scale = probability_scale("tumour")
    few = scale.colours(np.array([0.2, 0.5], np.float32))
    many = scale.colours(np.array([0.2, 0.5, 0.99, 0.0], np.float32))
    np.testing.assert_array_equal(few, many[:2])


def test_evidence_against_is_the_colour_of_nought_and_more_than_the_scale_that_of_the_scale() -> None:
    scale = evidence_scale("tumour", 8.0)
    colours = scale.colours(np.array([-5, 0, 8, 80], np.float32))
    np.testing.assert_array_equal(colours, colour_table(EVIDENCE_MAP)[[0, 0, 255, 255]])
    np.testing.assert_allclose(scale.fractions(np.array([2, np.nan], np.float32)), [0.25, np.nan])


def test_an_overlay_shows_no_colour_where_nothing_was_seen() -> None:
    picture = np.full((1, 2, 3), (200, 80, 160), np.uint8)
    seen, unseen = probability_scale("tumour").over(np.array([[0, np.nan]], np.float32), picture)[0]
    assert len(set(unseen.tolist())) == 1
    assert len(set(seen.tolist())) == 3


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_a_scale_without_a_range_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="no range for colours"):
        evidence_scale("tumour", scale)
