"""On what something was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from wsi_cam.versions import installed_versions


def machine() -> dict[str, object]:
    """Processor, cores, GPU and versions, for a file of results."""
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": platform.system(),
        "versions": installed_versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
