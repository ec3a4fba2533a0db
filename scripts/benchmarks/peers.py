"""The whole command against those of WSInfer and TIAToolbox, which classify and explain nothing.

The slide, patches and batch size of the part "run", ResNet-50 with random weights, float32, from the start of
the process to its exit, imports included; each tool is otherwise left at its defaults. The other tools
need environments of their own, which are named by variables; one that is not named is left out.

    python -m venv wsinfer-env
    wsinfer-env/bin/pip install wsinfer==0.6.1 "zarr<3" "tiffslide<3"
    python -m venv tiatoolbox-env
    tiatoolbox-env/bin/pip install tiatoolbox==2.1.3
    WSINFER_PYTHON=wsinfer-env/bin/python TIATOOLBOX_PYTHON=tiatoolbox-env/bin/python scripts/benchmark peers

WSInfer asks for its list of models on the network as it is imported; here it is given an empty list, so that
the time of that request does not count against it and no network is needed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from scripts.benchmarks.pairing import median_ratio
from scripts.benchmarks.whole_run import (
    BATCH_SIZE,
    CLASS_NAMES,
    PATCH_PX,
    Case,
    command_s,
    make_case,
    seconds_of,
)
from wsi_cam.classifiers.bundle import load_classifier

_WSINFER = """
from wsinfer_zoo import client
registry = client.ModelRegistry({})
client.load_registry = lambda *a: registry
from wsinfer.cli.cli import cli
cli()
"""

_TIATOOLBOX = """
import json, sys
import torch
import torchvision
slide, weights, output, size_px, mpp, batch_size, n_classes = sys.argv[1:]
from tiatoolbox.models.architecture.vanilla import CNNModel
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
network = CNNModel("resnet50", num_classes=int(n_classes))
network.load_state_dict(torch.load(weights, weights_only=True))
shape = [int(size_px)] * 2
config = IOPatchPredictorConfig(
    input_resolutions=[{"units": "mpp", "resolution": float(mpp)}],
    patch_input_shape=shape, stride_shape=shape,
)
predictor = PatchPredictor(model=network, batch_size=int(batch_size), verbose=False)
predictor.run([slide], patch_mode=False, ioconfig=config, device="cpu", save_dir=output, overwrite=True)
"""


def measure(work: Path, quick: bool) -> dict[str, Any]:
    pythons = {
        name: python
        for name in ("wsinfer", "tiatoolbox")
        if (python := os.environ.get(f"{name.upper()}_PYTHON"))
    }
    if not pythons:
        print("neither WSINFER_PYTHON nor TIATOOLBOX_PYTHON is set: nothing to compare with; see --help")
        return {}
    case = make_case(work, quick)
    ways: dict[str, Callable[[int], float]] = {"wsi_cam": lambda n: command_s(case, work / f"ours{n}")}
    if "wsinfer" in pythons:
        ways["wsinfer"] = _wsinfer(case, work, pythons["wsinfer"])
    if "tiatoolbox" in pythons:
        ways["tiatoolbox"] = _tiatoolbox(case, work, pythons["tiatoolbox"])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(1 if quick else 3):
        for name, way in ways.items():
            seconds[name].append(way(repeat))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "patches": case.n_patches,
        **{f"{name}_s": round(value, 1) for name, value in medians.items()},
        **{f"{name}_over_ours": median_ratio(seconds[name], seconds["wsi_cam"]) for name in pythons},
        "versions": {name: _version(name, python) for name, python in pythons.items()},
    }


def _wsinfer(case: Case, work: Path, python: str) -> Callable[[int], float]:
    """The network as TorchScript and a card, which is how WSInfer takes a model that is not in its zoo."""
    network = load_classifier(case.bundle, "cpu").network
    example = torch.zeros(1, 3, PATCH_PX, PATCH_PX)
    model, config = work / "wsinfer.pt", work / "wsinfer.json"
    torch.jit.trace(network, example).save(str(model))
    statistics_of_imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    card = {
        "spec_version": "1.0",
        "architecture": "resnet50",
        "num_classes": len(CLASS_NAMES),
        "class_names": list(CLASS_NAMES),
        "patch_size_pixels": PATCH_PX,
        "spacing_um_px": 0.5,
        "transform": [
            {"name": "Resize", "arguments": {"size": PATCH_PX}},
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments": statistics_of_imagenet},
        ],
    }
    config.write_text(json.dumps(card))

    def run(repeat: int) -> float:
        output = work / f"wsinfer{repeat}"
        seconds = seconds_of(
            [
                *(python, "-c", _WSINFER, "run", "-i", str(case.slide.parent), "-o", str(output)),
                *("-c", str(config), "-p", str(model), "-b", str(BATCH_SIZE)),
            ]
        )
        lines = (output / "model-outputs-csv" / "slide.csv").read_text().splitlines()
        assert len(lines) == case.n_patches + 1
        return seconds

    return run


def _tiatoolbox(case: Case, work: Path, python: str) -> Callable[[int], float]:
    """Its own ResNet-50 with random weights of its own names."""
    weights = work / "tiatoolbox.pth"
    make = (
        "import sys, torch; from tiatoolbox.models.architecture.vanilla import CNNModel;"
        "torch.save(CNNModel('resnet50', num_classes=int(sys.argv[2])).state_dict(), sys.argv[1])"
    )
    seconds_of([python, "-c", make, str(weights), str(len(CLASS_NAMES))])

    def run(repeat: int) -> float:
        arguments = [case.slide, weights, work / f"tiatoolbox{repeat}", PATCH_PX, 0.5, BATCH_SIZE]
        return seconds_of([python, "-c", _TIATOOLBOX, *map(str, arguments), str(len(CLASS_NAMES))])

    return run


def _version(name: str, python: str) -> str:
    code = f"import importlib.metadata as m; print(m.version('{name}'), 'torch', m.version('torch'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
