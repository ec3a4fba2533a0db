"""The TIFF reader against OpenSlide on the same slides, one thread: aligned tiles, unaligned, and resized.

Regions of 256 px from a slide of 4 096 px a side, every pixel once. "resized" is what a run does for a model
at twice the spacing: blocks of 2 048 px, resampled, cut into patches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.pairing import alternate, median_ratio
from tests.make_slides import tissue_image, write_svs
from wsi_cam.geometry import Affine, Level0, Thumbnail
from wsi_cam.loader import PatchReader, ReadAhead, read_batches
from wsi_cam.slides.slide import Slide, open_slide, require_mpp
from wsi_cam.tiling.patch_plan import plan_patches
from wsi_cam.tiling.tissue import TissueMask

KINDS = {
    "jpeg_420": {"compression": "jpeg", "subsampling": "420"},
    "jpeg_444": {"compression": "jpeg", "subsampling": "444"},
    "jpeg2000": {"compression": "jpeg2000"},
}


def measure(work: Path, quick: bool) -> dict[str, Any]:
    side_px = 1024 if quick else 4096
    image = tissue_image(side_px, side_px, [(0, 0, side_px, side_px)])
    results: dict[str, Any] = {}
    for name, options in KINDS.items():
        px = side_px if name != "jpeg2000" else side_px // 4
        path = write_svs(work / f"{name}.svs", image[:px, :px], mpp=0.5, levels=(1,), **options)  # type: ignore[arg-type]
        for job, read in {
            "aligned": _tiles(px, 0),
            "unaligned": _tiles(px, 100),
            "resized_2x": _resized,
        }.items():
            # A new slide each time: nothing decoded before may be found in a cache.
            ways = {reader: _with_new_slide(path, reader, read) for reader in ("tiff", "openslide")}
            seconds = alternate(ways, 2 if quick else 7)
            n = read_count(px, job)
            results[f"{name}_{job}"] = {
                "openslide_over_tiff": median_ratio(seconds["openslide"], seconds["tiff"]),
                **{f"{reader}_per_s": round(n / float(np.median(seconds[reader]))) for reader in ways},
            }
    return results


def read_count(side_px: int, job: str) -> int:
    """Regions of 256 px of the slide, or patches of 256 model pixels."""
    per_side = side_px // 512 if job == "resized_2x" else side_px // 256
    return per_side**2


def _with_new_slide(path: Path, reader: str, read: Callable[[Slide], None]) -> Callable[[], None]:
    def job() -> None:
        with open_slide(path, reader=reader) as slide:
            read(slide)

    return job


def _tiles(side_px: int, shift: int) -> Callable[[Slide], None]:
    def read(slide: Slide) -> None:
        for y in range(0, side_px, 256):
            for x in range(0, side_px, 256):
                slide.read_region(0, (x + shift, y + shift, 256, 256))

    return read


def _resized(slide: Slide) -> None:
    size, mpp = slide.info.size, require_mpp(slide.info)
    everywhere: Affine[Thumbnail, Level0] = Affine(size.width, size.height)
    tissue = TissueMask(np.ones((1, 1), np.bool_), everywhere, "all")
    levels = [level.to_level0 for level in slide.info.levels]
    plan = plan_patches(tissue, size, mpp, levels, size_px=256, mpp_um=1.0)
    reader = PatchReader(slide, plan, plan.level_to_level0)
    for _ in read_batches(ReadAhead(reader, plan, num_workers=0), 16):
        pass
