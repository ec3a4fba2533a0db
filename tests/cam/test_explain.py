from __future__ import annotations

import copy
import gc

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from tests.make_models import MARKER_RGB, colour_network, model_card
from wsi_cam.cam.explain import Explainer
from wsi_cam.cam.methods import CAM_METHODS
from wsi_cam.errors import ModelError


def by_gradients(network: nn.Module, layer: str, batch: torch.Tensor) -> torch.Tensor:
    """The slow, obvious evidence: one whole pass with a graph for each image, one gradient for each class."""
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        kept.append(output)
        return output.clone()  # what follows may work in place

    handle = network.get_submodule(layer).register_forward_hook(keep)
    maps = []
    for image in batch:
        logits = network(image[None])[0]
        activations = kept.pop()
        per_class = []
        for logit in logits:
            (gradients,) = torch.autograd.grad(logit, activations, retain_graph=True)
            weights = gradients.sum(dim=(2, 3), keepdim=True)
            per_class.append((weights * activations).sum(dim=1)[0].detach())
        maps.append(torch.stack(per_class))
    handle.remove()
    return torch.stack(maps)


def living_tensors() -> int:
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


def hooks(network: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in network.modules()
    )


# Both ways to the evidence


@pytest.mark.parametrize("size", [64, 96, 250])
def test_in_double_precision_the_closed_form_is_the_gradient_at_every_class(
    network: nn.Module, size: int
) -> None:
    network = copy.deepcopy(network).double()
    batch = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    explainer = Explainer(network)
    assert explainer.closed_form
    logits, evidence = explainer(batch)
    cells = -(-size // 32)
    assert evidence.shape == (2, 3, cells, cells)
    assert evidence.dtype == torch.float64
    expected = by_gradients(network, "layer4", batch)
    assert float((evidence - expected).abs().max()) < 1e-10
    # Completeness: a map averages to the logit less its bias.
    bias = network.get_submodule("fc").bias
    assert isinstance(bias, torch.Tensor)
    assert float((evidence.mean(dim=(2, 3)) + bias.detach() - logits).abs().max()) < 1e-12


def test_in_single_precision_both_ways_agree_to_a_ten_thousandth_of_the_range(
    network: nn.Module, pictures: torch.Tensor
) -> None:
    _, evidence = Explainer(network)(pictures)
    expected = by_gradients(network, "layer4", pictures)
    assert evidence.dtype == torch.float32
    assert float((evidence - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("layer", "cell_px"),
    [("layer3", 16), ("layer1", 4), ("layer4.1", 32), ("layer4.2.bn3", 32), ("conv1", 2)],
)
def test_other_layers_take_the_gradient_from_there_on(
    network: nn.Module, pictures: torch.Tensor, layer: str, cell_px: int
) -> None:
    explainer = Explainer(network, layer)
    assert not explainer.closed_form
    assert explainer.cell_px == cell_px
    logits, evidence = explainer(pictures)
    assert evidence.shape == (2, 3, 96 // cell_px, 96 // cell_px)
    with torch.inference_mode():
        assert torch.equal(logits, network(pictures))
    expected = by_gradients(network, layer, pictures)
    assert float((evidence - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("method", CAM_METHODS)
def test_every_method_explains_every_class_at_the_last_stage(
    network: nn.Module, pictures: torch.Tensor, method: str
) -> None:
    explainer = Explainer(network, method=method)
    assert explainer.closed_form == (method in ("gradcam", "hirescam"))
    _, evidence = explainer(pictures)
    assert evidence.shape == (2, 3, 3, 3)
    assert bool(torch.isfinite(evidence).all())
    if explainer.closed_form:
        expected = Explainer(network)(pictures)[1]
        assert torch.equal(evidence, expected)


def test_logits_are_those_of_the_plain_network_to_the_bit(network: nn.Module, pictures: torch.Tensor) -> None:
    with torch.inference_mode():
        expected = network(pictures)
    assert torch.equal(Explainer(network)(pictures)[0], expected)


# Against the library that everybody knows


@pytest.mark.parametrize(("layer", "closed_form"), [("layer4", True), ("layer3", False)])
def test_scaled_like_pytorch_grad_cam_the_maps_are_its_maps(
    network: nn.Module, pictures: torch.Tensor, layer: str, closed_form: bool
) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    explainer = Explainer(network, layer)
    assert explainer.closed_form == closed_form
    _, evidence = explainer(pictures)
    model = copy.deepcopy(network)
    with GradCAM(model, [model.get_submodule(layer)]) as library:
        for c in range(3):
            theirs = library(pictures, [ClassifierOutputTarget(c)] * 2)
            ours = scale_cam_image(evidence[:, c].clamp(min=0).numpy(), (96, 96))
            np.testing.assert_allclose(scale_cam_image(ours), theirs, atol=1e-4)


# What a network must look like for the closed form


class Ending(nn.Module):
    """A trunk, and an ending that looks almost like pooling and one linear layer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer4 = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.AvgPool2d(32))
        self.avgpool = nn.AdaptiveMaxPool2d(1) if kind == "max" else nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.hidden = nn.Linear(6, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer4(x)
        if self.kind == "functional relu":
            x = torch.relu(x)
        if self.kind == "in-place relu":
            x = torch.relu_(x)
        if self.kind == "offset":
            x = x + 0.1
        x = self.avgpool(x).flatten(1)
        if self.kind == "hidden":
            x = torch.tanh(self.hidden(x))
        y: torch.Tensor = self.fc(self.dropout(x))
        return 2 * y if self.kind == "scaled" else y


def test_dropout_before_the_head_does_no_harm() -> None:
    network = Ending("plain").train()
    explainer = Explainer(network)
    assert explainer.closed_form
    batch = torch.randn(2, 3, 64, 64)
    first, second = explainer(batch), explainer(batch)
    assert torch.equal(first[1], second[1])
    assert network.training
    assert network.dropout.training


@pytest.mark.parametrize("kind", ["max", "functional relu", "in-place relu", "offset", "hidden", "scaled"])
def test_an_ending_that_only_looks_right_is_explained_by_gradients(kind: str) -> None:
    torch.manual_seed(1)
    network = Ending(kind).double().eval()
    explainer = Explainer(network)
    assert not explainer.closed_form
    batch = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert float((explainer(batch)[1] - by_gradients(network, "layer4", batch)).abs().max()) < 1e-10


def test_a_stub_of_resnets_shape_is_explained_as_a_resnet_is() -> None:
    card = model_card()
    explainer = Explainer(colour_network())
    assert explainer.closed_form
    assert explainer.cell_px == 32
    picture = torch.full((1, 96, 96, 3), 240, dtype=torch.uint8)
    picture[0, 32:64, 64:] = torch.tensor(MARKER_RGB, dtype=torch.uint8)
    batch = ((picture / 255 - torch.tensor(card.mean)) / torch.tensor(card.std)).permute(0, 3, 1, 2)
    _, evidence = explainer(batch)
    expected = torch.zeros(3, 3)
    expected[1, 2] = 10.0
    torch.testing.assert_close(evidence[0, 1], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(evidence[0, 0], -expected, atol=1e-4, rtol=0)


# What cannot be explained


@pytest.mark.parametrize(
    ("layer", "method", "reason"),
    [
        ("layer5", "gradcam", "no such layer; it has conv1"),
        ("", "gradcam", "no such layer"),
        ("fc", "gradcam", "no map"),
        ("avgpool", "gradcam", None),
        ("layer4.2.relu", "gradcam", "used 3 times in one pass"),
        ("layer4", "eigencam", "use one of gradcam"),
    ],
)
def test_a_layer_or_method_that_does_not_serve_is_refused(
    network: nn.Module, layer: str, method: str, reason: str | None
) -> None:
    if reason is None:  # one cell for the whole picture: coarse, but a map
        assert Explainer(network, layer, method).cell_px == 128
        return
    with pytest.raises(ModelError, match=reason) as refused:
        Explainer(network, layer, method)
    assert "\n" not in str(refused.value)
    assert hooks(network) == 0


class Aside(nn.Module):
    """A layer that runs, and whose output nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4, self.aside, self.fc = nn.Conv2d(3, 2, 32, 32), nn.Conv2d(3, 2, 32, 32), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.aside(x)
        y: torch.Tensor = self.fc(self.layer4(x).mean(dim=(2, 3)))
        return y


class NoLogits(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_layer_without_influence_is_refused() -> None:
    with pytest.raises(ModelError, match="no gradient reaches it"):
        Explainer(Aside(), "aside")


def test_a_network_that_is_no_classifier_is_refused() -> None:
    with pytest.raises(ModelError, match="does not give logits"):
        Explainer(nn.Sequential(nn.Conv2d(3, 2, 32, 32), NoLogits()), "0")
    with pytest.raises(ModelError, match="does not take an RGB picture"):
        Explainer(nn.Sequential(nn.Conv2d(4, 2, 1), nn.Flatten()), "0")


# Nothing lingers


@pytest.mark.parametrize("layer", ["layer4", "layer3"])
def test_two_hundred_calls_leave_no_hook_no_graph_and_no_memory(layer: str) -> None:
    network = colour_network(3)
    explainer = Explainer(network, layer)
    batch = torch.randn(8, 3, 128, 128)
    process = psutil.Process()
    tensors_before = memory_before = 0
    for call in range(200):
        logits, evidence = explainer(batch)
        assert not logits.requires_grad
        assert not evidence.requires_grad
        if call == 20:
            gc.collect()
            memory_before, tensors_before = process.memory_info().rss, living_tensors()
    gc.collect()
    assert living_tensors() <= tensors_before
    assert process.memory_info().rss - memory_before < 8 * 2**20
    assert hooks(network) == 0
    assert all(p.grad is None for p in network.parameters())


def test_a_call_that_fails_leaves_no_hook_and_no_switch_behind(network: nn.Module) -> None:
    for layer in ("layer4", "layer3"):
        explainer = Explainer(network, layer)
        with pytest.raises(RuntimeError):
            explainer(torch.randn(1, 4, 64, 64))
        assert hooks(network) == 0
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")


def test_the_callers_switches_do_not_change_the_answer(network: nn.Module, pictures: torch.Tensor) -> None:
    for layer in ("layer4", "layer3"):
        explainer = Explainer(network, layer)
        expected = explainer(pictures)[1]
        with torch.no_grad():
            assert torch.equal(explainer(pictures)[1], expected)
        with torch.inference_mode():
            assert torch.equal(explainer(pictures)[1], expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(explainer(pictures)[1], expected)
            assert torch.is_autocast_enabled("cpu")


def test_the_global_random_numbers_are_not_touched(network: nn.Module) -> None:
    before = torch.get_rng_state()
    Explainer(network)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("layer", ["layer4", "layer3"])
def test_in_mixed_precision_head_and_maps_stay_in_single(
    network: nn.Module, pictures: torch.Tensor, layer: str
) -> None:
    expected_logits, expected = Explainer(network, layer)(pictures)
    logits, evidence = Explainer(network, layer, trunk_dtype=torch.bfloat16)(pictures)
    assert logits.dtype == evidence.dtype == torch.float32
    assert 0 < float((evidence - expected).abs().max()) < 0.05 * float(expected.abs().max())
    assert float((logits - expected_logits).abs().max()) < 0.05 * float(expected_logits.abs().max())
    if layer == "layer4":
        bias = network.get_submodule("fc").bias
        assert isinstance(bias, torch.Tensor)
        torch.testing.assert_close(evidence.mean(dim=(2, 3)) + bias.detach(), logits)
