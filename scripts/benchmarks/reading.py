"""The TIFF reader against OpenSlide on the same slides, one thread: aligned tiles, unaligned, and resized.

Regions of 256 px from a slide of 4 096 px a side (1 024 px for JPEG 2000), side by side; "unaligned" ones
begin within tiles. "resized_2x" is what a run does for a model at twice the spacing, in patches of 256
model px. "openslide" is the plain library as its users call it:
``read_region(...).convert("RGB")`` of each region, and Pillow's bilinear ``resize``.
"openslide_reader" is the same job through this package's own OpenSlide reader, which takes over where the
TIFF reader is not exact. Pixels are those of the demo's real slide, mirrored and written again at quality 90;
"noise" is a drawn texture with noise in every pixel, three times the bytes of real tissue: the worst case,
since decoding the bytes is what neither reader can do without.

fastslide is measured where it is installed. It is no reader of this package: the pixels of its release 0.8.1
differ from OpenSlide's in two thirds of all values, by up to 6 grey levels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from scripts.benchmarks.pairing import alternate, median_ratio
from tests.make_slides import tissue_image, write_svs
from wsi_cam.demo_slide import demo_slide
from wsi_cam.geometry import Affine, Level0, Thumbnail
from wsi_cam.loader import PatchReader, ReadAhead, read_batches
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import Slide, require_mpp
from wsi_cam.tiling.patch_plan import plan_patches
from wsi_cam.tiling.tissue import TissueMask

Pixels = NDArray[np.uint8]
PATCH_PX = 256

KINDS: dict[str, dict[str, str]] = {
    "jpeg_420": {"subsampling": "420"},
    "jpeg_444": {"subsampling": "444"},
    "jpeg_420_noise": {"subsampling": "420"},
    "jpeg_444_noise": {"subsampling": "444"},
    "jpeg2000": {"compression": "jpeg2000"},
}
#: Job -> where the regions begin, and how many pixels of the slide one of the model's is wide.
JOBS = {"aligned": (0, 1), "unaligned": (100, 1), "resized_2x": (0, 2)}


def measure(work: Path, quick: bool) -> dict[str, Any]:
    side_px = 1024 if quick else 4096
    real = _real_pixels(side_px)
    noise = tissue_image(side_px, side_px, [(0, 0, side_px, side_px)])
    results: dict[str, Any] = {}
    for name, options in KINDS.items():
        px = side_px if name != "jpeg2000" else side_px // 4
        pixels = (noise if name.endswith("noise") else real)[:px, :px]
        path = write_svs(work / f"{name}.svs", pixels, mpp=0.5, levels=(1,), **options)  # type: ignore[arg-type]
        results[f"{name}_bytes_per_tile"] = round(path.stat().st_size / (px / PATCH_PX) ** 2)
        for job, (shift, factor) in JOBS.items():
            if name.endswith("noise") and job == "unaligned":
                continue
            ways = _ways(path, px, shift, factor)
            seconds = alternate(ways, 2 if quick else 7)
            n = (px // (PATCH_PX * factor)) ** 2
            results[f"{name}_{job}"] = {
                "openslide_over_tiff": median_ratio(seconds["openslide"], seconds["tiff"]),
                **{f"{way}_per_s": round(n / float(np.median(seconds[way]))) for way in ways},
            }
    return results


def _ways(path: Path, side_px: int, shift: int, factor: int) -> dict[str, Callable[[], None]]:
    """Every way opens the slide anew: nothing decoded before may be found in a cache."""
    step = PATCH_PX * factor
    corners = [(x + shift, y + shift) for y in range(0, side_px, step) for x in range(0, side_px, step)]

    def ours(reader: str) -> Callable[[], None]:
        def read() -> None:
            with open_slide(path, reader=reader) as slide:
                if factor > 1:
                    _read_as_a_run_does(slide, factor)
                    return
                for x, y in corners:
                    slide.read_region(0, (x, y, step, step))

        return read

    def plain() -> None:
        with openslide.OpenSlide(path) as slide:
            for corner in corners:
                picture = slide.read_region(corner, 0, (step, step)).convert("RGB")
                if factor > 1:
                    picture = picture.resize((PATCH_PX, PATCH_PX), Image.Resampling.BILINEAR)
                np.asarray(picture)

    ways = {"tiff": ours("tiff"), "openslide": plain, "openslide_reader": ours("openslide")}
    if factor == 1 and importlib.util.find_spec("fastslide"):
        ways["fastslide"] = _with_fastslide(path, corners)
    return ways


def _with_fastslide(path: Path, corners: list[tuple[int, int]]) -> Callable[[], None]:
    import fastslide

    def read() -> None:
        slide = fastslide.FastSlide.from_file_path(str(path))
        for corner in corners:
            slide.read_region(location=corner, level=0, size=(PATCH_PX, PATCH_PX)).numpy()
        slide.close()

    return read


def _read_as_a_run_does(slide: Slide, factor: int) -> None:
    size, mpp = slide.info.size, require_mpp(slide.info)
    everywhere: Affine[Thumbnail, Level0] = Affine(size.width, size.height)
    tissue = TissueMask(np.ones((1, 1), np.bool_), everywhere, "all")
    levels = [level.to_level0 for level in slide.info.levels]
    plan = plan_patches(tissue, size, mpp, levels, size_px=PATCH_PX, mpp_um=mpp.x * factor)
    reader = PatchReader(slide, plan, plan.level_to_level0)
    for _ in read_batches(ReadAhead(reader, plan, num_workers=0), 16):
        pass


def _real_pixels(side_px: int) -> Pixels:
    """The demo's slide and its mirror images, as many as are needed."""
    with open_slide(demo_slide()) as slide:
        size = slide.info.size
        pixels = slide.read_region(0, (0, 0, size.width, size.height))
    for axis in (0, 1):
        while pixels.shape[axis] < side_px:
            pixels = np.concatenate([pixels, np.flip(pixels, axis)], axis)
    return pixels[:side_px, :side_px]
