"""One random ResNet-50 with three classes for all tests here; they must not change it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.make_models import random_resnet50


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Pictures here are so small that threads would spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network() -> nn.Module:
    return random_resnet50(n_classes=3)


@pytest.fixture(scope="session")
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
