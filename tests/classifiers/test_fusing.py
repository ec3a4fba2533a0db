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


@pytest.fixture(scope="module")
def folded(network: nn.Module) -> nn.Module:
    return with_norms_folded(network)


def n_fused(network: nn.Module) -> int:
    return sum(isinstance(module, FusedBottleneck) for module in network.modules())


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
def test_a_fused_resnet_gives_the_same_answers(stride_in: StrideIn) -> None:
    folded = with_norms_folded(random_resnet50(3, stride_in, seed=4))
    fused = with_activations_fused(folded)
    assert n_fused(fused) == 16
    assert isinstance(fused.get_submodule("conv1"), FusedStem)
    with torch.inference_mode():
        expected, got = folded(images()), fused(images())
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_the_network_itself_stays_as_it_was_and_shares_its_weights(folded: nn.Module) -> None:
    fused = with_activations_fused(folded)
    assert n_fused(folded) == 0
    assert {p.data_ptr() for p in fused.parameters()} == {p.data_ptr() for p in folded.parameters()}


def test_the_picture_that_was_given_is_not_written_over(folded: nn.Module) -> None:
    given = images()
    before = given.clone()
    with torch.inference_mode():
        with_activations_fused(folded)(given)
    assert torch.equal(given, before)


@pytest.mark.parametrize(
    ("layer", "method"),
    [
        ("layer4", "gradcam"),
        ("layer4", "gradcam++"),
        ("layer3", "gradcam"),
        ("layer4.1", "gradcam"),
        ("layer4.1.conv3", "gradcam"),
        ("conv1", "gradcam"),
        ("bn1", "gradcam"),
        ("relu", "gradcam"),
    ],
)
def test_every_layer_is_explained_as_without(network: nn.Module, layer: str, method: str) -> None:
    folded = with_norms_folded(network, untouched=(layer,))
    fused = with_activations_fused(folded, untouched=(layer,))
    assert n_fused(fused) >= 15
    for expected, got in zip(
        Explainer(folded, layer, method)(images()), Explainer(fused, layer, method)(images()), strict=True
    ):
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_blocks_with_norms_are_left_alone(network: nn.Module) -> None:
    assert with_activations_fused(network) is network


def test_other_networks_are_left_alone() -> None:
    stub = colour_network()
    assert with_activations_fused(stub) is stub


def test_other_precisions_are_left_alone(folded: nn.Module) -> None:
    double = with_norms_folded(random_resnet50()).double()
    assert with_activations_fused(double) is double


def test_a_processor_without_these_operators_computes_as_before(
    folded: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert with_activations_fused(folded) is folded
