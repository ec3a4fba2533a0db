"""``OUT/evaluation/``: the figures as JSON, each slide's part, the curves as CSV and one picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_cam.evaluation.cohort import EvaluatedCohort
from wsi_cam.evaluation.counts import precision_recall_points, roc_points
from wsi_cam.evaluation.figures import CohortFigures
from wsi_cam.evaluation.pictures import draw_curves
from wsi_cam.publishing import published
from wsi_cam.run_folder import write_json

Row = Sequence[Any]


def write_evaluation(folder: Path, cohort: EvaluatedCohort, figures: CohortFigures) -> list[Path]:
    """Write ``figures.json``, ``slides.csv``, ``*_curve.csv``, ``reliability.csv`` and ``curves.png``.

    Files of an older evaluation are replaced. Raises OutputError where the folder cannot be written.
    """
    written = [
        _write_csv(folder / "slides.csv", _SLIDE_COLUMNS, _slide_rows(cohort, figures)),
        *(_write_csv(folder / f"{name}.csv", columns, rows) for name, columns, rows in _curves(figures)),
    ]
    with published(folder / "curves.png") as partial:
        draw_curves(partial, cohort, figures)
    write_json(folder / "figures.json", figures_as_dict(cohort, figures))
    return [*written, folder / "curves.png", folder / "figures.json"]


def figures_as_dict(cohort: EvaluatedCohort, figures: CohortFigures) -> dict[str, Any]:
    """All figures for JSON: each as [value, low, high], null where undefined."""
    choice = figures.threshold
    return {
        "class": cohort.class_name,
        "resampled": cohort.units,
        "warning": figures.warning,
        "remarks": list(cohort.remarks),
        "settings": {
            "pixel_threshold": cohort.settings.threshold,
            "detection_window_um": cohort.settings.nms_um,
            "detection_least_probability": cohort.settings.least_probability,
        },
        "sections": {
            section.name: {
                "numbers": section.numbers,
                "figures": {name: measure.as_list() for name, measure in section.measures.items()},
                "note": section.note,
            }
            for section in figures.sections
        },
        "slide_threshold": None if choice is None else {"value": choice.threshold, "rule": choice.rule},
        "failed": {slide.sample_id: slide.reason for slide in cohort.slides if slide.score is None},
        "without_truth": list(cohort.without_truth),
        "truth_without_slide": list(cohort.truth_without_slide),
    }


_SLIDE_COLUMNS = (
    "sample_id", "positive", "score", "out_of_fold_threshold", "lesions", "lesions_found", "isolated",
    "false_positives", "dice", "error",
)  # fmt: skip


def _slide_rows(cohort: EvaluatedCohort, figures: CohortFigures) -> Iterable[Row]:
    scored = [s for s in cohort.slides if s.score is not None]
    thresholds = [""] * len(scored) if figures.threshold is None else figures.threshold.out_of_fold.tolist()
    of_slide = {slide.sample_id: threshold for slide, threshold in zip(scored, thresholds, strict=True)}
    for slide in cohort.slides:
        hits, dice = slide.hits, ""
        if slide.measures is not None and slide.measures.overlap.any():
            right, wrong, missed = slide.measures.overlap.tolist()
            dice = f"{2 * right / (2 * right + wrong + missed):.5f}"
        yield (
            slide.sample_id,
            int(slide.positive),
            "" if slide.score is None else slide.score,
            of_slide.get(slide.sample_id, ""),
            *(("",) * 4 if hits is None else (
                len(hits.lesions), int((hits.lesions > 0).sum()), hits.n_isolated, len(hits.false_positives)
            )),
            dice,
            slide.reason,
        )  # fmt: skip


def _curves(figures: CohortFigures) -> Iterable[tuple[str, Sequence[str], Iterable[Row]]]:
    """Name, columns and rows of each curve there is."""
    roc_columns, pr_columns = ("false_positive_rate", "sensitivity"), ("recall", "precision")
    yield "slide_roc_curve", roc_columns, _rows(*roc_points(*figures.slide_counts))
    for name, counts in (("patch", figures.patches), ("pixel", figures.pixels)):
        if counts is not None:
            yield f"{name}_roc_curve", roc_columns, _rows(*roc_points(counts.negative, counts.positive))
            points = precision_recall_points(counts.negative, counts.positive)
            yield f"{name}_precision_recall_curve", pr_columns, _rows(*points)
    if figures.froc is not None:
        froc = figures.froc
        columns = ("false_positives_per_slide", "sensitivity", "threshold")
        yield "froc_curve", columns, _rows(froc.false_positives, froc.sensitivity, froc.threshold)
    if figures.reliability is not None:
        patches, summed, positive = figures.reliability
        there = patches > 0
        means = (summed[there] / patches[there], positive[there] / patches[there])
        yield "reliability", ("mean_probability", "share_positive", "patches"), _rows(*means, patches[there])


def _rows(*columns: NDArray[np.float64]) -> list[Row]:
    """Rows of equal columns; those that repeat the row before are left out."""
    table = np.stack(columns, axis=1)
    fresh = np.ones(len(table), np.bool_)
    fresh[1:] = (table[1:] != table[:-1]).any(axis=1)
    rows: list[Row] = np.round(table[fresh], 8).tolist()
    return rows


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with published(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path
