"""Networks whose answer is known beforehand, real ones with random weights, and bundles of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsi_cam.classifiers.bundle import save_bundle
from wsi_cam.classifiers.card import ModelCard
from wsi_cam.classifiers.resnet50 import StrideIn, build_resnet50

#: A magenta stronger than any haematoxylin: the colour that ``colour_network`` fires on by default.
MARKER_RGB = (160, 0, 160)


class ColourNetwork(nn.Module):
    """A network of ResNet's shape: trunk -> layer1..layer4 -> avgpool -> flatten -> fc, stride 32.

    Its features are 1 where the picture has the marker colour (one feature for each marker), 0 in
    white, grey and tissue, and in between where a cell is partly marked.
    """

    def __init__(self, markers_rgb: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, gain: float) -> None:
        super().__init__()
        n_markers = len(markers_rgb)
        colour = nn.Conv2d(3, n_markers, 1)
        # Project on the marker's chroma (its distance from grey); 1 at the marker, 0 from 0.7 of it down.
        chroma = markers_rgb - markers_rgb.mean(dim=1, keepdim=True)
        per_byte = chroma / (chroma**2).sum(dim=1, keepdim=True) / 0.3
        with torch.no_grad():
            colour.weight.copy_((per_byte * 255 * std)[:, :, None, None])
            assert colour.bias is not None
            colour.bias.copy_((per_byte * 255 * mean).sum(dim=1) - 0.7 / 0.3)
        self.layer1 = nn.Sequential(nn.AvgPool2d(4, ceil_mode=True), colour, nn.ReLU())
        self.layer2 = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Identity())
        self.layer3 = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Identity())
        self.layer4 = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Identity())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(n_markers, n_markers + 1)
        weight = gain * torch.eye(n_markers + 1)[:, 1:]
        bias = torch.full((n_markers + 1,), -gain / 4)
        bias[0] = 0.0
        with torch.no_grad():
            self.fc.weight.copy_(weight - weight.mean(dim=0, keepdim=True))
            self.fc.bias.copy_(bias - bias.mean())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def colour_network(
    n_classes: int = 2,
    markers_rgb: tuple[tuple[int, int, int], ...] = (MARKER_RGB, (0, 150, 60), (200, 120, 0)),
    gain: float = 20.0,
    card: ModelCard | None = None,
) -> nn.Module:
    """A network whose class c > 0 fires exactly where marker colour c - 1 is; class 0 is the rest.

    The head is centred. ``card`` says how images are normalised (``model_card()`` where None). With the
    default gain a patch that is marked by a quarter is undecided between its class and the rest.
    """
    card = card or model_card()
    markers = torch.tensor(markers_rgb[: n_classes - 1], dtype=torch.float32)
    assert len(markers) == n_classes - 1
    return ColourNetwork(markers, torch.tensor(card.mean), torch.tensor(card.std), gain).eval()


def model_card(**changes: Any) -> ModelCard:
    """A card of two classes, 64 px at 1 um/px, with whatever else is asked for."""
    values: dict[str, Any] = {
        "name": "test model",
        "class_names": ("normal", "tumour"),
        "patch_size_px": 64,
        "mpp_um": 1.0,
        "evidence_scale": None,
    }
    return ModelCard(**(values | changes))


def random_resnet50(n_classes: int = 2, stride_in: StrideIn = "conv2", seed: int = 0) -> nn.Module:
    """A ResNet-50 in evaluation mode with random weights of a trained network's magnitude.

    Running statistics and scales are random too, so nothing hides behind ones and zeros.
    """
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float, like: torch.Tensor) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    with torch.device("meta"):
        network = build_resnet50(n_classes, stride_in)
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                values = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(values * (2 / fan_in) ** 0.5)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                assert module.num_batches_tracked is not None
                # The last norm of a block is damped: sixteen blocks would add up to enormous features.
                damping = 0.3 if name.endswith("bn3") else 1.0
                module.weight.copy_(damping * between(0.8, 1.2, module.weight))
                module.bias.copy_(between(-0.2, 0.2, module.bias))
                module.running_mean.copy_(between(-0.2, 0.2, module.running_mean))
                module.running_var.copy_(between(0.8, 1.2, module.running_var))
                module.num_batches_tracked.fill_(7)
            elif isinstance(module, nn.Linear):
                module.weight.copy_(between(-0.05, 0.05, module.weight))
                module.bias.copy_(between(-0.5, 0.5, module.bias))
    return network.eval()


def write_bundle(
    folder: Path, card: ModelCard | None = None, network: nn.Module | None = None, seed: int = 0
) -> Path:
    """A bundle on disk (about 47 MB, a second): a random ResNet-50 that fits the card, or ``network``."""
    card = card or model_card()
    save_bundle(folder, network or random_resnet50(len(card.class_names), card.stride_in, seed), card)
    return folder
