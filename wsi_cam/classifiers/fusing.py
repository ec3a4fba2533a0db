"""ReLU and shortcut inside the convolutions of a ResNet: the same answers, sooner, on a CPU.

Between two convolutions torch walks over all activations once more, to add the shortcut or to clip at
zero. oneDNN, which computes the convolutions on a CPU, can do both while it still holds a value, and is
quicker with weights that lie as it wants them for one size of input. torch has operators for both, which
its own compiler emits; here they are called directly, since compiling takes a C++ compiler and minutes. On
two cores a ResNet-50 gains about a tenth, and not a bit of its answers changes.
"""

from __future__ import annotations

import copy
import logging
from typing import NamedTuple

import torch
from torch import nn

from wsi_cam.classifiers.folding import agree
from wsi_cam.classifiers.resnet50 import Bottleneck, ResNet50

log = logging.getLogger(__name__)

Shape = tuple[int, int, int, int]


def with_activations_fused(network: nn.Module, target_layer: str, batch_shape: Shape) -> nn.Module:
    """The network with what comes before the end of ``target_layer`` fused, or the network itself.

    The target keeps its output, and what comes after it can still be asked for gradients; what is fused can
    not. That is done with blocks of this package's ResNet-50, on the CPU in float32, once their norms are
    folded away, and where logits on random input agree to 1e-5 of their range. ``batch_shape``
    (n, 3, h, w) is the input that it will be quick with; it takes any.
    """
    names = [name for name, _ in network.named_modules()]
    if not isinstance(network, ResNet50) or target_layer not in names or not _is_possible(network):
        return network
    place = names.index(target_layer)
    blocks = [
        name
        for name in names
        if isinstance(block := network.get_submodule(name), Bottleneck)
        and not _has_norms(block)
        and (f"{name}.".startswith(f"{target_layer}.") or names.index(name) < place)
        and not target_layer.startswith(f"{name}.")
    ]
    probe = torch.randn(1, *batch_shape[1:], generator=torch.Generator().manual_seed(1))
    expected, shapes = _watch(network, probe, batch_shape[0])
    try:
        fused = _fused(network, blocks, place > names.index("relu"), shapes)
        with torch.inference_mode():
            got = fused(probe)
    except (RuntimeError, TypeError) as error:  # operators of this kind are promised to nobody
        log.info("blocks are not fused: %s", str(error).partition("\n")[0])
        return network
    if not agree(got, expected):
        log.info("blocks are not fused: logits would differ by %g", float((got - expected).abs().max()))
        return network
    return fused


def _fused(network: nn.Module, blocks: list[str], with_stem: bool, shapes: dict[str, Shape]) -> nn.Module:
    """A copy; what is not fused shares its weights with the network, what is has its own."""
    fused = copy.deepcopy(network, {id(tensor): tensor for tensor in _tensors(network)})
    for name in blocks:
        fused.set_submodule(name, FusedBottleneck(name, fused, shapes))
    if with_stem and isinstance(network.get_submodule("bn1"), nn.Identity):
        fused.set_submodule("conv1", FusedStem(_packed("conv1", fused, shapes)))
        fused.set_submodule("relu", nn.Identity())
    return fused


class PackedConv(NamedTuple):
    """A convolution as oneDNN's operators take it, its weights laid out for one size of input."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    padding: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def alone(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(x, *self, "none", [], "")
        return y

    def then_relu(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(x, *self, "relu", [], "")
        return y

    def then_add_and_relu(self, x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        """relu(conv(x) + shortcut), written over ``shortcut``."""
        operator = torch.ops.mkldnn._convolution_pointwise_.binary
        y: torch.Tensor = operator(shortcut, x, *self, "add", 1.0, "relu", [], "")
        return y


class FusedStem(nn.Module):
    """A convolution and the ReLU after it."""

    def __init__(self, conv: PackedConv) -> None:
        super().__init__()
        self._conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv.then_relu(x)


class FusedBottleneck(nn.Module):
    """A ``Bottleneck`` without norms, each convolution in one pass with what follows it.

    Without a shortcut of its own it adds in place: its input, the output of the block before it, is its
    output afterwards.
    """

    def __init__(self, name: str, network: nn.Module, shapes: dict[str, Shape]) -> None:
        """Of the block that ``network`` has under ``name``; ``shapes`` are inputs of convolutions by name."""
        super().__init__()
        block = network.get_submodule(name)
        self._convs = [_packed(f"{name}.conv{i}", network, shapes) for i in (1, 2, 3)]
        self._shortcut: PackedConv | None = None
        if block.downsample is not None:
            self._shortcut = _packed(f"{name}.downsample.0", network, shapes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third = self._convs
        y = second.then_relu(first.then_relu(x))
        return third.then_add_and_relu(y, x if self._shortcut is None else self._shortcut.alone(x))


def _packed(name: str, network: nn.Module, shapes: dict[str, Shape]) -> PackedConv:
    conv = network.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(conv.padding, tuple)  # and not "same"
    geometry = conv.padding, conv.stride, conv.dilation, conv.groups
    weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *geometry, shapes[name])
    return PackedConv(weight, None if conv.bias is None else conv.bias.detach(), *geometry)


def _watch(network: nn.Module, probe: torch.Tensor, n: int) -> tuple[torch.Tensor, dict[str, Shape]]:
    """Logits of the probe (1, 3, h, w), and by name what convolutions would be given with ``n`` of it."""
    names: dict[nn.Module, str] = {
        module: name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    }
    shapes: dict[str, Shape] = {}

    def watch(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        _, channels, height, width = args[0].shape
        shapes[names[module]] = (n, channels, height, width)

    handles = [module.register_forward_hook(watch) for module in names]
    try:
        with torch.inference_mode():
            return network(probe), shapes
    finally:
        for handle in handles:
            handle.remove()


def _has_norms(module: nn.Module) -> bool:
    return any(isinstance(child, nn.BatchNorm2d) for child in module.modules())


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def _is_possible(network: nn.Module) -> bool:
    tensors = [t for t in _tensors(network) if t.is_floating_point()]
    return (
        all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    )
