"""ReLU and shortcut inside the convolutions of a ResNet: the same answers, sooner, on a CPU.

Between two convolutions torch walks over all activations once more, to add the shortcut or to clip at
zero. oneDNN, which computes the convolutions on a CPU, can do both while it still holds a value. torch has
operators for that, which its own compiler emits; here they are called directly, since compiling takes a
C++ compiler and minutes. On two cores a ResNet-50 gains about a tenth, and not a bit of its answers changes.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection

import torch
from torch import nn

from wsi_cam.classifiers.resnet50 import Bottleneck, ResNet50

log = logging.getLogger(__name__)

_PROBE_PX = 64
_TOLERANCE = 1e-5


def with_activations_fused(network: nn.Module, untouched: Collection[str] = ()) -> nn.Module:
    """A copy of the network with its blocks fused; the network itself where that is not possible.

    Blocks of this package's ResNet-50 are fused, on the CPU in float32, once their norms are folded
    away. Those around a layer named in ``untouched`` stay as they are. The copy shares the weights. Logits on
    random input agree to 1e-5 of their range, or the original is returned.
    """
    blocks = [
        name
        for name, module in network.named_modules()
        if type(module) is Bottleneck
        and not _has_norms(module)
        and not any(layer.startswith(f"{name}.") for layer in untouched)
    ]
    if not blocks or not _is_possible(network):
        return network
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    fused = copy.deepcopy(network, shared)
    for name in blocks:
        block = fused.get_submodule(name)
        assert isinstance(block, Bottleneck)
        fused.set_submodule(name, FusedBottleneck(block))
    stem = {"conv1", "bn1", "relu"}
    if isinstance(fused, ResNet50) and not _has_norms(fused) and not stem & set(untouched):
        fused.set_submodule("conv1", FusedStem(fused.conv1))
        fused.set_submodule("relu", nn.Identity())
    probe = torch.randn(2, 3, _PROBE_PX, _PROBE_PX, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, got = network(probe), fused(probe)
    if not torch.allclose(got, expected, rtol=0, atol=_TOLERANCE * float(expected.abs().max())):
        log.info("blocks are not fused: logits would differ by %g", float((got - expected).abs().max()))
        return network
    return fused


class FusedStem(nn.Module):
    """A convolution and the ReLU after it."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _conv_relu(self.conv, x)


class FusedBottleneck(nn.Module):
    """A ``Bottleneck`` without norms whose convolutions do in one pass what follows them.

    Without a shortcut of its own it adds in place, so its input, the output of the block before it, is its
    output afterwards. Where a gradient is asked for the block itself answers: the fused operators have none.
    """

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        block = self.block
        if torch.is_grad_enabled() and x.requires_grad:
            answer: torch.Tensor = block(x)
            return answer
        y = _conv_relu(block.conv2, _conv_relu(block.conv1, x))
        shortcut = x if block.downsample is None else block.downsample(x)
        return _conv_add_relu(block.conv3, y, shortcut)


def _conv_relu(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    operator = torch.ops.mkldnn._convolution_pointwise
    y: torch.Tensor = operator(x, *_arguments(conv), "relu", [], "")
    return y


def _conv_add_relu(conv: nn.Conv2d, x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    """relu(conv(x) + shortcut), written over ``shortcut``."""
    operator = torch.ops.mkldnn._convolution_pointwise_.binary
    y: torch.Tensor = operator(shortcut, x, *_arguments(conv), "add", 1.0, "relu", [], "")
    return y


def _arguments(conv: nn.Conv2d) -> tuple[object, ...]:
    return conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups


def _has_norms(module: nn.Module) -> bool:
    return any(isinstance(child, nn.BatchNorm2d) for child in module.modules())


def _is_possible(network: nn.Module) -> bool:
    tensors = [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
    return (
        all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
    )
