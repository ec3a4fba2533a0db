from __future__ import annotations

import copy
import gc

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from tests.cam.oracle import by_gradients, hooks
from tests.make_models import colour_network
from wsi_cam.cam.explain import Explainer
from wsi_cam.cam.methods import CAM_METHODS


def living_tensors() -> int:
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


# Both ways to the evidence


@pytest.mark.parametrize("size", [64, 100])
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
    assert evidence.shape == (2, 3, 64 // cell_px, 64 // cell_px)
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
    assert evidence.shape == (2, 3, 2, 2)
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
            ours = scale_cam_image(evidence[:, c].clamp(min=0).numpy(), (64, 64))
            np.testing.assert_allclose(scale_cam_image(ours), theirs, atol=1e-4)


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
