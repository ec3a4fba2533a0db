"""Small trials of the parts that an installation most often breaks; ``wsi-cam doctor`` prints them.

Each returns one line of facts, or raises whatever is wrong.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np


def try_devices() -> str:
    """What torch can compute on."""
    import torch

    found = [f"cpu ({torch.get_num_threads()} threads)"]
    found += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return ", ".join(found)


def try_reader(reader: str) -> str:
    """Write a small tiled slide, read it back with ``reader``, and compare the pixels."""
    import tifffile

    from wsi_cam.slides.opening import open_slide

    pixels = np.arange(512 * 512 * 3, dtype=np.uint32).astype(np.uint8).reshape(512, 512, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.tif"
        tifffile.imwrite(
            path, pixels, tile=(256, 256), photometric="rgb", compression="deflate",
            resolution=(20000, 20000), resolutionunit="CENTIMETER",
        )  # fmt: skip
        with open_slide(path, reader=reader) as slide:
            if not np.array_equal(slide.read_region(0, (0, 0, 512, 512)), pixels):
                raise ValueError("the pixels read are not those written")
            return f"reads a tiled TIFF as {slide.info.vendor}"


def try_model() -> str:
    """Load the bundled model and classify two patches."""
    from wsi_cam.classifiers.bundle import load_classifier

    classifier = load_classifier()
    size = classifier.card.patch_size_px
    began = time.perf_counter()
    probabilities = classifier.predict(np.zeros((2, size, size, 3), np.uint8))
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4):
        raise ValueError("the probabilities of a patch do not sum to 1")
    seconds = time.perf_counter() - began
    return f"{classifier.card.name} on {classifier.device}, two patches of {size} px in {seconds:.2f} s"


def try_heatmap() -> str:
    """Write a small heatmap and read it back."""
    from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Size
    from wsi_cam.heatmap.store import HeatmapWriter, open_heatmap

    rows = np.linspace(0, 1, 2 * 40 * 50, dtype=np.float32).reshape(2, 40, 50)
    to_level0: Affine[Heatmap, Level0] = Affine(32, 32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.ome.zarr"
        writer = HeatmapWriter(
            path,
            Size(50, 40),
            channel_names=("a", "b"),
            channel_colors=((200, 0, 0), (0, 0, 200)),
            to_level0=to_level0,
            mpp=Mpp(0.5, 0.5),
            name="trial",
            provenance={},
        )
        writer.write_rows(0, rows)
        writer.finish()
        if not np.array_equal(open_heatmap(path).read(0), rows):
            raise ValueError("the values read are not those written")
    return "OME-Zarr written and read back"
