from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.make_models import colour_network, random_resnet50
from wsi_cam.classifiers.folding import with_norms_folded


def test_a_folded_resnet_has_no_norms_left_and_the_same_answers(network: nn.Module) -> None:
    folded = with_norms_folded(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    images = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected, got = network(images), folded(images)
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_layer_that_must_keep_its_output_keeps_it(network: nn.Module) -> None:
    folded = with_norms_folded(network, untouched=("layer4.2.conv3",))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    outputs: list[torch.Tensor] = []

    def keep(module: nn.Module, args: object, output: torch.Tensor) -> None:
        outputs.append(output)

    for net in (network, folded):
        handle = net.get_submodule("layer4.2.conv3").register_forward_hook(keep)
        with torch.inference_mode():
            net(images)
        handle.remove()
    assert (outputs[0] - outputs[1]).abs().max() < 1e-5 * outputs[0].abs().max()


def test_a_network_without_norms_is_returned_as_it_is() -> None:
    stub = colour_network()
    assert with_norms_folded(stub) is stub


class Entangled(nn.Module):
    """The convolution's output is needed twice, so that folding it would change the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        with torch.no_grad():
            self.bn.weight.fill_(3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        y: torch.Tensor = (self.bn(x) + x).mean(dim=(2, 3))
        return y


def test_a_network_that_would_answer_differently_is_left_alone() -> None:
    entangled = Entangled().eval()
    assert with_norms_folded(entangled) is entangled


def test_folding_leaves_no_hooks_behind() -> None:
    network = random_resnet50(seed=1)
    folded = with_norms_folded(network)
    assert not any(m._forward_hooks for net in (network, folded) for m in net.modules())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_norms_are_folded_on_a_gpu_that_rounds_to_tf32_by_itself() -> None:
    network = random_resnet50(seed=1).to("cuda")
    folded = with_norms_folded(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert {parameter.device for parameter in folded.parameters()} == {next(network.parameters()).device}
