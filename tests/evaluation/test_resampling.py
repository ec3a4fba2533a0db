"""Resamples keep what they should, and a figure's interval is that of the figure on resampled slides."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from wsi_cam.evaluation.counts import auroc, count_scores
from wsi_cam.evaluation.figures import calibration_error
from wsi_cam.evaluation.resampling import draws, warning_of_few


def test_each_resample_holds_as_many_units_of_either_kind_and_units_stay_whole() -> None:
    units = ["p1", "p1", "p2", "p3", "p3", "p3", "p4"]
    positive = np.array([True, False, True, False, False, False, False])
    times = draws(units, positive, 200)
    np.testing.assert_array_equal(times[:, 0], times[:, 1])
    np.testing.assert_array_equal(times[:, 3], times[:, 5])
    assert (times[:, 0] + times[:, 2] == 2).all()  # two patients with the target
    assert (times[:, 3] + times[:, 6] == 2).all()  # two without
    np.testing.assert_array_equal(draws(units, positive, 200), times)


def test_intervals_are_those_of_the_resampled_slides() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3 == 0
    scores = np.round(random.normal(0, 1, 60) + labels, 1)
    times = draws([str(i) for i in range(60)], labels, 300)
    quick = auroc(*count_scores(scores, labels, times))
    slow = [roc_auc_score(np.repeat(labels, t), np.repeat(scores, t)) for t in times]
    np.testing.assert_allclose(quick, slow)


def test_few_of_a_kind_are_said() -> None:
    units = [str(i) for i in range(30)]
    assert warning_of_few(units, np.arange(30) < 15) == ""
    assert "only 4 with and 26 without" in warning_of_few(units, np.arange(30) < 4)


@pytest.mark.parametrize("seed", [0, 1])
def test_calibration_error_is_the_mean_gap_of_scikit_learn_s_curve(seed: int) -> None:
    random = np.random.default_rng(seed)
    probability = random.random(500)
    positive = random.random(500) < probability**2
    bins = np.minimum((probability * 15).astype(int), 14)
    sums = [np.bincount(bins, weights=w, minlength=15) for w in (np.ones(500), probability, positive)]
    share, mean = calibration_curve(positive, probability, n_bins=15)
    expected = (np.abs(share - mean) * sums[0][sums[0] > 0]).sum() / 500
    assert float(calibration_error(np.stack(sums))) == pytest.approx(expected)
