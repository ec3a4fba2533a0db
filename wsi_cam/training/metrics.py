"""How well probabilities match labels: scikit-learn's measures, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score, roc_auc_score

from wsi_cam.training.calibration import expected_calibration_error

N_BOOTSTRAP = 1000


@dataclass(frozen=True)
class Measure:
    """A figure and its 95 % bootstrap interval; NaN where these labels do not define it."""

    value: float
    low: float
    high: float

    def as_list(self) -> list[float | None]:
        """[value, low, high] rounded to five places for JSON, None for NaN."""
        return [None if np.isnan(v) else round(float(v), 5) for v in (self.value, self.low, self.high)]

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "not defined by these labels"
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Metrics:
    """``measures``: accuracy, balanced accuracy, macro F1, AUROC, calibration error; by these names.

    AUROC is the mean over the classes, each against the rest, ``auroc_of`` holds each; the calibration
    error is that of :func:`expected_calibration_error`. ``confusion[i][j]`` counts pictures of class i that
    were taken for class j. ``n_units`` are the groups or pictures that were resampled.
    """

    class_names: tuple[str, ...]
    n: int
    n_units: int
    measures: dict[str, Measure]
    auroc_of: dict[str, Measure]
    confusion: tuple[tuple[int, ...], ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON; each measure as [value, low, high]."""
        return {
            "pictures": self.n,
            "resampled_units": self.n_units,
            **{name: measure.as_list() for name, measure in self.measures.items()},
            "auroc_of": {name: measure.as_list() for name, measure in self.auroc_of.items()},
            "confusion": {"classes": list(self.class_names), "counts": [list(row) for row in self.confusion]},
        }


_MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "calibration_error")


def measure(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    groups: Sequence[str] | None = None,
    n_bootstrap: int = N_BOOTSTRAP,
) -> Metrics:
    """All metrics of calibrated ``probabilities`` (n, classes) against ``labels`` (n,).

    Classes without a picture do not count. Intervals are the 2.5th and 97.5th percentile over resamples
    (always the same ones) of the groups, as pictures of one group are not independent, or of the pictures
    where there are no groups.
    """
    classes = range(len(class_names))
    predicted, present = probabilities.argmax(axis=1), np.unique(labels)
    aurocs = [_auroc(probabilities[:, c], labels == c) for c in classes]
    values = [
        accuracy_score(labels, predicted),
        recall_score(labels, predicted, labels=present, average="macro", zero_division=0.0),
        f1_score(labels, predicted, labels=present, average="macro", zero_division=0.0),
        _mean_of_defined(aurocs),
        expected_calibration_error(probabilities, labels),
        *aurocs,
    ]
    _, unit = np.unique(np.array(groups) if groups else np.arange(len(labels)), return_inverse=True)
    members = np.split(np.argsort(unit, kind="stable"), np.cumsum(np.bincount(unit))[:-1])
    generator = np.random.default_rng(0)
    drawn = np.full((n_bootstrap, len(values)), np.nan)
    for i in range(n_bootstrap):
        chosen = np.concatenate([members[u] for u in generator.integers(len(members), size=len(members))])
        drawn[i] = quick_measures(probabilities[chosen], labels[chosen])
    measures = [with_interval(value, column) for value, column in zip(values, drawn.T, strict=True)]
    confusion = confusion_matrix(labels, predicted, labels=classes)
    return Metrics(
        class_names=tuple(class_names),
        n=len(labels),
        n_units=len(members),
        measures=dict(zip(_MEASURES, measures, strict=False)),
        auroc_of=dict(zip(class_names, measures[len(_MEASURES) :], strict=True)),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def quick_measures(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> list[float]:
    """The values of _MEASURES and each class's AUROC, as scikit-learn gives them at ten times the cost.

    A thousand resamples need that.
    """
    n_classes = probabilities.shape[1]
    pairs = labels * n_classes + probabilities.argmax(axis=1)
    confusion = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
    right, of_class, taken_for = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    there = of_class > 0
    recall, f1 = right[there] / of_class[there], 2 * right[there] / (of_class + taken_for)[there]
    aurocs = []
    for c in range(n_classes):
        n_rest = len(labels) - int(of_class[c])
        if n_rest and there[c]:
            # Mann-Whitney: the share of pairs in which the class scores above the rest, ties for half.
            rank_sum = rankdata(probabilities[:, c])[labels == c].sum()
            aurocs.append((rank_sum / of_class[c] - (of_class[c] + 1) / 2) / n_rest)
        else:
            aurocs.append(np.nan)
    error = expected_calibration_error(probabilities, labels)
    return [right.sum() / len(labels), recall.mean(), f1.mean(), _mean_of_defined(aurocs), error, *aurocs]


def _auroc(score: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    return float(roc_auc_score(positive, score)) if 0 < positive.sum() < len(positive) else np.nan


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


def with_interval(value: float, drawn: NDArray[np.float64]) -> Measure:
    """``value`` with the 2.5th and 97.5th percentile of what resamples gave; NaN among them do not count."""
    defined = drawn[~np.isnan(drawn)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
    return Measure(float(value), float(low), float(high))
