"""From fitted weights to a bundle whose card holds what was measured on the very files it ships."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from wsi_cam.classifiers.bundle import Classifier, ModelCard, load_classifier, save_bundle
from wsi_cam.training.calibration import at_temperature_one, expected_calibration_error
from wsi_cam.training.card import describe_measuring
from wsi_cam.training.measuring import fit_display, predict
from wsi_cam.training.metrics import Metrics, measure
from wsi_cam.training.pixels import PatchPixels

OnProgress = Callable[[str, int, int, float | None], None]


def publish(
    folder: Path,
    network: nn.Module,
    card: ModelCard,
    fit_part: PatchPixels,
    report_part: PatchPixels,
    device: str,
    replace_existing: bool = False,
    on_progress: OnProgress | None = None,
) -> Metrics:
    """Fit temperature and evidence scales, measure, and write the bundle. Returns what was measured.

    All of it is done with the network as it comes back from the files: head centred, convolutions
    rounded to float16. ``card`` lacks only what is found here.
    """
    said = _Stage(on_progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        save_bundle(Path(scratch) / "plain", network, card)
        plain = load_classifier(Path(scratch) / "plain", device)
        temperature, scales = fit_display(plain, fit_part, said("calibrating"))
        fitted_card = replace(plain.card, temperature=temperature, evidence_scale=scales)
        classifier = Classifier(plain.network, fitted_card, device)
        metrics, error_before = measure_classifier(classifier, report_part, said("measuring"))
        final = replace(fitted_card, extra={**card.extra, **describe_measuring(metrics, error_before)})
        save_bundle(folder, plain.network, final, replace_existing)
    return metrics


def measure_classifier(
    classifier: Classifier, pixels: PatchPixels, on_progress: Callable[[int, int], None] | None = None
) -> tuple[Metrics, float]:
    """Metrics of the calibrated probabilities, and the calibration error at temperature 1."""
    patches = pixels.patches
    probabilities = predict(classifier, pixels, on_progress)
    plain = at_temperature_one(probabilities, classifier.card.temperature)
    metrics = measure(probabilities, patches.labels, patches.class_names, patches.groups)
    return metrics, expected_calibration_error(plain, patches.labels)


class _Stage:
    """Names the stage whose progress is reported."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress

    def __call__(self, name: str) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            if self._on_progress is not None:
                self._on_progress(name, done, total, None)

        return report
