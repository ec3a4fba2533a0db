"""Time and peak memory of a run as slides grow, with more overlap, classes and slides (memory: Linux only).

Every row is a process of its own that does what a worker of ``wsi-cam run`` does, on sparse slides, in
patches of 224 px at 0.5 um/px, without overlap unless it is said. A small network of ResNet's shape stands
in for ResNet-50, whose own time and memory depend on none of this; everything else is the real run. "area":
one tissue on slides of 20 000 to 320 000 px a side. "patches": tissue of 1 000 to 200 000 patches on slides
as large as it needs. "slides": one after the other, the next one opened and read meanwhile. "looking" is
reading, network and stitching, without finding the tissue, the pictures and the exports. Peaks include
what the imports hold (imports_MiB).
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.make_slides import write_sparse_svs

PATCH_PX = 224

_RUN = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
from tests.make_models import colour_network, model_card
from wsi_cam.batch.one_slide import SlideDesk
from wsi_cam.batch.task import BatchSetup, SlideTask
from wsi_cam.classifiers.classifier import Classifier
from wsi_cam.inference import PatchExplainer
from wsi_cam.run_folder import RunFolder
from wsi_cam.settings import RunSettings

def peak_mib():
    # The kernel's own high-water mark of this program; getrusage would count the parent's before exec.
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024)

asked = json.loads(sys.argv[1])
output, n_classes = Path(asked["output"]), asked["classes"]
card = model_card(class_names=tuple(f"class {c}" for c in range(n_classes)), patch_size_px=224, mpp_um=0.5)
markers = np.random.default_rng(0).integers(0, 256, (n_classes - 1, 3)).tolist()
network = colour_network(n_classes, tuple(map(tuple, markers)), card=card)
explainer = PatchExplainer(Classifier(network, card, "cpu"))
imports = peak_mib()
began = time.perf_counter()
RunFolder(output).prepare()
desk = SlideDesk(BatchSetup(output, RunSettings(overlap=asked["overlap"])), explainer)
tasks = [SlideTask(i, len(asked["slides"]), f"s{i}", Path(p)) for i, p in enumerate(asked["slides"], 1)]
patches, looking = 0, 0.0
for task, following in zip(tasks, [*tasks[1:], None]):
    if following is not None:
        desk.prepare(following)
    outcome, error = desk.run(task, lambda done, total: None, lambda: False)
    assert error is None, outcome
    stages = json.loads((output / "slides" / task.sample_id / "timing.json").read_text())["seconds"]
    patches += outcome.row.patches
    looking += stages["network"] + stages["stitching"] + stages["waited for reading"]
desk.close()
seconds = time.perf_counter() - began
print(json.dumps({
    "patches": patches,
    "seconds": round(seconds, 2),
    "looking_ms_per_patch": round(1000 * looking / patches, 3),
    "imports_MiB": imports,
    "peak_MiB": peak_mib(),
}))
"""


def measure(work: Path, quick: bool) -> dict[str, Any]:
    few, some, many = (100, 400, 1600) if quick else (1_000, 20_000, 200_000)
    slide = _slide(work, 2 * few)
    rows = {
        "area": {
            f"{side_px}_px": _run([_slide(work, 2 * few, side_px)])
            for side_px in ((10_000, 20_000) if quick else (20_000, 80_000, 320_000))
        },
        "patches": {str(n): _run([_slide(work, n)]) for n in (few, some, many)},
        "overlap": {f"{overlap:g}": _run([slide], overlap=overlap) for overlap in (0, 0.5, 0.75)},
        "classes": {str(n_classes): _run([slide], n_classes=n_classes) for n_classes in (2, 4, 16)},
        "slides": {str(n): _run([slide] * n) for n in (1, 4, 16)},
    }
    return {
        "last_over_first": {
            f"{what}: {figure}": _last_over_first(rows[what], figure)
            for what in rows
            for figure in ("peak_MiB", "looking_ms_per_patch")
        },
        **rows,
    }


def _last_over_first(rows: dict[str, dict[str, Any]], figure: str) -> float:
    values = [row[figure] for row in rows.values()]
    return round(values[-1] / values[0], 3)


def _run(slides: list[Path], n_classes: int = 2, overlap: float = 0.0) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=slides[0].parent) as output:
        asked = {"output": output, "slides": list(map(str, slides)), "classes": n_classes, "overlap": overlap}
        command = [sys.executable, "-c", _RUN, json.dumps(asked)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # This part takes half an hour: say what is there already.
    what = f"{len(slides)} x {slides[0].stem}, {n_classes} classes, overlap {overlap:g}"
    print(f"{what}: {measured}", flush=True)
    return measured


def _slide(work: Path, n_patches: int, side_px: int | None = None) -> Path:
    """A slide with a square of tissue of about so many patches, in its middle where its side is given."""
    tissue_px = round(math.sqrt(n_patches)) * PATCH_PX
    side_px = side_px or (tissue_px + 2048) // 256 * 256
    path = work / f"{n_patches}-{side_px}.svs"
    if not path.exists():
        corner = (side_px - tissue_px) // 2
        write_sparse_svs(path, side_px, [(corner, corner, tissue_px, tissue_px)], mpp=0.5)
    return path
