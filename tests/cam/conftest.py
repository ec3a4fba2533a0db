"""One random ResNet-50 with three classes for all tests here; they must not change it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.make_models import random_resnet50


@pytest.fixture(scope="session")
def network() -> nn.Module:
    return random_resnet50(n_classes=3)


@pytest.fixture(scope="session")
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
