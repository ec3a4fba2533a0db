"""Figures from counts: how many negative and positive places have a score in each bin.

Millions of pixels become two rows of counts per slide, and a resample of slides is a weighted sum of rows.
The functions take counts (..., bins) with bins in ascending order of score, and work on all leading axes at
once; with one bin per different score they equal scikit-learn's, which the tests check.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import logit

Counts = NDArray[np.float64]

#: Bins of probability are even in the logit, so that those near 0 and 1 stay apart: 0.01 wide from -12 to 12.
_LOGIT_LIMIT, _BINS_PER_LOGIT = 12.0, 100
#: Bin 0 holds places that nothing was said of: below every score.
UNSEEN = 0
N_BINS = int(2 * _LOGIT_LIMIT * _BINS_PER_LOGIT) + 2


@dataclass(frozen=True, eq=False)
class ScoreCounts:
    """Places in each bin of probability, (N_BINS,) each; add up bands and slides with ``+``."""

    negative: Counts
    positive: Counts

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(self.negative + other.negative, self.positive + other.positive)


def no_counts() -> ScoreCounts:
    """The counts of nothing."""
    return ScoreCounts(np.zeros(N_BINS), np.zeros(N_BINS))


def count_probabilities(probability: NDArray[np.float32], positive: NDArray[np.bool_]) -> ScoreCounts:
    """Counts of places (n,) each; a NaN is a place that was not seen.

    A positive place that was not seen is missed at every threshold (bin 0). A negative one says nothing of
    the model and is not counted: glass would flatter it.
    """
    seen = ~np.isnan(probability)
    bins = np.full(len(probability), UNSEEN, np.int64)
    with np.errstate(divide="ignore"):
        at = np.clip(logit(probability[seen].astype(np.float64)), -_LOGIT_LIMIT, _LOGIT_LIMIT)
    bins[seen] = 1 + np.floor((at + _LOGIT_LIMIT) * _BINS_PER_LOGIT).astype(np.int64)
    negative, positive_bins = bins[seen & ~positive], bins[positive]
    return ScoreCounts(
        np.bincount(negative, minlength=N_BINS).astype(np.float64),
        np.bincount(positive_bins, minlength=N_BINS).astype(np.float64),
    )


def count_scores(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], drawn: NDArray[np.int64]
) -> tuple[Counts, Counts]:
    """Counts (..., different scores) of few scores (n,), each taken ``drawn`` (..., n) times."""
    different, place = np.unique(scores, return_inverse=True)
    slide = np.arange(len(scores))
    negative, positive = (
        drawn
        @ csr_array(((labels == which).astype(np.float64), (slide, place)), (len(scores), len(different)))
        for which in (False, True)
    )
    return np.asarray(negative), np.asarray(positive)


def auroc(negative: Counts, positive: Counts) -> NDArray[np.float64]:
    """Share of pairs in which the positive scores above the negative, ties for half (Mann-Whitney); (...)."""
    below = np.cumsum(negative, axis=-1) - negative / 2
    return _ratio((positive * below).sum(axis=-1), positive.sum(axis=-1) * negative.sum(axis=-1))


def average_precision(negative: Counts, positive: Counts) -> NDArray[np.float64]:
    """Sum over thresholds of precision times the gain in recall; (...). NaN without positives."""
    true, false = (np.cumsum(counts[..., ::-1], axis=-1) for counts in (positive, negative))
    precision = true / np.maximum(true + false, 1e-300)
    return _ratio((precision * positive[..., ::-1]).sum(axis=-1), positive.sum(axis=-1))


def sensitivity_at(specificity: float, negative: Counts, positive: Counts) -> NDArray[np.float64]:
    """The greatest sensitivity of a threshold whose specificity is at least this; (...).

    A score of at least the threshold is positive. NaN where a label is missing.
    """
    spared = _from_none(np.cumsum(negative, axis=-1)) / np.maximum(negative.sum(axis=-1), 1e-300)[..., None]
    missed = _from_none(np.cumsum(positive, axis=-1)) / np.maximum(positive.sum(axis=-1), 1e-300)[..., None]
    best = np.where(spared >= specificity - 1e-9, 1 - missed, 0.0).max(axis=-1)
    there = (negative.sum(axis=-1) > 0) & (positive.sum(axis=-1) > 0)
    return np.where(there, best, np.nan)


def roc_points(negative: Counts, positive: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False positive rate and sensitivity of every threshold, from none positive to all; (bins + 1,)."""
    false, true = _from_none(np.cumsum(negative[::-1])), _from_none(np.cumsum(positive[::-1]))
    return false / max(1, false[-1]), true / max(1, true[-1])


def precision_recall_points(
    negative: Counts, positive: Counts
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision of every threshold that takes anything for positive."""
    false, true = np.cumsum(negative[::-1]), np.cumsum(positive[::-1])
    some = true + false > 0
    return true[some] / max(1, true[-1]), true[some] / (true + false)[some]


def _from_none(cumulated: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((*cumulated.shape[:-1], 1)), cumulated], axis=-1)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(
        above, below, out=np.full(np.shape(above), np.nan), where=below > 0
    )
    return ratio
