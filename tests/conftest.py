"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# One thread per process, children included: the networks here are small, and test processes run side by
# side. Set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Started in the background by a shell, pytest and so the commands it tests would not hear Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real slides, patches and weights beside the checkout; the test skips without it."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data" / "slides").is_dir():
        pytest.skip(f"no real slides: {folder} is missing")
    return folder
