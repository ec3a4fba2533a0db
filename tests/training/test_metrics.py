"""Figures are scikit-learn's, intervals cover what they should, and the temperature calibrates."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from wsi_cam.training.calibration import (
    TEMPERATURE_BOUNDS,
    at_temperature_one,
    expected_calibration_error,
    fit_temperature,
)
from wsi_cam.training.metrics import measure, quick_measures


def drawn(n: int, n_classes: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits, and labels that follow softmax(logits)."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, n_classes))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < random.random((n, 1))).sum(axis=1)
    return logits.astype(np.float32), np.minimum(labels, n_classes - 1).astype(np.int64)


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), n=st.integers(2, 40), n_classes=st.integers(2, 4))
def test_the_quick_measures_are_those_of_scikit_learn(seed: int, n: int, n_classes: int) -> None:
    logits, labels = drawn(n, n_classes, seed)
    # Few distinct values, so that there are ties.
    probabilities = softmax(np.round(logits), axis=1).astype(np.float32)
    predicted, present = probabilities.argmax(axis=1), np.unique(labels)
    accuracy, balanced, f1, auroc, _, *aurocs = quick_measures(probabilities, labels)
    assert accuracy == pytest.approx(np.mean(predicted == labels))
    assert balanced == pytest.approx(recall_score(labels, predicted, labels=present, average="macro"))
    assert f1 == pytest.approx(
        f1_score(labels, predicted, labels=present, average="macro", zero_division=0.0)
    )
    for c in range(n_classes):
        if 0 < (labels == c).sum() < n:
            assert aurocs[c] == pytest.approx(roc_auc_score(labels == c, probabilities[:, c]))
        else:
            assert np.isnan(aurocs[c])
    known = [a for a in aurocs if not np.isnan(a)]
    assert (np.isnan(auroc) and not known) or auroc == pytest.approx(np.mean(known))


def test_all_figures_of_a_known_case() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], np.float32)
    metrics = measure(probabilities, np.array([0, 0, 1, 1]), ("normal", "tumour"), n_bootstrap=50)
    assert metrics.confusion == ((2, 0), (1, 1))
    values = {name: m.value for name, m in metrics.measures.items()}
    assert values["accuracy"] == values["balanced_accuracy"] == 0.75
    assert values["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert values["auroc"] == 0.75
    assert metrics.auroc_of["normal"].value == metrics.auroc_of["tumour"].value == 0.75
    assert values["calibration_error"] == pytest.approx((0.1 + 0.4 + 0.2 + 0.7) / 4)


def test_intervals_cover_the_value_and_widen_where_groups_are_resampled() -> None:
    logits, labels = drawn(60, 3, seed=1)
    # Ten copies of each picture are one group: sixty independent facts, not six hundred.
    probabilities, labels = softmax(np.repeat(logits, 10, axis=0), axis=1), np.repeat(labels, 10)
    groups = [f"case{i // 10}" for i in range(600)]
    single = measure(probabilities, labels, ("a", "b", "c"), n_bootstrap=200)
    grouped = measure(probabilities, labels, ("a", "b", "c"), groups, n_bootstrap=200)
    assert (single.n_units, grouped.n_units) == (600, 60)
    for name, one in grouped.measures.items():
        assert one.value == single.measures[name].value
        assert one.high - one.low > 1.5 * (single.measures[name].high - single.measures[name].low)
        if name != "calibration_error":  # resampling can only add to it
            assert one.low < one.value < one.high


def test_a_class_without_pictures_is_no_number_and_json_says_null() -> None:
    logits, _ = drawn(10, 2, seed=2)
    metrics = measure(softmax(logits, axis=1), np.zeros(10, np.int64), ("a", "b"), n_bootstrap=5)
    assert np.isnan(metrics.measures["auroc"].value)
    text = json.dumps(metrics.as_dict(), allow_nan=False)
    assert json.loads(text)["auroc"] == [None, None, None]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_and_calibrates(temperature: float) -> None:
    logits, labels = drawn(6000, 3, seed=5)
    found = fit_temperature(logits * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.06)
    before = expected_calibration_error(softmax(logits * temperature, axis=1), labels)
    after = expected_calibration_error(softmax(logits * temperature / found, axis=1), labels)
    assert after < 0.02
    assert after <= before + 1e-3


def test_separable_pictures_stop_at_the_bound(caplog: pytest.LogCaptureFixture) -> None:
    logits = np.array([[3, 0], [0, 3], [4, 0]], np.float32)
    assert fit_temperature(logits, np.array([0, 1, 0])) == pytest.approx(TEMPERATURE_BOUNDS[0], rel=0.01)
    assert "too few pictures" in caplog.text


def test_the_calibration_error_of_a_perfect_and_a_boastful_classifier() -> None:
    sure = np.tile(np.array([[1.0, 0.0]], np.float32), (10, 1))
    assert expected_calibration_error(sure, np.zeros(10, np.int64)) == 0
    assert expected_calibration_error(sure, np.arange(10) % 2) == pytest.approx(0.5)
    # Bins are open below: 8/15 belongs to the eighth, as every probability of exactly k/15 to bin k.
    edge = np.array([[8 / 15, 7 / 15], [0.5, 0.5]])
    assert expected_calibration_error(edge, np.array([0, 1])) == pytest.approx(abs(8 / 15 + 0.5 - 1) / 2)


def test_the_temperature_can_be_taken_out_again() -> None:
    logits, _ = drawn(50, 3, seed=6)
    calibrated = softmax(logits / 1.7, axis=1).astype(np.float32)
    np.testing.assert_allclose(at_temperature_one(calibrated, 1.7), softmax(logits, axis=1), atol=1e-5)
