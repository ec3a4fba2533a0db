from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.make_models import colour_network, random_resnet50
from wsi_cam.cam.explain import Explainer
from wsi_cam.classifiers.folding import with_norms_folded
from wsi_cam.classifiers.fusing import FusedBottleneck, FusedStem, with_activations_fused
from wsi_cam.classifiers.resnet50 import StrideIn


def images(n: int = 2, size_px: int = 96) -> torch.Tensor:
    noise = torch.randn(n, 3, size_px, size_px, generator=torch.Generator().manual_seed(3))
    return noise.to(memory_format=torch.channels_last)


SHAPE = (4, 3, 96, 96)


@pytest.fixture(scope="module")
def folded(network: nn.Module) -> nn.Module:
    return with_norms_folded(network)


def fused_blocks(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, FusedBottleneck)]


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
def test_a_fused_resnet_gives_the_same_answers_to_any_batch(stride_in: StrideIn) -> None:
    folded = with_norms_folded(random_resnet50(3, stride_in, seed=4))
    fused = with_activations_fused(folded, "layer4", SHAPE)
    assert len(fused_blocks(fused)) == 16
    assert isinstance(fused.get_submodule("conv1"), FusedStem)
    for n, size_px in ((4, 96), (1, 96), (3, 128), (2, 33)):
        with torch.inference_mode():
            expected, got = folded(images(n, size_px)), fused(images(n, size_px))
        assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_the_network_itself_stays_as_it_was(folded: nn.Module) -> None:
    before = folded(images()).detach()
    with_activations_fused(folded, "layer4", SHAPE)
    assert fused_blocks(folded) == []
    assert torch.equal(folded(images()), before)


def test_the_picture_that_was_given_is_not_written_over(folded: nn.Module) -> None:
    given = images()
    before = given.clone()
    with torch.inference_mode():
        with_activations_fused(folded, "layer4", SHAPE)(given)
    assert torch.equal(given, before)


@pytest.mark.parametrize(
    ("layer", "method", "n_fused"),
    [
        ("layer4", "gradcam", 16),
        ("layer4", "gradcam++", 16),
        ("layer3", "gradcam", 13),
        ("layer4.1", "gradcam", 15),
        ("layer4.1.conv3", "gradcam", 14),
        ("layer4.1.relu", "gradcam", 14),
        ("maxpool", "gradcam", 0),
        ("conv1", "gradcam", 0),
        ("bn1", "gradcam", 0),
        ("relu", "gradcam", 0),
    ],
)
def test_what_comes_before_a_layer_is_fused_and_the_layer_explained_as_without(
    network: nn.Module, layer: str, method: str, n_fused: int
) -> None:
    folded = with_norms_folded(network, untouched=(layer,))
    fused = with_activations_fused(folded, layer, SHAPE)
    assert len(fused_blocks(fused)) == n_fused
    assert isinstance(fused.get_submodule("conv1"), FusedStem) == (n_fused > 0 or layer == "maxpool")
    if layer == "layer4.1.relu":  # used three times in one pass: no explainer takes it
        return
    for expected, got in zip(
        Explainer(folded, layer, method)(images()), Explainer(fused, layer, method)(images()), strict=True
    ):
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_blocks_with_norms_are_left_alone(network: nn.Module) -> None:
    assert fused_blocks(with_activations_fused(network, "layer4", SHAPE)) == []


def test_other_networks_are_left_alone() -> None:
    stub = colour_network()
    assert with_activations_fused(stub, "layer4", SHAPE) is stub


def test_other_precisions_are_left_alone() -> None:
    double = with_norms_folded(random_resnet50()).double()
    assert with_activations_fused(double, "layer4", SHAPE) is double


def test_a_processor_without_these_operators_computes_as_before(
    folded: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert with_activations_fused(folded, "layer4", SHAPE) is folded


def test_operators_that_refuse_are_not_used(folded: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise TypeError("an argument more is wanted")

    monkeypatch.setattr("wsi_cam.classifiers.fusing._packed", refuse)
    assert with_activations_fused(folded, "layer4", SHAPE) is folded
