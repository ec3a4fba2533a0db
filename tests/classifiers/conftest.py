"""One random ResNet-50 and one bundle of it for all tests here; they must not change them."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from tests.make_models import random_resnet50, write_bundle


@pytest.fixture(scope="session")
def network() -> nn.Module:
    return random_resnet50()


@pytest.fixture(scope="session")
def bundle(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "bundle", network=network)
