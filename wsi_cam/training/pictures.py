"""Pictures of a training: its curves, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wsi_cam.publishing import published
from wsi_cam.training.metrics import Metrics


def draw_training_curves(
    path: Path, losses: Sequence[float], history: Sequence[dict[str, float]], head_steps: int
) -> None:
    """Loss of every training step, smoothed over 50, and loss and accuracy on the fit part."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes, accuracy_axes = figure.subplots(1, 2)
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="0.8", linewidth=0.8, label="training, each batch")
    width = min(50, len(losses))
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    axes.plot(steps[width - 1 :], smooth, color="tab:blue", label=f"training, mean of {width}")
    at = [entry["step"] for entry in history]
    axes.plot(
        at, [e["fit_loss"] for e in history], "o-", color="tab:orange", label="fit part, averaged weights"
    )
    if head_steps:
        axes.axvline(head_steps, color="0.4", linestyle=":", label="head alone before")
    axes.set(xlabel="step", ylabel="cross-entropy", ylim=(0, None))
    axes.legend(frameon=False, fontsize="small")
    accuracy_axes.plot(at, [e["fit_accuracy"] for e in history], "o-", color="tab:orange")
    accuracy_axes.set(xlabel="step", ylabel="accuracy on the fit part", ylim=(None, 1), xlim=axes.get_xlim())
    _save(figure, path)


def draw_confusion(path: Path, metrics: Metrics) -> None:
    """Counts in cells coloured by the share of the true class."""
    counts = np.array(metrics.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 0.7 * len(counts)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*counts.shape):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, f"{counts[i, j]}\n{shares[i, j]:.1%}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(counts)), metrics.class_names, rotation=30, ha="right")
    axes.set_yticks(range(len(counts)), metrics.class_names)
    accuracy = metrics.measures["balanced_accuracy"]
    axes.set(
        xlabel="taken for", ylabel="is", title=f"balanced accuracy {accuracy.value:.3f}, n = {metrics.n}"
    )
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with published(path, "choose another -o") as partial:
        figure.savefig(partial, dpi=120, format="png")
