"""The explanation's price: bare forward, forward and evidence of all classes, and other CAM libraries.

ResNet-50 with random weights, three classes, float32, batches of 8 at 224 px, channels_last, the same input
for all. "patch_explainer" is what a run does, from uint8, with norms folded and activations fused. The other
libraries are asked for plain Grad-CAM of layer4, for one class and for three, as their documentation shows.

"openvino" is measured where OpenVINO is installed: the same network, logits and evidence of all classes as
one compiled model in float32, from normalised images. It is no backend of this package: what it gains over
"patch_explainer" (openvino_patches_over_patch_explainers) does not pay for one more runtime that compiles
the network anew at every start. It was tried with AVX2, without VNNI or AMX.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torchcam.methods import GradCAM as TorchCam

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

    def forward() -> None:
        with torch.inference_mode():
            network(batch)

    peers = _peers(batch, Classifier(random_resnet50(CLASSES), card, "cpu").network)
    if importlib.util.find_spec("openvino"):
        peers["openvino"] = _with_openvino(batch, random_resnet50(CLASSES))
    ways: dict[str, Callable[[], object]] = {
        "forward": forward,
        "forward_and_evidence": lambda: explainer(batch),
        "patch_explainer": lambda: patch_explainer.explain(pixels),
        **peers,
    }
    seconds = alternate(ways, 2 if quick else 7)
    ours = seconds["forward_and_evidence"]
    return {
        "patches_per_s": {name: round(BATCH_SIZE / statistics.median(s), 2) for name, s in seconds.items()},
        "forward_and_evidence_over_forward": median_ratio(ours, seconds["forward"]),
        "patch_explainer_over_forward": median_ratio(seconds["patch_explainer"], seconds["forward"]),
        **{f"{name}_over_ours": median_ratio(seconds[name], ours) for name in peers},
        **_gain_of_openvino(seconds),
    }


def _gain_of_openvino(seconds: dict[str, list[float]]) -> dict[str, float]:
    if "openvino" not in seconds:
        return {}
    gain = median_ratio(seconds["patch_explainer"], seconds["openvino"])
    return {"openvino_patches_over_patch_explainers": gain}


def _peers(batch: torch.Tensor, network: torch.nn.Module) -> dict[str, Callable[[], object]]:
    """Each library for one class and for all; ``network`` is a copy that their hooks may stay on."""
    layer = network.get_submodule("layer4")

    def pytorch_grad_cam(n_classes: int) -> None:
        with GradCAM(model=network, target_layers=[layer]) as cam:
            for c in range(n_classes):
                cam(batch, targets=[ClassifierOutputTarget(c)] * BATCH_SIZE)

    def torch_cam(n_classes: int) -> None:
        with TorchCam(network, target_layer=layer) as cam:
            scores = network(batch)
            for c in range(n_classes):
                cam([c] * BATCH_SIZE, scores, retain_graph=c < n_classes - 1)

    def captum(n_classes: int) -> None:
        cam = LayerGradCam(network, layer)
        for c in range(n_classes):
            cam.attribute(batch, target=c)

    libraries = {"pytorch_grad_cam": pytorch_grad_cam, "torch_cam": torch_cam, "captum": captum}
    return {
        f"{name}_{n_classes}_class{'es' if n_classes > 1 else ''}": lambda explain=explain, n=n_classes: (
            explain(n)
        )
        for name, explain in libraries.items()
        for n_classes in (1, CLASSES)
    }


def _with_openvino(batch: torch.Tensor, network: torch.nn.Module) -> Callable[[], object]:
    """The network cut at layer4: its features, and from them evidence and logits."""
    import openvino

    class WithEvidence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            stages = [child for name, child in network.named_children() if name not in ("avgpool", "fc")]
            self.trunk, self.head = torch.nn.Sequential(*stages), network.get_submodule("fc")

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            evidence = torch.einsum("nkhw,ck->nchw", self.trunk(images), self.head.weight)
            return evidence.mean((2, 3)) + self.head.bias, evidence

    images = batch.contiguous()
    model = openvino.convert_model(WithEvidence().eval(), example_input=images, input=list(images.shape))
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.compile_model(model, "CPU", exact)
    return lambda: compiled([images.numpy()])
