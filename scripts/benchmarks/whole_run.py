"""The whole command on one slide against the bare forward passes of the same network on the same patches.

A slide of 20 x 20 patches of 224 px at 0.5 um/px, all tissue, three classes, ResNet-50 with random weights
(speed does not depend on their values). Each process is a fresh one; imports are timed apart. "run" is
everything after them: opening, tissue, plan, reading, network, evidence, stitching, Zarr, tables, QuPath
files, OME-TIFF and pictures. It can take less than the bare passes, for it folds the batch norms into the
convolutions, which the network as users have it does not.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.make_models import model_card, write_bundle
from tests.make_slides import tissue_image, write_svs

PATCH_PX, SIDE, BATCH_SIZE = 224, 20, 16

_RUN = """
import json, sys, time
began = time.perf_counter()
import wsi_cam.batch
imported = time.perf_counter()
from wsi_cam.cli.main import main
status = main(["run", sys.argv[1], "-o", sys.argv[2], "--model", sys.argv[3], "-q", "--min-tissue", "0"])
assert status == 0
print(json.dumps({"imports": imported - began, "run": time.perf_counter() - imported}))
"""
_BARE = """
import json, sys, time
began = time.perf_counter()
import numpy as np
import torch
from wsi_cam.classifiers.bundle import load_classifier
classifier = load_classifier(sys.argv[1])
patches, batch_size = np.load(sys.argv[2]), int(sys.argv[3])
imported = time.perf_counter()
with torch.inference_mode():
    for start in range(0, len(patches), batch_size):
        classifier.network(classifier.normalise(patches[start : start + batch_size]))
print(json.dumps({"imports": imported - began, "run": time.perf_counter() - imported}))
"""


def measure(work: Path, quick: bool) -> dict[str, Any]:
    side = 4 if quick else SIDE
    pixels = side * PATCH_PX
    image = tissue_image(pixels, pixels, [(0, 0, pixels, pixels)])
    slide = write_svs(work / "slide.svs", image, mpp=0.5)
    card = model_card(class_names=("benign", "invasive", "normal"), patch_size_px=PATCH_PX, mpp_um=0.5)
    bundle = write_bundle(work / "bundle", card)
    patches = (
        image.reshape(side, PATCH_PX, side, PATCH_PX, 3).swapaxes(1, 2).reshape(-1, PATCH_PX, PATCH_PX, 3)
    )
    np.save(work / "patches.npy", patches)
    bare, whole = [], []
    for repeat in range(1 if quick else 3):
        bare.append(_in_process(_BARE, bundle, work / "patches.npy", BATCH_SIZE))
        whole.append(_in_process(_RUN, slide, work / f"out{repeat}", bundle))
    timing = json.loads((work / "out0" / "slides" / "slide" / "timing.json").read_text())
    bare_s, whole_s = (statistics.median(m["run"] for m in runs) for runs in (bare, whole))
    return {
        "patches": side * side,
        "bare_forward_s": round(bare_s, 2),
        "bare_forward_patches_per_s": round(side * side / bare_s, 2),
        "whole_run_s": round(whole_s, 2),
        "whole_run_over_bare_forward": round(whole_s / bare_s, 3),
        "each_ratio": [round(w["run"] / b["run"], 3) for w, b in zip(whole, bare, strict=True)],
        "imports_s": round(statistics.median(m["imports"] for m in whole), 2),
        "stages_of_first_run_s": timing["seconds"],
    }


def _in_process(code: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured
