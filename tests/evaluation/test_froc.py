"""FROC by hand, as MONAI computes it, and resample by resample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_cam.evaluation.froc import RATES, froc_curve, resampled_froc
from wsi_cam.evaluation.lesions import Hits


def hits(false_positives: list[float], lesions: list[float], n_isolated: int = 0) -> Hits:
    descending = (sorted(values, reverse=True) for values in (false_positives, lesions))
    return Hits(*(np.array(values, np.float32) for values in descending), n_isolated)


def test_by_hand() -> None:
    # Two slides; lesions found at 0.9 and 0.6, one missed; false alarms at 0.8, 0.7, 0.5.
    curve = froc_curve([hits([0.8, 0.5], [0.9, 0.0]), hits([0.7], [0.6])])
    np.testing.assert_allclose(curve.threshold[1:], [0.9, 0.8, 0.7, 0.6, 0.5], rtol=1e-6)
    np.testing.assert_allclose(curve.false_positives, [0, 0, 0.5, 1, 1, 1.5])
    np.testing.assert_allclose(curve.sensitivity, np.array([0, 1, 1, 1, 2, 2]) / 3)
    # 1/3 at 1/4 and 1/2; at 1 the loosest threshold with one false alarm a slide counts; 2/3 from there on.
    np.testing.assert_allclose(curve.at_rates(), [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])


def test_between_two_points_the_curve_is_a_line() -> None:
    # At one false alarm a slide nothing is found, at two everything.
    curve = froc_curve([hits([0.9, 0.8], [0.8])])
    np.testing.assert_allclose(curve.at_rates(), [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(
        froc_curve([hits([0.9] * 4, [0.9])]).at_rates()[:4], [1 / 16, 1 / 8, 1 / 4, 1 / 2]
    )


def random_slides(seed: int, n: int) -> list[Hits]:
    random = np.random.default_rng(seed)
    slides = []
    for _ in range(n):
        false = np.round(random.random(random.integers(0, 9)), 2) + 0.01
        lesions = np.round(random.random(random.integers(0, 4)), 2) * (random.random() < 0.8)
        slides.append(hits(false.tolist(), lesions.tolist()))
    return [*slides, hits([0.7], [0.0, 0.4])]  # a missed lesion, without which the rules differ


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 8))
def test_curve_and_score_are_monai_s_where_a_lesion_was_missed(seed: int, n: int) -> None:
    monai = pytest.importorskip("monai.metrics.froc", reason="MONAI is a development dependency")
    slides = random_slides(seed, n)
    false = np.concatenate([s.false_positives for s in slides])
    found = np.concatenate([s.lesions for s in slides])
    per_slide, sensitivity = monai.compute_froc_curve_data(false, found, len(found), len(slides))
    curve = froc_curve(slides)
    np.testing.assert_allclose(curve.false_positives, per_slide[::-1])
    np.testing.assert_allclose(curve.sensitivity, sensitivity[::-1])
    assert curve.at_rates().mean() == pytest.approx(monai.compute_froc_score(per_slide, sensitivity))


def test_the_one_rule_that_differs_from_the_original() -> None:
    monai = pytest.importorskip("monai.metrics.froc", reason="MONAI is a development dependency")
    data = monai.compute_froc_curve_data(np.empty(0, np.float32), np.array([0.9], np.float32), 1, 1)
    assert monai.compute_froc_score(*data) == 0
    assert froc_curve([hits([], [0.9])]).at_rates().mean() == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6))
def test_a_resample_is_the_curve_of_its_slides(seed: int, n: int) -> None:
    slides = random_slides(seed, n)
    drawn = np.random.default_rng(seed).multinomial(n + 1, np.full(n + 1, 1 / (n + 1)), size=3)
    for times, found in zip(drawn, resampled_froc(slides, drawn), strict=True):
        again = [slide for slide, count in zip(slides, times, strict=True) for _ in range(count)]
        expected = froc_curve(again).at_rates()
        if not any(len(slide.lesions) for slide in again):
            expected = np.full(len(RATES), np.nan)
        np.testing.assert_allclose(found, expected)


def test_many_points_are_thinned_and_stay_close() -> None:
    random = np.random.default_rng(0)
    slides = [hits(random.random(800).tolist(), random.random(9).tolist()) for _ in range(8)]
    exact = froc_curve(slides).at_rates()
    np.testing.assert_allclose(resampled_froc(slides, np.ones((1, 8), np.int64))[0], exact, atol=0.02)
