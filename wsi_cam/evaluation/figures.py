"""Figures of merit of a cohort, each with its interval: slides, patches, pixels, lesions.

Measures at a threshold that was chosen on labels (slide sensitivity and specificity) are out of fold, see
:mod:`wsi_cam.cohort.thresholds`. The sensitivity at a fixed specificity is a point of the ROC curve of
these very slides: it describes them and promises nothing of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.cohort.thresholds import Rule, ThresholdChoice, choose_threshold
from wsi_cam.errors import DataError
from wsi_cam.evaluation.cohort import EvaluatedCohort, EvaluatedSlide
from wsi_cam.evaluation.counts import (
    Counts,
    ScoreCounts,
    auroc,
    average_precision,
    count_scores,
    sensitivity_at,
)
from wsi_cam.evaluation.froc import RATES, FrocCurve, froc_curve, resampled_froc
from wsi_cam.evaluation.lesions import Hits
from wsi_cam.evaluation.resampling import N_BOOTSTRAP, draws, warning_of_few
from wsi_cam.evaluation.slide_measures import SlideMeasures
from wsi_cam.training.metrics import Measure, with_interval

#: Below every score: what a slide with the target gets that failed.
_MISSED = -np.inf


@dataclass(frozen=True)
class FigureSettings:
    """``specificity`` at which a sensitivity is read; ``rule`` and ``sensitivity`` choose the threshold."""

    specificity: float = 0.9
    rule: Rule = "youden"
    sensitivity: float = 0.95
    n_bootstrap: int = N_BOOTSTRAP


@dataclass(frozen=True, eq=False)
class Section:
    """Figures about one kind of thing. ``numbers`` say how many there are of what."""

    name: str
    numbers: dict[str, int]
    measures: dict[str, Measure]
    note: str = ""


@dataclass(frozen=True, eq=False)
class CohortFigures:
    """Everything that is printed, and what the curves are drawn from; parts are None where unknown."""

    sections: tuple[Section, ...]
    warning: str
    threshold: ThresholdChoice | None
    slide_counts: tuple[Counts, Counts]
    patches: ScoreCounts | None
    pixels: ScoreCounts | None
    reliability: NDArray[np.float64] | None
    """(3, bins), see :class:`SlideMeasures`."""
    froc: FrocCurve | None


def cohort_figures(cohort: EvaluatedCohort, settings: FigureSettings | None = None) -> CohortFigures:
    """All figures of an evaluated cohort. Raises DataError where no slide can be counted."""
    settings = settings or FigureSettings()
    counted = [slide for slide in cohort.slides if slide.positive or slide.score is not None]
    if not counted:
        raise DataError("no slide with known truth has a result, so there is nothing to measure")
    labels = np.array([slide.positive for slide in counted])
    scores = np.array([_MISSED if slide.score is None else slide.score for slide in counted])
    slides, choice = _of_slides(counted, scores, labels, settings)
    sections = [slides]
    measured = [slide for slide in counted if slide.measures is not None]
    measures = [slide.measures for slide in measured if slide.measures is not None]
    if measures:
        drawn = _draws(measured, settings)
        sections += [_of_patches(measures, drawn), _of_pixels(measures, drawn, cohort.settings.threshold)]
    with_hits = [slide for slide in counted if slide.hits is not None]
    hits = [slide.hits for slide in with_hits if slide.hits is not None]
    if any(len(slide.lesions) for slide in hits):
        sections.append(_of_lesions(hits, _draws(with_hits, settings)))
    once = np.ones(len(counted), np.int64)
    return CohortFigures(
        sections=tuple(sections),
        warning=warning_of_few([slide.unit for slide in counted], labels),
        threshold=choice,
        slide_counts=count_scores(scores, labels, once),
        patches=sum((m.patches for m in measures[1:]), measures[0].patches) if measures else None,
        pixels=sum((m.pixels for m in measures[1:]), measures[0].pixels) if measures else None,
        reliability=np.sum([m.reliability for m in measures], axis=0) if measures else None,
        froc=froc_curve(hits) if any(len(slide.lesions) for slide in hits) else None,
    )


def _draws(slides: Sequence[EvaluatedSlide], settings: FigureSettings) -> NDArray[np.int64]:
    positive = np.array([slide.positive for slide in slides])
    return draws([slide.unit for slide in slides], positive, settings.n_bootstrap)


def _of_slides(
    slides: Sequence[EvaluatedSlide],
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    settings: FigureSettings,
) -> tuple[Section, ThresholdChoice | None]:
    drawn = _draws(slides, settings)
    measures = _from_counts(
        lambda times: count_scores(scores, labels, times),
        drawn,
        {
            "auroc": auroc,
            f"sensitivity at specificity {settings.specificity:g}": (
                lambda negative, positive: sensitivity_at(settings.specificity, negative, positive)
            ),
        },
    )
    there = np.isfinite(scores)
    choice, note = None, ""
    try:
        units = [slide.unit for slide, finite in zip(slides, there.tolist(), strict=True) if finite]
        grouped = units if len(set(units)) < len(units) else None
        choice = choose_threshold(
            scores[there], labels[there], settings.rule, settings.sensitivity, groups=grouped
        )
    except DataError as error:
        note = str(error)
    if choice is not None:
        called = np.zeros(len(scores), np.bool_)  # what failed is called negative
        called[there] = scores[there] >= choice.out_of_fold
        measures["sensitivity, out of fold"] = _share(called, labels, drawn)
        measures["specificity, out of fold"] = _share(~called, ~labels, drawn)
        note = (
            f"threshold by {choice.rule}: {choice.threshold:.4f} for new slides; the out-of-fold figures use "
            f"{choice.n_folds} thresholds, each chosen without the slides it judges"
        )
    numbers = {
        "with the target": int(labels.sum()),
        "without": int((~labels).sum()),
        "failed": int((~there).sum()),
    }
    return Section("slides", numbers, measures, note), choice


def _of_patches(measures: Sequence[SlideMeasures], drawn: NDArray[np.int64]) -> Section:
    negative, positive = _stacked([m.patches for m in measures])
    figures = {"auroc": auroc, "average precision": average_precision}
    result = _from_counts(lambda times: (times @ negative, times @ positive), drawn, figures)
    reliability = np.stack([m.reliability for m in measures])
    value = float(calibration_error(reliability.sum(axis=0)))
    resampled = calibration_error(np.tensordot(drawn, reliability, axes=(1, 0)))
    result["calibration error"] = with_interval(value, resampled)
    numbers = {"with the target": int(positive.sum()), "without": int(negative.sum())}
    return Section("patches", numbers, result)


def _of_pixels(measures: Sequence[SlideMeasures], drawn: NDArray[np.int64], threshold: float) -> Section:
    negative, positive = _stacked([m.pixels for m in measures])
    figures = {"auroc": auroc, "average precision": average_precision}
    result = _from_counts(lambda times: (times @ negative, times @ positive), drawn, figures)
    overlap = np.stack([m.overlap for m in measures])
    for name, figure in (("dice", _dice), ("iou", _iou)):
        value, resampled = figure(overlap.sum(axis=0)), figure(drawn @ overlap)
        result[f"{name} at {threshold:g}"] = with_interval(float(value), resampled)
    numbers = {
        "with the target": int(positive.sum()),
        "without": int(negative.sum()),
        "of the target unseen": sum(m.unseen_target for m in measures),
    }
    return Section("pixels", numbers, result)


def _of_lesions(hits: Sequence[Hits], drawn: NDArray[np.int64]) -> Section:
    at_rates, resampled = froc_curve(hits).at_rates(), resampled_froc(hits, drawn)
    result = {"froc score": with_interval(float(at_rates.mean()), resampled.mean(axis=1))}
    for rate, value, column in zip(RATES, at_rates.tolist(), resampled.T, strict=True):
        result[f"sensitivity at {rate:g} false positives a slide"] = with_interval(value, column)
    numbers = {
        "lesions": sum(len(slide.lesions) for slide in hits),
        "isolated tumour cells, ignored": sum(slide.n_isolated for slide in hits),
        "false positives": sum(len(slide.false_positives) for slide in hits),
        "slides": len(hits),
    }
    return Section("lesions", numbers, result)


def calibration_error(reliability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gap between probability and share of positives over bins, weighted by their patches; (...).

    ``reliability`` (..., 3, bins) as in :class:`SlideMeasures`. It is about the target's probability, not
    the predicted class's (classwise ECE, Kull et al. 2019, arXiv 1910.12656), with 15 equal bins.
    """
    patches, summed, positive = np.moveaxis(reliability, -2, 0)
    gap: NDArray[np.float64] = np.abs(summed - positive).sum(axis=-1) / np.maximum(patches.sum(axis=-1), 1)
    return gap


def _stacked(counts: Sequence[ScoreCounts]) -> tuple[Counts, Counts]:
    """Negative and positive counts (slides, bins), without bins that are empty on all slides."""
    negative, positive = np.stack([c.negative for c in counts]), np.stack([c.positive for c in counts])
    used = negative.any(axis=0) | positive.any(axis=0)
    return negative[:, used], positive[:, used]


def _from_counts(
    counts_of: Callable[[NDArray[np.int64]], tuple[Counts, Counts]],
    drawn: NDArray[np.int64],
    figures: Mapping[str, Callable[[Counts, Counts], NDArray[np.float64]]],
) -> dict[str, Measure]:
    """Each figure of the slides as they are, with the interval over resamples (resamples, slides)."""
    value, resampled = counts_of(np.ones(drawn.shape[1], np.int64)), counts_of(drawn)
    return {name: with_interval(float(f(*value)), f(*resampled)) for name, f in figures.items()}


def _share(right: NDArray[np.bool_], of: NDArray[np.bool_], drawn: NDArray[np.int64]) -> Measure:
    """How many of some slides are right."""
    wanted, total = right & of, drawn @ of
    resampled = np.divide(drawn @ wanted, total, out=np.full(len(drawn), np.nan), where=total > 0)
    return with_interval(float(wanted.sum() / of.sum()) if of.any() else np.nan, resampled)


def _dice(overlap: NDArray[np.float64]) -> NDArray[np.float64]:
    iou = _iou(overlap)
    return 2 * iou / (1 + iou)


def _iou(overlap: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where there is no target, of which nothing can be found."""
    right, wrong, missed = np.moveaxis(overlap, -1, 0)
    return np.where(right + missed > 0, right / np.maximum(right + wrong + missed, 1), np.nan)
