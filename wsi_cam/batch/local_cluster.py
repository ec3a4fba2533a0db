"""Dask workers on this machine, one for each GPU where there are any, for as long as one batch runs."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import TYPE_CHECKING, Any

from wsi_cam.errors import SettingsError

if TYPE_CHECKING:
    from distributed import SpecCluster

_HOST = "127.0.0.1"
#: A slide whose worker has died is given to another one once; after a second death it has failed.
_ALLOWED_FAILURES = 1


class LocalWorkers:
    """``count`` worker processes and a scheduler on the loopback address."""

    def __init__(self, count: int, device: str) -> None:
        """``count`` 0: one for each GPU, or one where there is none. ``device`` is the setting."""
        gpus = _visible_gpus() if device in ("auto", "cuda") else []
        self._count = count or max(1, len(gpus))
        self._gpus = gpus
        self._cluster: SpecCluster | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> str:
        """Start them; the scheduler's address."""
        import dask
        from distributed import Nanny, Scheduler, SpecCluster

        self._scratch = tempfile.TemporaryDirectory(prefix="wsi_cam-cluster-", ignore_cleanup_errors=True)
        with dask.config.set({"distributed.scheduler.allowed-failures": _ALLOWED_FAILURES}):
            self._cluster = SpecCluster(
                workers={n: {"cls": Nanny, "options": self._options(n)} for n in range(self._count)},
                scheduler={
                    "cls": Scheduler,
                    "options": {"host": _HOST, "dashboard": False, "dashboard_address": f"{_HOST}:0"},
                },
                silence_logs=logging.CRITICAL,
            )
        address: str = self._cluster.scheduler_address
        return address

    def close(self) -> None:
        """End the workers; again does nothing."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close(timeout=10)
        if self._scratch is not None:
            self._scratch.cleanup()

    def _options(self, number: int) -> dict[str, Any]:
        """Of one worker: one slide at a time, a share of the cores, a GPU of its own where there is one."""
        # Dask would set one thread for each worker, however many cores there are.
        threads = max(1, (os.cpu_count() or 1) // self._count)
        env = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        env |= {"MKL_NUM_THREADS": env["OMP_NUM_THREADS"]}
        if self._gpus:
            env["CUDA_VISIBLE_DEVICES"] = self._gpus[number % len(self._gpus)]
        assert self._scratch is not None
        return {
            "nthreads": 1,
            "memory_limit": 0,  # of the worker, which holds no pixels; the process that does is its child
            "resources": {"GPU": 1} if self._gpus else {},
            "env": env,
            "local_directory": self._scratch.name,
            "silence_logs": logging.CRITICAL,
            "preload": ["wsi_cam.batch.ignore_interrupts"],
            "host": _HOST,
            "dashboard": False,
            "dashboard_address": f"{_HOST}:0",
        }


def _visible_gpus() -> list[str]:
    """The GPUs that this process may use, each as ``CUDA_VISIBLE_DEVICES`` names it."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(n) for n in range(count)]


def worker_count(where: str) -> int:
    """How many workers ``local:N`` wants; 0 for ``local`` alone. Raises SettingsError."""
    number = where.removeprefix("local").removeprefix(":")
    if where == "local":
        return 0
    if not (number.isdecimal() and int(number)):
        raise SettingsError(f"--cluster {where}: local:N is wanted, N workers on this machine")
    return int(number)
