"""Counts give scikit-learn's figures, ties and weights included, for one sample or a thousand resamples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from wsi_cam.evaluation.counts import (
    UNSEEN,
    auroc,
    average_precision,
    count_probabilities,
    count_scores,
    precision_recall_points,
    roc_points,
    sensitivity_at,
)


def sample(seed: int, n: int = 60) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores with many ties, and labels of both kinds."""
    random = np.random.default_rng(seed)
    labels = random.random(n) < 0.4
    labels[:2] = True, False
    return np.round(random.normal(0, 1, n) + labels, 1), labels


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 80))
def test_figures_of_counts_are_scikit_learn_s_on_every_resample(seed: int, n: int) -> None:
    scores, labels = sample(seed, n)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(n, np.full(n, 1 / n), size=4)
    drawn[0] = 1
    negative, positive = count_scores(scores, labels, drawn)
    aurocs, precisions = auroc(negative, positive), average_precision(negative, positive)
    sensitivities = sensitivity_at(0.8, negative, positive)
    for k, times in enumerate(drawn):
        again, truth = np.repeat(scores, times), np.repeat(labels, times)
        if truth.all() or not truth.any():
            assert np.isnan(aurocs[k])
            assert np.isnan(sensitivities[k])
            continue
        assert aurocs[k] == pytest.approx(roc_auc_score(truth, again))
        assert precisions[k] == pytest.approx(average_precision_score(truth, again))
        false, true, _ = roc_curve(truth, again, drop_intermediate=False)
        assert sensitivities[k] == pytest.approx(true[1 - false >= 0.8 - 1e-12].max())


def test_the_curves_are_scikit_learn_s() -> None:
    scores, labels = sample(3)
    negative, positive = count_scores(scores, labels, np.ones(len(scores), np.int64))
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc_points(negative, positive), (false, true))
    recall, precision = precision_recall_points(negative, positive)
    step = np.diff(recall, prepend=0)
    assert (step * precision).sum() == pytest.approx(average_precision_score(labels, scores))


def test_bins_of_probability_cost_a_ten_thousandth_at_most() -> None:
    random = np.random.default_rng(0)
    labels = random.random(20_000) < 0.02
    probability = (1 / (1 + np.exp(-random.normal(-3, 2, 20_000) - 3 * labels))).astype(np.float32)
    counts = count_probabilities(probability, labels)
    exact = roc_auc_score(labels, probability), average_precision_score(labels, probability)
    assert float(auroc(counts.negative, counts.positive)) == pytest.approx(exact[0], abs=1e-4)
    assert float(average_precision(counts.negative, counts.positive)) == pytest.approx(exact[1], abs=2e-3)


def test_what_was_not_seen_is_a_miss_where_there_is_a_target_and_nothing_elsewhere() -> None:
    probability = np.array([np.nan, np.nan, 0.0, 1.0, 0.3], np.float32)
    positive = np.array([True, False, False, True, False])
    counts = count_probabilities(probability, positive)
    assert counts.positive[UNSEEN] == 1
    assert counts.negative[UNSEEN] == 0
    assert (counts.positive.sum(), counts.negative.sum()) == (2, 2)
    # By hand: pairs (unseen, 0.0) lost, (unseen, 0.3) lost, (1, 0.0) won, (1, 0.3) won.
    assert float(auroc(counts.negative, counts.positive)) == pytest.approx(0.5)
