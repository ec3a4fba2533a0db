"""The explanation's price: bare forward, forward and evidence of all classes, and pytorch-grad-cam.

ResNet-50 with random weights, three classes, float32, batches of 8 at 224 px, channels_last, the same input
for all. "PatchExplainer" is what a run does, from uint8, with batch norms folded.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from scripts.benchmarks.pairing import alternate, median_ratio
from tests.make_models import model_card, random_resnet50
from wsi_cam.cam.explain import Explainer
from wsi_cam.classifiers.classifier import Classifier
from wsi_cam.inference import PatchExplainer

BATCH_SIZE, CLASSES = 8, 3


def measure(work: Path, quick: bool) -> dict[str, Any]:
    size_px = 96 if quick else 224
    card = model_card(class_names=("a", "b", "c"), patch_size_px=size_px)
    classifier = Classifier(random_resnet50(CLASSES), card, "cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, size_px, size_px, 3), np.uint8)
    batch, network = classifier.normalise(pixels), classifier.network
    explainer, patch_explainer = Explainer(network), PatchExplainer(classifier, batch_size=BATCH_SIZE)
    # A copy for the peer: its hooks must not slow the others down.
    peer_network = Classifier(random_resnet50(CLASSES), card, "cpu").network

    def forward() -> None:
        with torch.inference_mode():
            network(batch)

    def peer(n_classes: int) -> Callable[[], None]:
        def explain() -> None:
            with GradCAM(model=peer_network, target_layers=[peer_network.get_submodule("layer4")]) as cam:
                for c in range(n_classes):
                    cam(batch, targets=[ClassifierOutputTarget(c)] * BATCH_SIZE)

        return explain

    ways: dict[str, Callable[[], object]] = {
        "forward": forward,
        "forward_and_evidence": lambda: explainer(batch),
        "patch_explainer": lambda: patch_explainer.explain(pixels),
        "pytorch_grad_cam_1_class": peer(1),
        "pytorch_grad_cam_3_classes": peer(CLASSES),
    }
    seconds = alternate(ways, 2 if quick else 9)
    ours = seconds["forward_and_evidence"]
    return {
        "patches_per_s": {name: round(BATCH_SIZE / statistics.median(s), 2) for name, s in seconds.items()},
        "forward_and_evidence_over_forward": median_ratio(ours, seconds["forward"]),
        "patch_explainer_over_forward": median_ratio(seconds["patch_explainer"], seconds["forward"]),
        "pytorch_grad_cam_1_class_over_ours": median_ratio(seconds["pytorch_grad_cam_1_class"], ours),
        "pytorch_grad_cam_3_classes_over_ours": median_ratio(seconds["pytorch_grad_cam_3_classes"], ours),
    }
