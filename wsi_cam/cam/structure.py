"""What a network does around a layer, found by watching it look at noise.

Names promise nothing: a layer called ``fc`` may stand behind a hidden layer or a functional ReLU. So
the network is run once on a small random input, and what passes is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from wsi_cam.errors import ModelError

#: A multiple of every stride that a layer of use here has.
_STRIDE_PX = 32
#: Side of the random input where the size that will be looked at is not known.
PROBE_PX = 4 * _STRIDE_PX

_HARMLESS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.Identity)

OutputHook = Callable[[nn.Module, object, torch.Tensor], torch.Tensor | None]


@dataclass(frozen=True)
class Observation:
    """What one pass over ``probe`` (1, 3, side, side) showed.

    ``features`` (1, k, h, w) left the target layer, ``logits`` (1, classes) the network. ``head`` is the
    linear layer that saw exactly the spatial mean of the features and whose output the logits
    are; None where the network is not built that way.
    """

    probe: torch.Tensor
    features: torch.Tensor
    logits: torch.Tensor
    cell_px: int
    head: nn.Linear | None


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The submodule called ``name``. Raises ModelError, with names that exist, where there is none."""
    try:
        layer = network.get_submodule(name) if name else None
    except AttributeError:
        layer = None
    if layer is None:
        known = ", ".join(child for child, _ in network.named_children())
        raise ModelError(
            f"target layer {name!r}: the network has no such layer; it has {known} (and their parts)"
        )
    return layer


@contextmanager
def output_hook(layer: nn.Module, hook: OutputHook) -> Iterator[None]:
    """The hook is on the layer inside the block and nowhere afterwards."""
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Every part of the network in evaluation mode; those that were training return to it."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def observe(network: nn.Module, layer: nn.Module, name: str, picture_px: int = PROBE_PX) -> Observation:
    """One pass of noise through the network, ``picture_px`` a side or up to a stride more.

    Raises ModelError for a layer that gives no single map, and for a network that does not take the noise.
    """
    probe_px = -(-picture_px // _STRIDE_PX) * _STRIDE_PX
    probe = _noise(network, probe_px)
    features: list[torch.Tensor] = []
    calls: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []  # leaves after the layer: input, output

    def watch_layer(module: nn.Module, args: object, output: torch.Tensor) -> None:
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            raise ModelError(
                f"target layer {name!r}: its output is no map (n, channels, h, w); take an earlier one"
            )
        # A copy: an in-place ReLU behind the layer would change what is compared.
        features.append(output.clone())
        calls.clear()

    def watch_leaf(module: nn.Module, args: object, output: torch.Tensor) -> None:
        if isinstance(args, tuple) and args and isinstance(args[0], torch.Tensor):
            calls.append((module, args[0], output))

    leaves = [module for module in network.modules() if not any(module.children()) and module is not layer]
    handles = [leaf.register_forward_hook(watch_leaf) for leaf in leaves]
    try:
        with output_hook(layer, watch_layer), torch.no_grad():
            logits = network(probe)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the network does not take an RGB picture of {probe_px} px ({reason})") from error
    finally:
        for handle in handles:
            handle.remove()
    if len(features) != 1:
        raise ModelError(f"target layer {name!r}: used {len(features)} times in one pass; take a whole stage")
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise ModelError("the network does not give logits (n, classes); wrap it so that it does")
    cell_px, remainder = divmod(probe_px, features[0].shape[2])
    # Larger ones than the strides that the side is a multiple of cannot be told from their number.
    if remainder or (cell_px > _STRIDE_PX and features[0].shape[2] > 1):
        raise ModelError(
            f"target layer {name!r}: its cells are not whole pixels of the input; take another one"
        )
    return Observation(probe, features[0], logits, cell_px, _head(features[0], logits, calls))


def _head(
    features: torch.Tensor, logits: torch.Tensor, calls: list[tuple[nn.Module, torch.Tensor, torch.Tensor]]
) -> nn.Linear | None:
    """The linear layer of "mean over space, then one linear layer"; None for any other ending."""
    if not calls or not isinstance(calls[-1][0], nn.Linear):
        return None
    if not all(isinstance(module, _HARMLESS) for module, _, _ in calls[:-1]):
        return None
    head, seen, given = calls[-1][0], calls[-1][1], calls[-1][2]
    means = features.mean(dim=(2, 3))
    tolerance = 1e-5 * float(means.abs().max())
    same_input = seen.shape == means.shape and torch.allclose(seen, means, rtol=1e-4, atol=tolerance)
    return head if same_input and torch.equal(given, logits) else None


def _noise(network: nn.Module, side_px: int) -> torch.Tensor:
    """A random picture in the network's dtype, drawn without touching the global generator."""
    tensors = (t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point())
    example = next(tensors, torch.empty(0))
    noise = torch.randn(1, 3, side_px, side_px, generator=torch.Generator().manual_seed(0))
    return noise.to(device=example.device, dtype=example.dtype)
