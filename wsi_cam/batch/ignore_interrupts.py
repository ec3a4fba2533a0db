"""Loaded by the Dask workers that a batch starts on its own machine.

Ctrl-C goes to every process of a terminal. Only the command answers it: it asks the workers to stop.
"""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker's main thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
