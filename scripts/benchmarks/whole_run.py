"""The whole command on one slide against the bare forward passes of the same network on the same patches.

A slide of 20 x 20 patches of 224 px at 0.5 um/px, all tissue, three classes, ResNet-50 with random weights
(speed does not depend on their values). "command" is ``wsi-cam run`` from its start to its exit, each time
a fresh process: opening, tissue, plan, reading, network, evidence, stitching, Zarr, tables, QuPath files,
OME-TIFF and pictures. "run" is the command less what a process takes that only imports what a run imports,
timed just before it. The bare passes are timed without the imports of their process. The run can take
less than they do: it folds the norms into the convolutions and computes ReLU and shortcut with them, the
network as users have it does not.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.pairing import median_ratio
from tests.make_models import model_card, write_bundle
from tests.make_slides import tissue_image, write_svs

PATCH_PX, SIDE, BATCH_SIZE = 224, 20, 16
CLASS_NAMES = ("benign", "invasive", "normal")

_BARE = """
import json, sys, time
import numpy as np
import torch
from wsi_cam.classifiers.bundle import load_classifier
classifier = load_classifier(sys.argv[1])
patches, batch_size = np.load(sys.argv[2]), int(sys.argv[3])
began = time.perf_counter()
with torch.inference_mode():
    for start in range(0, len(patches), batch_size):
        classifier.network(classifier.normalise(patches[start : start + batch_size]))
print(json.dumps(time.perf_counter() - began))
"""


@dataclass(frozen=True)
class Case:
    """A slide alone in its folder, a bundle, and the slide's patches (n, s, s, 3) as a file of NumPy's."""

    slide: Path
    bundle: Path
    patches: Path
    n_patches: int


def make_case(work: Path, quick: bool) -> Case:
    """All tissue, so that every tool finds the same patches."""
    side = 4 if quick else SIDE
    pixels = side * PATCH_PX
    image = tissue_image(pixels, pixels, [(0, 0, pixels, pixels)])
    (work / "slides").mkdir()
    slide = write_svs(work / "slides" / "slide.svs", image, mpp=0.5)
    card = model_card(class_names=CLASS_NAMES, patch_size_px=PATCH_PX, mpp_um=0.5)
    patches = image.reshape(side, PATCH_PX, side, PATCH_PX, 3).swapaxes(1, 2)
    np.save(work / "patches.npy", patches.reshape(-1, PATCH_PX, PATCH_PX, 3))
    return Case(slide, write_bundle(work / "bundle", card), work / "patches.npy", side**2)


def measure(work: Path, quick: bool) -> dict[str, Any]:
    case = make_case(work, quick)
    bare, imports, command = [], [], []
    for repeat in range(1 if quick else 3):
        bare.append(bare_forward_s(case))
        imports.append(seconds_of([sys.executable, "-c", "import wsi_cam.batch.one_slide"]))
        command.append(command_s(case, work / f"out{repeat}"))
    runs = [whole - start for whole, start in zip(command, imports, strict=True)]
    timing = json.loads((work / "out0" / "slides" / "slide" / "timing.json").read_text())
    return {
        "patches": case.n_patches,
        "bare_forward_s": round(statistics.median(bare), 2),
        "bare_forward_patches_per_s": round(case.n_patches / statistics.median(bare), 2),
        "command_s": round(statistics.median(command), 2),
        "imports_s": round(statistics.median(imports), 2),
        "run_s": round(statistics.median(runs), 2),
        "run_over_bare_forward": median_ratio(runs, bare),
        "each_ratio": [round(run / passes, 3) for run, passes in zip(runs, bare, strict=True)],
        "stages_of_first_run_s": timing["seconds"],
    }


def bare_forward_s(case: Case) -> float:
    """Seconds of the network alone on all patches, in a fresh process."""
    arguments = [str(case.bundle), str(case.patches), str(BATCH_SIZE)]
    done = subprocess.run(
        [sys.executable, "-c", _BARE, *arguments], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def command_s(case: Case, output: Path) -> float:
    """Seconds of ``wsi-cam run``; every patch has to be in its result."""
    seconds = seconds_of(
        [
            *(sys.executable, "-m", "wsi_cam.cli.main", "run", str(case.slide), "-o", str(output)),
            *("--model", str(case.bundle), "--min-tissue", "0", "-q"),
        ]
    )
    timing = json.loads((output / "slides" / case.slide.stem / "timing.json").read_text())
    assert timing["patches"] == case.n_patches
    return seconds


def seconds_of(command: list[str], **options: Any) -> float:
    """Of a process, from its start to its exit."""
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True, **options)
    return time.perf_counter() - began
