"""A threshold chosen from labels, and how it does on slides that it was not chosen on.

What a threshold reaches on the very slides it was chosen on is too good. So the slides are divided into
folds; each fold is judged by a threshold that was chosen on the others (out of fold), and that is what gets
reported. The threshold to use on new slides is chosen by the same rule on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from wsi_cam.errors import DataError, SettingsError

#: ``youden``: the greatest sensitivity + specificity - 1 (Youden 1950, Cancer 3:32); ``sensitivity``: the
#: highest threshold that still reaches a given sensitivity.
Rule = Literal["youden", "sensitivity"]
RULES: tuple[Rule, ...] = get_args(Rule)
N_FOLDS = 5


@dataclass(frozen=True, eq=False)
class ThresholdChoice:
    """``threshold`` is for new slides: a score of at least it is positive.

    ``out_of_fold`` (n,) is the threshold by which each score may be judged: chosen without its fold.
    ``sensitivity`` and ``specificity`` are those of the out-of-fold decisions, never of ``threshold``.
    """

    threshold: float
    rule: str
    """In words."""
    n_folds: int
    out_of_fold: NDArray[np.float64]
    sensitivity: float
    specificity: float


def choose_threshold(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    rule: Rule = "youden",
    sensitivity: float = 0.95,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> ThresholdChoice:
    """Choose a threshold for scores (n,) whose labels (n,) are known, with cross-validation.

    Candidates lie half-way between neighbouring different scores. Folds are stratified by label, five of
    them or as many as the rarer label allows; what ``groups`` names alike (slides of a patient) stays in one
    fold. Equal arguments give equal folds. Raises DataError where a label has fewer than two members (or
    groups), or a score is not finite.
    """
    if rule not in RULES or not 0 < sensitivity <= 1:
        raise SettingsError(
            f"threshold rule {rule!r} at sensitivity {sensitivity}: use one of {RULES}, 0 to 1"
        )
    names = np.arange(len(labels)) if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
    members = [len(np.unique(names[labels == which])) for which in (False, True)]
    if min(members) < 2 or not np.isfinite(scores).all():
        raise DataError(
            f"no threshold can be cross-validated on so few slides (positive: {members[1]}, negative: "
            f"{members[0]}); at least two of each with a score are needed, or a threshold as a number"
        )
    n_folds = min(N_FOLDS, *members)
    if groups is None:
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(scores, labels)
    else:
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(scores, labels, names)
    out_of_fold = np.full(len(scores), np.nan)
    for chosen_on, judged in folds:
        # Groups may leave a fold's other side without a label; its slides are judged by what there is.
        out_of_fold[judged] = _choose(scores[chosen_on], labels[chosen_on], rule, sensitivity)
    positive = scores >= out_of_fold
    return ThresholdChoice(
        threshold=_choose(scores, labels, rule, sensitivity),
        rule="greatest Youden index" if rule == "youden" else f"sensitivity of at least {sensitivity:g}",
        n_folds=n_folds,
        out_of_fold=out_of_fold,
        sensitivity=float(positive[labels].mean()),
        specificity=float((~positive[~labels]).mean()),
    )


def _choose(scores: NDArray[np.float64], labels: NDArray[np.bool_], rule: Rule, sensitivity: float) -> float:
    different = np.unique(scores)
    candidates = (different[1:] + different[:-1]) / 2 if len(different) > 1 else different
    # (candidates, n) would be quadratic: ranks among sorted scores are not.
    positive, negative = np.sort(scores[labels]), np.sort(scores[~labels])
    reached = 1 - np.searchsorted(positive, candidates) / max(1, len(positive))
    spared = np.searchsorted(negative, candidates) / max(1, len(negative))
    if rule == "youden":
        return float(candidates[np.argmax(reached + spared)])
    enough = np.flatnonzero(reached >= sensitivity - 1e-12)
    return float(candidates[enough[-1]] if len(enough) else different[0])
