"""What a CUDA GPU makes of it: the network alone, with evidence, and fed from memory and from a slide.

ResNet-50 with random weights, three classes, patches of 224 and 96 px, batches and mixed precision as a run
chooses them. "forward" is the network as a run has it (norms folded, float16) on one batch that lies on
the card; "fed_from_memory" sends uint8 batches there and fetches probabilities and evidence; "reading" is a
slide through all reading threads with nobody at the other end; "run" is the slide through the whole run
without tissue finding and exports. The bound of a run is the smaller of reading and forward. Shares of the
card's rate are of what a large float16 matrix product reaches on it, at 8.2 GFLOP a patch of 224 px.
Agreement is with float32 on the CPU, on 64 patches: of probabilities, and of evidence over its range.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.make_models import model_card, random_resnet50
from tests.make_slides import tissue_image, write_sparse_svs
from wsi_cam import explain_slide
from wsi_cam.classifiers.classifier import Classifier
from wsi_cam.classifiers.folding import with_norms_folded
from wsi_cam.geometry import Affine, Level0, Thumbnail
from wsi_cam.inference import PatchExplainer
from wsi_cam.loader import PatchReader, ReadAhead, default_workers, read_batches
from wsi_cam.settings import RunSettings
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import require_mpp
from wsi_cam.tiling.patch_plan import plan_patches
from wsi_cam.tiling.tissue import TissueMask

_FLOP_OF_224_PX = 8.2e9
Pixels = NDArray[np.uint8]


def measure(work: Path, quick: bool) -> dict[str, Any]:
    if not torch.cuda.is_available():
        print("no CUDA GPU is at hand: nothing is measured")
        return {}
    device = torch.device("cuda", torch.cuda.current_device())
    flops = _matrix_flops(device, 1024 if quick else 8192)
    sizes = {f"{size_px}_px": _at_size(work, device, size_px, quick) for size_px in (224, 96)}
    for name, figures in sizes.items():
        flop = _FLOP_OF_224_PX * (int(name.removesuffix("_px")) / 224) ** 2
        for what in ("forward", "run"):
            share = figures["patches_per_s"][what] * flop / flops
            figures[f"{what}_share_of_matrix_rate"] = round(share, 3)
    return {"matrix_TFLOP_per_s": round(flops / 1e12, 1), **sizes}


def _at_size(work: Path, device: torch.device, size_px: int, quick: bool) -> dict[str, Any]:
    card = model_card(class_names=("a", "b", "c"), patch_size_px=size_px, mpp_um=0.5)
    explainer = PatchExplainer(Classifier(random_resnet50(3), card, device))
    n, side = explainer.batch_size, 4 if quick else 142
    texture = tissue_image(size_px, size_px * n, [(0, 0, size_px * n, size_px)])
    pixels = np.ascontiguousarray(texture.reshape(size_px, n, size_px, 3).swapaxes(0, 1))
    tissue_px = side * size_px
    slide = write_sparse_svs(
        work / f"{size_px}.svs",
        (tissue_px + 2048) // 256 * 256,
        [(1024, 1024, tissue_px, tissue_px)],
        mpp=0.5,
    )
    n_batches = 2 if quick else 50
    rates = {
        "forward": n * n_batches / _seconds(_forward(explainer, pixels, n_batches), device),
        "fed_from_memory": n * n_batches / _seconds(lambda: _feed(explainer, pixels, n_batches), device),
        "reading": _reading_rate(slide, size_px, n),
        "run": _run_rate(slide, work / f"out{size_px}", explainer),
    }
    bound = min(rates["reading"], rates["forward"])
    return {
        "batch_size": n,
        "reading_threads": default_workers(),
        "patches_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "fed_from_memory_over_forward": round(rates["fed_from_memory"] / rates["forward"], 3),
        "run_over_its_bound": round(rates["run"] / bound, 3),
        "largest_difference_from_float32_on_the_cpu": _agreement(explainer, pixels[: min(n, 64)]),
    }


def _forward(explainer: PatchExplainer, pixels: Pixels, n_batches: int) -> Callable[[], None]:
    batch = explainer.classifier.normalise(pixels)
    network = with_norms_folded(explainer.classifier.network)
    half = batch.device.type == "cuda"

    def look() -> None:
        with torch.inference_mode(), torch.autocast(batch.device.type, torch.float16, enabled=half):
            for _ in range(n_batches):
                network(batch)

    return look


def _feed(explainer: PatchExplainer, pixels: Pixels, n_batches: int) -> None:
    pending = explainer.submit(pixels)
    for _ in range(n_batches - 1):
        following = explainer.submit(pixels)
        pending.result()
        pending = following
    pending.result()


def _reading_rate(path: Path, size_px: int, batch_size: int) -> float:
    """Patches per second of the whole slide, so that it can be read without finding its tissue."""
    with open_slide(path) as slide:
        size = slide.info.size
        everywhere: Affine[Thumbnail, Level0] = Affine(size.width, size.height)
        mask = TissueMask(np.ones((1, 1), np.bool_), everywhere, "all")
        levels = [level.to_level0 for level in slide.info.levels]
        plan = plan_patches(mask, size, require_mpp(slide.info), levels, size_px=size_px, mpp_um=0.5)
        reader = PatchReader(slide, plan, plan.level_to_level0)
        began = time.perf_counter()
        for _ in read_batches(ReadAhead(reader, plan, default_workers()), batch_size):
            pass
        return len(plan) / (time.perf_counter() - began)


def _run_rate(path: Path, output: Path, explainer: PatchExplainer) -> float:
    """Patches per second from a run's first report until both heatmaps are finished."""
    reports: list[tuple[int, float]] = []
    result = explain_slide(
        path,
        output,
        explainer,
        RunSettings(export=("csv",), overlap=0.0),
        progress=lambda done, total: reports.append((done, time.perf_counter())),
    )
    # That all are done is said with the last batch, and again before each thing that is written then.
    ended = [at for done, at in reports if done == result.n_patches][1]
    return result.n_patches / (ended - reports[0][1])


def _agreement(explainer: PatchExplainer, pixels: Pixels) -> dict[str, float]:
    card = explainer.classifier.card
    network = random_resnet50(len(card.class_names))
    exact = PatchExplainer(Classifier(network, card, "cpu"), batch_size=len(pixels)).explain(pixels)
    seen = explainer.explain(pixels)
    span = float(exact.evidence.max() - exact.evidence.min())
    return {
        "probability": float(abs(seen.probabilities - exact.probabilities).max()),
        "evidence_over_its_range": float(abs(seen.evidence - exact.evidence).max()) / span,
    }


def _matrix_flops(device: torch.device, side: int) -> float:
    left, right = (torch.randn(side, side, device=device).half() for _ in range(2))
    return 2 * side**3 * 10 / _seconds(lambda: [left @ right for _ in range(10)], device)


def _seconds(job: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Median seconds of a job, after one that is not counted, until the device has ended it."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    seconds = []
    for _ in range(repeats + 1):
        wait()
        began = time.perf_counter()
        job()
        wait()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
