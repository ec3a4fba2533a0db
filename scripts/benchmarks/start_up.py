"""How long a person waits before anything happens: the command's help, torch's import, a run of one patch.

"one_patch_run" is ``wsi-cam run`` on a slide of one patch of 224 px with a ResNet-50, from the start of the
process to its exit, pictures and heatmaps included; "import_run" imports what it does, and nothing more.
"""

from __future__ import annotations

import statistics
import sys
from itertools import count
from pathlib import Path
from typing import Any

from scripts.benchmarks.pairing import alternate, median_ratio
from scripts.benchmarks.whole_run import seconds_of
from tests.make_models import model_card, write_bundle
from tests.make_slides import tissue_image, write_svs


def measure(work: Path, quick: bool) -> dict[str, Any]:
    slide = write_svs(work / "slide.svs", tissue_image(224, 224, [(0, 0, 224, 224)]), mpp=0.5, levels=(1,))
    bundle = write_bundle(work / "bundle", model_card(patch_size_px=224, mpp_um=0.5))
    fresh = count()

    def python(*arguments: str) -> float:
        return seconds_of([sys.executable, *arguments])

    def one_patch_run() -> float:
        output = str(work / f"out{next(fresh)}")
        return python(
            *("-m", "wsi_cam.cli.main", "run", str(slide), "-o", output, "--model", str(bundle), "-q"),
            *("--min-tissue", "0"),
        )

    ways = {
        "help": lambda: python("-m", "wsi_cam.cli.main", "--help"),
        "import_torch": lambda: python("-c", "import torch"),
        "import_run": lambda: python("-c", "import wsi_cam.batch.one_slide"),
        "one_patch_run": one_patch_run,
    }
    seconds = alternate(ways, 2 if quick else 7)
    return {
        "seconds": {name: round(statistics.median(s), 3) for name, s in seconds.items()},
        **{
            f"{name}_over_import_torch": median_ratio(seconds[name], seconds["import_torch"])
            for name in ("help", "import_run", "one_patch_run")
        },
    }
