"""The curves of an evaluation in one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wsi_cam.evaluation.cohort import EvaluatedCohort
from wsi_cam.evaluation.counts import Counts, roc_points
from wsi_cam.evaluation.figures import CohortFigures
from wsi_cam.evaluation.froc import RATES, FrocCurve


def draw_curves(path: Path, cohort: EvaluatedCohort, figures: CohortFigures) -> None:
    """ROC of slides and patches, FROC and reliability, as far as there are such, side by side; a PNG."""
    parts = 2 + (figures.froc is not None) if figures.patches is not None else 1
    figure = Figure(figsize=(4.2 * parts, 4.2), layout="constrained", dpi=80)
    axes = figure.subplots(1, parts, squeeze=False)[0]
    measures = {section.name: section.measures for section in figures.sections}
    _diagonal(axes[0], "false positive rate", "sensitivity", f"ROC of {cohort.class_name}")
    _draw_roc(axes[0], "slides", figures.slide_counts, measures["slides"]["auroc"].value)
    if figures.patches is not None and figures.reliability is not None:
        counts = figures.patches.negative, figures.patches.positive
        _draw_roc(axes[0], "patches", counts, measures["patches"]["auroc"].value)
        _draw_reliability(axes[1], figures.reliability, measures["patches"]["calibration error"].value)
    if figures.froc is not None:
        _draw_froc(axes[-1], figures.froc, measures["lesions"]["froc score"].value)
    if axes[0].get_legend_handles_labels()[1]:
        axes[0].legend(frameon=False, loc="lower right", fontsize="small")
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", metadata={"Software": ""})


def _draw_roc(axes: Axes, name: str, counts: tuple[Counts, Counts], area: float) -> None:
    """Nothing where one of the two kinds is missing."""
    if np.isfinite(area):
        colour = {"slides": "tab:blue", "patches": "tab:orange"}[name]
        drawstyle = "steps-post" if name == "slides" else "default"
        label = f"{name}, AUROC {area:.3f}"
        # Not clipped: a curve along the frame is a curve, too.
        axes.plot(*roc_points(*counts), drawstyle=drawstyle, color=colour, label=label, clip_on=False)


def _diagonal(axes: Axes, x: str, y: str, title: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(0, 1), ylim=(0, 1.01), aspect="equal")


def _draw_reliability(axes: Axes, reliability: NDArray[np.float64], error: float) -> None:
    patches, summed, positive = reliability
    there = patches > 0
    _diagonal(axes, "probability of patches", "share that is positive", f"reliability, error {error:.3f}")
    axes.plot(summed[there] / patches[there], positive[there] / patches[there], "o-", color="tab:orange")


def _draw_froc(axes: Axes, froc: FrocCurve, score: float) -> None:
    axes.plot(froc.false_positives, froc.sensitivity, color="tab:green")
    axes.plot(RATES, froc.at_rates(), "o", color="tab:green")
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATES, ["1/4", "1/2", "1", "2", "4", "8"])
    axes.set(
        xlabel="false positives per slide",
        ylabel="sensitivity to lesions",
        title=f"FROC, score {score:.3f}",
        xlim=(RATES[0] / 2, RATES[-1] * 2),
        ylim=(0, 1.01),
    )
