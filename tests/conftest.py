"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real slides, patches and weights beside the checkout; the test skips without it."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data" / "slides").is_dir():
        pytest.skip(f"no real slides: {folder} is missing")
    return folder
