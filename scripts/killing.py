"""Killing the processes of a run, which was started as a process group of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress

import psutil

#: A run that takes longer than this to end hangs.
PATIENCE_S = 600.0


def kill(run: subprocess.Popen[bytes], chance: random.Random) -> str:
    """Kill something of the run without warning; says what."""
    chosen = chance.choice(["group", "command", "worker"])
    workers = _children(run.pid)
    if chosen == "worker" and workers:
        # The one that holds the model, not a tracker of resources.
        with suppress(psutil.NoSuchProcess):
            max(workers, key=_memory).kill()
        return "worker"
    if chosen == "command":
        run.kill()
        return "command"
    os.killpg(run.pid, signal.SIGKILL)
    return "group"


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def wait_for(run: subprocess.Popen[bytes]) -> None:
    """Wait for the command to end, and kill it where it hangs."""
    try:
        run.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def outlived(run: subprocess.Popen[bytes]) -> bool:
    """Whether a process of the run is there half a minute after its end; it is killed then.

    A worker whose command was killed has to notice.
    """
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGKILL)
    return True
