"""One random ResNet-50 and one bundle of it for all tests here; they must not change them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.make_models import random_resnet50, write_bundle


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Pictures here are so small that threads would spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network() -> nn.Module:
    return random_resnet50()


@pytest.fixture(scope="session")
def bundle(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "bundle", network=network)
