"""What a classifier says of labelled pictures: its probabilities, its temperature, its evidence scales."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_cam.cam.explain import Explainer
from wsi_cam.classifiers.classifier import Classifier
from wsi_cam.training.calibration import fit_temperature
from wsi_cam.training.pixels import PatchPixels

_log = logging.getLogger(__name__)

#: Of the positive evidence in pictures of a class, this percentile is drawn in the full colour.
EVIDENCE_PERCENTILE = 99.5
_BATCH_SIZE = 32

OnProgress = Callable[[int, int], None]


def predict(
    classifier: Classifier, pixels: PatchPixels, on_progress: OnProgress | None = None
) -> NDArray[np.float32]:
    """Calibrated probabilities (n, classes) of all pictures."""
    parts = []
    for first in range(0, len(pixels), 4 * _BATCH_SIZE):
        indices = range(first, min(first + 4 * _BATCH_SIZE, len(pixels)))
        parts.append(classifier.predict(_as_images(pixels.batch(indices))))
        if on_progress is not None:
            on_progress(indices.stop, len(pixels))
    return np.concatenate(parts)


def fit_display(
    classifier: Classifier, pixels: PatchPixels, on_progress: OnProgress | None = None
) -> tuple[float, tuple[float, ...]]:
    """Temperature and evidence scale of every class, fitted on these pictures.

    The scale of a class is the 99.5th percentile of its positive evidence (layer4, Grad-CAM, logits)
    over all cells of its own pictures. Pictures of every class must be among them.
    """
    labels = pixels.patches.labels
    explainer = Explainer(classifier.network)
    logits = np.empty((len(pixels), len(classifier.card.class_names)), np.float32)
    positive: list[list[NDArray[np.float32]]] = [[] for _ in classifier.card.class_names]
    for first in range(0, len(pixels), _BATCH_SIZE):
        chosen = range(first, min(first + _BATCH_SIZE, len(pixels)))
        said, evidence = explainer(classifier.normalise(_as_images(pixels.batch(chosen))))
        logits[first : chosen.stop] = said.detach().cpu().numpy()
        of_label = evidence[torch.arange(len(chosen)), torch.from_numpy(labels[first : chosen.stop])]
        for label, cells in zip(
            labels[first : chosen.stop].tolist(), of_label.detach().cpu().numpy(), strict=True
        ):
            positive[label].append(cells[cells > 0])
        if on_progress is not None:
            on_progress(chosen.stop, len(pixels))
    scales = [_scale(cells, name) for cells, name in zip(positive, classifier.card.class_names, strict=True)]
    return fit_temperature(logits, labels), tuple(scales)


def _scale(positive: list[NDArray[np.float32]], class_name: str) -> float:
    cells = np.concatenate(positive)
    if not len(cells):
        _log.warning("no picture of class %r has positive evidence for it; its scale is set to 1", class_name)
        return 1.0
    return float(np.percentile(cells, EVIDENCE_PERCENTILE))


def _as_images(batch: torch.Tensor) -> torch.Tensor:
    """(n, 3, s, s) to the (n, s, s, 3) that a classifier takes."""
    return batch.permute(0, 2, 3, 1).contiguous()
