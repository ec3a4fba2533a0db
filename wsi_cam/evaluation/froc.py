"""Free-response ROC: lesions found against false alarms per slide, by CAMELYON16's rules.

The score is the mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives per slide, read off the curve
by linear interpolation. One rule differs: the original drops the least of all probabilities. That is the 0
of a missed or isolated lesion where there is one; where there is none it drops a real detection, and a
perfect result on one lesion scores 0. Here only the zeros are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.evaluation.lesions import Hits

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: Operating points that resamples are read at; the figures themselves are read at all of them.
_RESAMPLED_POINTS = 2000


@dataclass(frozen=True, eq=False)
class FrocCurve:
    """Operating points, from the strictest threshold to the loosest, (n,) each; the first finds nothing."""

    threshold: NDArray[np.float64]
    """Probability from which a detection counts; infinite at the first point."""
    false_positives: NDArray[np.float64]
    """Per slide."""
    sensitivity: NDArray[np.float64]
    """Share of the lesions that count; NaN where there are none."""

    def at_rates(self) -> NDArray[np.float64]:
        """(6,): sensitivity at each of RATES; beyond the last point that of the last."""
        return np.interp(RATES, self.false_positives, self.sensitivity)


def froc_curve(slides: Sequence[Hits]) -> FrocCurve:
    """The curve of slides, those without lesions included."""
    false, found, n_lesions = _pooled(slides)
    thresholds = _thresholds(false, found)
    sensitivity = _at_least(found, thresholds) / n_lesions if n_lesions else np.full(len(thresholds), np.nan)
    return FrocCurve(thresholds, _at_least(false, thresholds) / max(1, len(slides)), sensitivity)


def resampled_froc(slides: Sequence[Hits], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """(resamples, 6): sensitivity at RATES where slide i is taken ``drawn`` (resamples, slides) times."""
    false, found, _ = _pooled(slides)
    thresholds = _thresholds(false, found)
    if len(thresholds) > _RESAMPLED_POINTS:
        places = np.linspace(0, len(thresholds) - 1, _RESAMPLED_POINTS).round().astype(np.int64)
        thresholds = thresholds[places]
    false_of = np.stack([_at_least(slide.false_positives, thresholds) for slide in slides])
    found_of = np.stack([_at_least(slide.lesions, thresholds) for slide in slides])
    lesions_of = np.array([len(slide.lesions) for slide in slides])
    result = np.full((len(drawn), len(RATES)), np.nan)
    for row, times in enumerate(drawn):
        n_lesions = times @ lesions_of
        if n_lesions:
            result[row] = np.interp(RATES, times @ false_of / times.sum(), times @ found_of / n_lesions)
    return result


def _pooled(slides: Sequence[Hits]) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Probabilities of false alarms and of found lesions, and how many lesions there are."""
    none = np.empty(0, np.float32)
    false = np.concatenate([none, *(slide.false_positives for slide in slides)])
    lesions = np.concatenate([none, *(slide.lesions for slide in slides)])
    return false, lesions[lesions > 0], len(lesions)


def _thresholds(false: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float64]:
    """Every different probability, descending, behind infinity."""
    different = np.unique(np.concatenate([false, found]))[::-1]
    return np.concatenate([[np.inf], different.astype(np.float64)])


def _at_least(probability: NDArray[np.float32], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many probabilities reach each threshold."""
    ascending = np.sort(probability.astype(np.float64))
    return (len(ascending) - np.searchsorted(ascending, thresholds, side="left")).astype(np.float64)
