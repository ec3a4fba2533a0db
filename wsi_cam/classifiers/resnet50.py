"""ResNet-50 in its two common variants, and the names of its layers.

The original network (He et al. 2015, arXiv 1512.03385; Caffe, Keras) halves the resolution in
the first 1x1 convolution of a stage, torchvision (after Goyal et al. 2017, arXiv 1706.02677)
in the 3x3 one. The parameters have the same names and shapes in both, so weights of
one load into the other without an error and give wrong answers: the variant has to be known.

The network is spelled out here, parameter for parameter and bit for bit torchvision's, because
importing torchvision takes as long as importing torch.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

StrideIn = Literal["conv1", "conv2"]
STRIDE_VARIANTS: tuple[StrideIn, ...] = get_args(StrideIn)

#: Stages that can be a target layer, with the model pixels that one cell of their output spans.
CELL_SIZE_PX: dict[str, int] = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}

_EXPANSION = 4
_N_FEATURES = 512 * _EXPANSION


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut: (n, n_in, h, w) to (n, 4 width, h/stride, w/stride)."""

    def __init__(self, n_in: int, width: int, stride: int, stride_in: StrideIn) -> None:
        super().__init__()
        n_out = _EXPANSION * width
        stride_1, stride_2 = (stride, 1) if stride_in == "conv1" else (1, stride)
        self.conv1 = nn.Conv2d(n_in, width, 1, stride_1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride_2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        activated: torch.Tensor = self.relu(y)
        return activated


class ResNet50(nn.Module):
    """(n, 3, h, w) to logits (n, classes)."""

    def __init__(self, n_classes: int, stride_in: StrideIn) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(64, 64, 3, 1, stride_in)
        self.layer2 = _stage(256, 128, 4, 2, stride_in)
        self.layer3 = _stage(512, 256, 6, 2, stride_in)
        self.layer4 = _stage(1024, 512, 3, 2, stride_in)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(_N_FEATURES, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def build_resnet50(n_classes: int, stride_in: StrideIn = "conv2") -> nn.Module:
    """A ResNet-50 with random weights and ``n_classes`` logits.

    ``stride_in`` names the convolution that carries the stride of the first block
    of stages 2 to 4: ``"conv2"`` as in torchvision, ``"conv1"`` as in the original paper.
    """
    if stride_in not in STRIDE_VARIANTS:
        raise ValueError(f"stride_in is {stride_in!r}; it must be one of {STRIDE_VARIANTS}")
    network = ResNet50(n_classes, stride_in)
    for module in network.modules():
        # On the meta device there is nothing to fill, and the attempt would import torch's compiler: 2 s.
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _stage(n_in: int, width: int, n_blocks: int, stride: int, stride_in: StrideIn) -> nn.Sequential:
    first = Bottleneck(n_in, width, stride, stride_in)
    rest = [Bottleneck(_EXPANSION * width, width, 1, stride_in) for _ in range(n_blocks - 1)]
    return nn.Sequential(first, *rest)


def centre_head(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (classes, features) and biases (classes,) minus their mean over the classes.

    Probabilities stay as they are; the evidence maps become unique (the gauge is fixed). Computed
    in float64, returned in the dtype that came in.
    """
    weight64, bias64 = weight.double(), bias.double()
    centred_weight = weight64 - weight64.mean(dim=0, keepdim=True)
    centred_bias = bias64 - bias64.mean()
    return centred_weight.to(weight.dtype), centred_bias.to(bias.dtype)
