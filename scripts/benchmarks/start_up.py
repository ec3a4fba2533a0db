"""How long a person waits before anything happens: wsi-cam --help against importing torch."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts.benchmarks.pairing import alternate, median_ratio


def measure(work: Path, quick: bool) -> dict[str, Any]:
    def command(*arguments: str) -> object:
        return subprocess.run([sys.executable, *arguments], capture_output=True, check=True)

    ways = {
        "help": lambda: command("-m", "wsi_cam.cli.main", "--help"),
        "import_torch": lambda: command("-c", "import torch"),
        "import_run": lambda: command("-c", "import wsi_cam.batch"),
    }
    seconds = alternate(ways, 2 if quick else 7)
    return {
        "seconds": {name: round(statistics.median(s), 3) for name, s in seconds.items()},
        "help_over_import_torch": median_ratio(seconds["help"], seconds["import_torch"]),
        "import_run_over_import_torch": median_ratio(seconds["import_run"], seconds["import_torch"]),
    }
