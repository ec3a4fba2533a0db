"""ResNet-50 in its two common variants, and the names of its layers.

The original network (He et al. 2015, arXiv 1512.03385; Caffe, Keras) halves the resolution in
the first 1x1 convolution of a stage, torchvision (after Goyal et al. 2017, arXiv 1706.02677)
in the 3x3 one. The parameters have the same names and shapes in both, so weights of
one load into the other without an error and give wrong answers: the variant has to be known.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn
from torchvision.models import resnet50

StrideIn = Literal["conv1", "conv2"]
STRIDE_VARIANTS: tuple[StrideIn, ...] = get_args(StrideIn)

#: Stages that can be a target layer, with the model pixels that one cell of their output spans.
CELL_SIZE_PX: dict[str, int] = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}


def build_resnet50(n_classes: int, stride_in: StrideIn = "conv2") -> nn.Module:
    """A ResNet-50 with random weights and ``n_classes`` logits.

    ``stride_in`` names the convolution that carries the stride of the first block
    of stages 2 to 4: ``"conv2"`` as in torchvision, ``"conv1"`` as in the original paper.
    """
    if stride_in not in STRIDE_VARIANTS:
        raise ValueError(f"stride_in is {stride_in!r}; it must be one of {STRIDE_VARIANTS}")
    network: nn.Module = resnet50(weights=None, num_classes=n_classes)
    if stride_in == "conv1":
        for stage_name in ("layer2", "layer3", "layer4"):
            block = network.get_submodule(f"{stage_name}.0")
            conv1, conv2 = block.get_submodule("conv1"), block.get_submodule("conv2")
            assert isinstance(conv1, nn.Conv2d)
            assert isinstance(conv2, nn.Conv2d)
            conv1.stride, conv2.stride = conv2.stride, conv1.stride
    return network


def centre_head(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (classes, features) and biases (classes,) minus their mean over the classes.

    Probabilities stay as they are; the evidence maps become unique (the gauge is fixed). Computed
    in float64, returned in the dtype that came in.
    """
    weight64, bias64 = weight.double(), bias.double()
    centred_weight = weight64 - weight64.mean(dim=0, keepdim=True)
    centred_bias = bias64 - bias64.mean()
    return centred_weight.to(weight.dtype), centred_bias.to(bias.dtype)
