"""A small bundle and small slides for all tests of batches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.make_models import model_card, write_bundle
from tests.make_slides import tissue_image, write_svs
from wsi_cam import RunSettings, pipeline
from wsi_cam.inference import PatchExplainer


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle", model_card(patch_size_px=64, mpp_um=1.0))


_KEPT: dict[object, PatchExplainer] = {}


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs in this process share one loaded model, as the slides of a run do: loading takes longest."""
    make = pipeline.make_explainer

    def make_once(settings: RunSettings) -> PatchExplainer:
        key = settings.model, settings.device, settings.target_layer, settings.batch_size
        if key not in _KEPT:
            _KEPT[key] = make(settings)
        return _KEPT[key]

    monkeypatch.setattr(pipeline, "make_explainer", make_once)


@pytest.fixture(scope="session")
def settings(bundle: Path) -> RunSettings:
    return RunSettings(model=bundle, device="cpu", num_workers=1, export=("csv",), top_patches=0)


def small_slide(path: Path, side: int = 300, seed: int = 0) -> Path:
    """A slide of some twenty patches; ``side`` of its tissue in px of 1 um."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = tissue_image(side + 40, side + 60, [(20, 20, side, side)], seed=seed)
    return write_svs(path, image, mpp=1.0)


def long_slide(path: Path) -> Path:
    """A slide of some 200 patches, which keep a core busy for seconds."""
    return small_slide(path, side=900)


def command(*arguments: object, bundle: Path, output: Path) -> list[str]:
    """``wsi-cam run`` as a command of its own, with as little to write as can be."""
    return [
        *(sys.executable, "-m", "wsi_cam.cli.main", "run", *map(str, arguments), "-o", str(output)),
        *("--model", str(bundle), "--device", "cpu", "--num-workers", "1", "--batch-size", "1"),
        *("--export", "csv", "--top-patches", "0"),
    ]


@contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The command, running; killed at the end of the block if it still does."""
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
