"""Which networks and layers get the closed form, which the gradients, and which an error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.cam.oracle import by_gradients, hooks
from tests.make_models import MARKER_RGB, colour_network, model_card
from wsi_cam.cam.explain import Explainer
from wsi_cam.errors import ModelError


class Ending(nn.Module):
    """A trunk, and an ending that looks almost like pooling and one linear layer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer4 = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.AvgPool2d(32))
        self.avgpool = nn.AdaptiveMaxPool2d(1) if kind == "max" else nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.hidden = nn.Linear(6, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer4(x)
        if self.kind == "functional relu":
            x = torch.relu(x)
        if self.kind == "in-place relu":
            x = torch.relu_(x)
        if self.kind == "offset":
            x = x + 0.1
        x = self.avgpool(x).flatten(1)
        if self.kind == "hidden":
            x = torch.tanh(self.hidden(x))
        y: torch.Tensor = self.fc(self.dropout(x))
        return 2 * y if self.kind == "scaled" else y


def test_dropout_before_the_head_does_no_harm() -> None:
    network = Ending("plain").train()
    explainer = Explainer(network)
    assert explainer.closed_form
    batch = torch.randn(2, 3, 64, 64)
    first, second = explainer(batch), explainer(batch)
    assert torch.equal(first[1], second[1])
    assert network.training
    assert network.dropout.training


@pytest.mark.parametrize("kind", ["max", "functional relu", "in-place relu", "offset", "hidden", "scaled"])
def test_an_ending_that_only_looks_right_is_explained_by_gradients(kind: str) -> None:
    torch.manual_seed(1)
    network = Ending(kind).double().eval()
    explainer = Explainer(network)
    assert not explainer.closed_form
    batch = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert float((explainer(batch)[1] - by_gradients(network, "layer4", batch)).abs().max()) < 1e-10


class PoolsCells(nn.Module):
    """A trunk of stride 32, and pooling of a fixed number of cells, as networks for one size have it."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.layer4 = nn.Conv2d(3, 5, 32, stride=32)
        self.avgpool, self.fc = nn.AvgPool2d(cells), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(self.layer4(x)), 1))
        return logits


@pytest.mark.parametrize(("cells", "is_global"), [(7, True), (4, False)])
def test_pooling_of_a_fixed_size_is_judged_at_the_size_that_will_be_looked_at(
    cells: int, is_global: bool
) -> None:
    torch.manual_seed(2)
    network = PoolsCells(cells).double().eval()
    explainer = Explainer(network, patch_px=224)
    assert explainer.closed_form == is_global
    batch = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    assert float((explainer(batch)[1] - by_gradients(network, "layer4", batch)).abs().max()) < 1e-10


def test_a_stride_that_the_patch_is_no_multiple_of_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 64, stride=64, padding=16), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError, match="not whole pixels"):
        Explainer(network.append(nn.Linear(5, 2)), "0", patch_px=96)


def test_a_stub_of_resnets_shape_is_explained_as_a_resnet_is() -> None:
    card = model_card()
    explainer = Explainer(colour_network())
    assert explainer.closed_form
    assert explainer.cell_px == 32
    picture = torch.full((1, 96, 96, 3), 240, dtype=torch.uint8)
    picture[0, 32:64, 64:] = torch.tensor(MARKER_RGB, dtype=torch.uint8)
    batch = ((picture / 255 - torch.tensor(card.mean)) / torch.tensor(card.std)).permute(0, 3, 1, 2)
    _, evidence = explainer(batch)
    expected = torch.zeros(3, 3)
    expected[1, 2] = 10.0
    torch.testing.assert_close(evidence[0, 1], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(evidence[0, 0], -expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("layer", "method", "reason"),
    [
        ("layer5", "gradcam", "no such layer; it has conv1"),
        ("", "gradcam", "no such layer"),
        ("fc", "gradcam", "no map"),
        ("avgpool", "gradcam", None),
        ("layer4.2.relu", "gradcam", "used 3 times in one pass"),
        ("layer4", "eigencam", "use one of gradcam"),
    ],
)
def test_a_layer_or_method_that_does_not_serve_is_refused(
    network: nn.Module, layer: str, method: str, reason: str | None
) -> None:
    if reason is None:  # one cell for the whole picture: coarse, but a map
        assert Explainer(network, layer, method).cell_px == 128
        return
    with pytest.raises(ModelError, match=reason) as refused:
        Explainer(network, layer, method)
    assert "\n" not in str(refused.value)
    assert hooks(network) == 0


class Aside(nn.Module):
    """A layer that runs, and whose output nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4, self.aside, self.fc = nn.Conv2d(3, 2, 32, 32), nn.Conv2d(3, 2, 32, 32), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.aside(x)
        y: torch.Tensor = self.fc(self.layer4(x).mean(dim=(2, 3)))
        return y


class NoLogits(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_layer_without_influence_is_refused() -> None:
    with pytest.raises(ModelError, match="no gradient reaches it"):
        Explainer(Aside(), "aside")


def test_a_network_that_is_no_classifier_is_refused() -> None:
    with pytest.raises(ModelError, match="does not give logits"):
        Explainer(nn.Sequential(nn.Conv2d(3, 2, 32, 32), NoLogits()), "0")
    with pytest.raises(ModelError, match="does not take an RGB picture"):
        Explainer(nn.Sequential(nn.Conv2d(4, 2, 1), nn.Flatten()), "0")
