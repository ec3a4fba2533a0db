"""The network against torchvision's, and the head's centring against softmax."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from tests.make_models import random_resnet50
from wsi_cam.classifiers.resnet50 import CELL_SIZE_PX, StrideIn, build_resnet50, centre_head


def torchvisions(state: dict[str, torch.Tensor], stride_in: StrideIn) -> nn.Module:
    """torchvision's ResNet-50, with the strides moved for the original variant."""
    with torch.device("meta"):
        network: Any = torchvision.models.resnet50(weights=None, num_classes=len(state["fc.bias"]))
    network.load_state_dict(state, assign=True)
    if stride_in == "conv1":
        for stage in (network.layer2, network.layer3, network.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return network.eval()


@pytest.mark.parametrize("stride_in", ["conv1", "conv2"])
def test_it_is_torchvisions_network_bit_for_bit(stride_in: StrideIn) -> None:
    network = random_resnet50(3, stride_in)
    theirs = torchvisions(network.state_dict(), stride_in)
    pictures = torch.randn(2, 3, 70, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(network(pictures), theirs(pictures))
    # In the same order too: what an optimiser saved for one fits the other.
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def test_the_variants_share_their_names_and_disagree_about_a_picture() -> None:
    one, other = random_resnet50(2, "conv1"), random_resnet50(2, "conv2")
    assert one.state_dict().keys() == other.state_dict().keys()
    picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert not torch.allclose(one(picture), other(picture), atol=0.1)


def test_a_variant_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="conv1"):
        build_resnet50(2, "conv3")  # type: ignore[arg-type]


def test_stages_have_the_cells_that_are_promised(network: nn.Module) -> None:
    shapes: dict[str, int] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: shapes.update({name: output.shape[3]})
        )
        for name in CELL_SIZE_PX
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 3, 128, 128))
    for handle in handles:
        handle.remove()
    assert shapes == {name: 128 // cell for name, cell in CELL_SIZE_PX.items()}


def test_centring_a_head_keeps_every_probability_and_sums_to_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(4, 9, generator=generator) + 3, torch.randn(4, generator=generator)
    features = torch.randn(6, 9, generator=generator)
    centred_weight, centred_bias = centre_head(weight, bias)
    before = torch.softmax(features @ weight.T + bias, dim=1)
    after = torch.softmax(features @ centred_weight.T + centred_bias, dim=1)
    torch.testing.assert_close(after, before)
    assert float(centred_weight.sum(dim=0).abs().max()) < 1e-5
    # Whatever vector was added to all classes, the maps come out the same.
    again, _ = centre_head(weight + torch.randn(1, 9, generator=generator), bias)
    torch.testing.assert_close(again, centred_weight)


def test_classifying_does_not_import_torchvision() -> None:
    program = "import sys, wsi_cam.inference, wsi_cam.classifiers.bundle; print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
