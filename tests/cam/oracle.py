"""What the tests here compare with."""

from __future__ import annotations

import torch
from torch import nn


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


def hooks(network: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in network.modules()
    )
