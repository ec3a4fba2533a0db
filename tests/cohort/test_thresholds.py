"""A threshold is chosen where it should be, and reported on slides that had no say in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from wsi_cam.cohort.thresholds import choose_threshold
from wsi_cam.errors import DataError, SettingsError


def test_scores_that_part_cleanly_are_parted_half_way() -> None:
    scores, labels = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), np.array([False] * 3 + [True] * 3)
    choice = choose_threshold(scores, labels)
    assert choice.threshold == pytest.approx(0.5)
    assert (choice.sensitivity, choice.specificity, choice.n_folds) == (1, 1, 3)


def test_labels_that_the_scores_do_not_know_give_no_skill_out_of_fold() -> None:
    random = np.random.default_rng(1)
    scores, labels = random.random(400), np.arange(400) % 2 == 0
    choice = choose_threshold(scores, labels)
    in_sample = (scores[labels] >= choice.threshold).mean() - (scores[~labels] >= choice.threshold).mean()
    assert in_sample > 0.03
    assert choice.sensitivity + choice.specificity - 1 < in_sample


def test_a_slide_s_own_threshold_does_not_depend_on_its_score() -> None:
    random = np.random.default_rng(2)
    labels = np.arange(30) % 3 == 0
    scores = random.random(30) + 0.5 * labels
    before = choose_threshold(scores, labels).out_of_fold
    for index in (0, 1, 17):
        changed = scores.copy()
        changed[index] += 5
        assert choose_threshold(changed, labels).out_of_fold[index] == before[index]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), target=st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_the_highest_threshold_that_reaches_the_sensitivity_is_taken(seed: int, target: float) -> None:
    random = np.random.default_rng(seed)
    labels = random.random(50) < 0.5
    labels[:4] = True, True, False, False
    scores = np.round(random.normal(0, 1, 50) + labels, 1)
    threshold = choose_threshold(scores, labels, rule="sensitivity", sensitivity=target).threshold
    assert (scores[labels] >= threshold).mean() >= target or threshold == scores.min()
    false, true, at = roc_curve(labels, scores, drop_intermediate=False)
    best = at[true >= target - 1e-12].max()
    assert (scores >= threshold).sum() == (scores >= best).sum() or threshold == scores.min()
    youden = choose_threshold(scores, labels).threshold
    reached = (scores[labels] >= youden).mean() - (scores[~labels] >= youden).mean()
    # The one decision that half-way points leave out is to call everything positive, which is worth 0.
    assert reached == pytest.approx(max((true - false).max(), reached))


def test_slides_of_a_patient_stay_in_one_fold() -> None:
    labels = np.repeat(np.arange(10) % 2 == 0, 2)
    scores = np.linspace(0, 1, 20) + labels
    groups = [f"patient {i // 2}" for i in range(20)]
    thresholds = choose_threshold(scores, labels, groups=groups).out_of_fold.reshape(10, 2)
    np.testing.assert_array_equal(thresholds[:, 0], thresholds[:, 1])


@pytest.mark.parametrize("labels", [[True] * 6, [True] + [False] * 5])
def test_too_few_of_a_label_is_said(labels: list[bool]) -> None:
    with pytest.raises(DataError, match="at least two of each"):
        choose_threshold(np.linspace(0, 1, 6), np.array(labels))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(SettingsError, match="youden"):
        choose_threshold(np.arange(4.0), np.array([True, False] * 2), rule="best")  # type: ignore[arg-type]
