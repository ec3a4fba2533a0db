"""Peak memory of a whole run as the slide grows, each size in a process of its own (Linux only).

Sparse slides at 0.5 um/px whose tissue holds 20 000 and 80 000 patches of 224 px, and one of 320 000 px a
side that is nearly empty. A small network of ResNet's shape stands in for ResNet-50, whose own memory
does not depend on the slide; everything else is the real run.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.make_slides import write_sparse_svs

PATCH_PX = 224

_RUN = """
import json, sys, time
from pathlib import Path
from wsi_cam import explain_slide
from wsi_cam.classifiers.bundle import Classifier
from tests.make_models import colour_network, model_card
card = model_card(patch_size_px=224, mpp_um=0.5)
classifier = Classifier(colour_network(card=card), card, "cpu")

def peak_mib():
    # The kernel's own high-water mark of this program; getrusage would count the parent's before exec.
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024)

before = peak_mib()
began = time.perf_counter()
result = explain_slide(sys.argv[1], sys.argv[2], classifier)
print(json.dumps({
    "patches": result.n_patches,
    "seconds": round(time.perf_counter() - began, 1),
    "imports_MiB": before,
    "peak_MiB": peak_mib(),
}))
"""


def measure(work: Path, quick: bool) -> dict[str, Any]:
    n_patches = 500 if quick else 20_000
    results: dict[str, Any] = {}
    for name, wanted in (("tissue", n_patches), ("four_times_the_tissue", 4 * n_patches)):
        tissue_px = round(math.sqrt(wanted)) * PATCH_PX
        side_px = (tissue_px + 2048) // 256 * 256
        results[name] = {"side_px": side_px, **_run(work, name, side_px, (1024, 1024, tissue_px, tissue_px))}
    side_px = 64_000 if quick else 320_000
    results["nearly_empty"] = {
        "side_px": side_px,
        **_run(work, "empty", side_px, (side_px // 2, side_px // 2, 4480, 4480)),
    }
    small, large = results["tissue"], results["four_times_the_tissue"]
    results["peak_four_times_over_once"] = round(large["peak_MiB"] / small["peak_MiB"], 3)
    return results


def _run(work: Path, name: str, side_px: int, tissue_box: tuple[int, int, int, int]) -> dict[str, Any]:
    slide = write_sparse_svs(work / f"{name}.svs", side_px, [tissue_box], mpp=0.5)
    command = [sys.executable, "-c", _RUN, str(slide), str(work / f"out-{name}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured
