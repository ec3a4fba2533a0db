"""Stitching, pyramid and store of both layers: patches per second of 7 x 7 maps and 3 classes, one thread.

60 025 patches (245 a side) of random evidence, the worst case for the compressor, without overlap and
with half overlap. The reference adds up dense NumPy arrays in memory and writes nothing.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.blending import window
from wsi_cam.heatmap.stitcher import BandStitcher
from wsi_cam.heatmap.store import HeatmapWriter

MAP_CELLS, CLASSES, BATCH_SIZE = 7, 3, 128
#: Rows of patches in a reading block of 2 048 px.
BLOCK_ROWS = 9

Maps = NDArray[np.float32]


def measure(work: Path, quick: bool) -> dict[str, Any]:
    side = 63 if quick else 245
    generator = np.random.default_rng(0)
    evidence = generator.normal(0, 3, (4096, CLASSES, MAP_CELLS, MAP_CELLS)).astype(np.float32)
    probability = generator.dirichlet([1] * CLASSES, 4096).astype(np.float32)
    results: dict[str, Any] = {"patches": side**2}
    for name, stride in (("no_overlap", 7), ("half_overlap", 3)):
        ours, reference = [], []
        for _ in range(2 if quick else 3):
            ours.append(_stitch(work, side, stride, evidence) + _stitch(work, side, stride, probability))
            reference.append(_reference(side, stride, evidence) + _reference(side, stride, probability))
        results[name] = {
            "patches_per_s": round(side**2 / float(np.median(ours))),
            "plain_numpy_patches_per_s": round(side**2 / float(np.median(reference))),
        }
    return results


def _origins(side: int, stride: int) -> NDArray[np.int64]:
    row, column = np.divmod(np.arange(side**2), side)
    return np.stack([column, row], axis=1) * stride


def _stitch(work: Path, side: int, stride: int, values: Maps) -> float:
    """Seconds for one layer, from maps in memory to a finished store."""
    cell_xy, cells = _origins(side, stride), (side - 1) * stride + MAP_CELLS
    size, folder = Size(cells, cells), work / "heatmap.ome.zarr"
    to_level0: Affine[Heatmap, Level0] = Affine(32, 32)
    began = time.perf_counter()
    writer = HeatmapWriter(folder, size, "abc", [(200, 0, 0)] * 3, to_level0, Mpp(0.5, 0.5), "benchmark", {})
    stitcher = BandStitcher(size, CLASSES, MAP_CELLS, stride, writer.write_rows)
    for start in range(0, len(cell_xy), BATCH_SIZE):
        batch = cell_xy[start : start + BATCH_SIZE]
        stitcher.finish_above(int(batch[0, 1]) // (BLOCK_ROWS * stride) * BLOCK_ROWS * stride)
        stitcher.add(batch, values[start % 4096 :][: len(batch)])
    stitcher.close()
    writer.finish()
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return seconds


def _reference(side: int, stride: int, values: Maps) -> float:
    """The same sum in dense arrays, patch by patch."""
    cells, weights = (side - 1) * stride + MAP_CELLS, window(MAP_CELLS, stride)
    began = time.perf_counter()
    total, weight = np.zeros((CLASSES, cells, cells)), np.zeros((cells, cells))
    for i, (x, y) in enumerate(_origins(side, stride).tolist()):
        value = values[i % 4096]
        value = value[:, None, None] if value.ndim == 1 else value
        total[:, y : y + MAP_CELLS, x : x + MAP_CELLS] += weights * value
        weight[y : y + MAP_CELLS, x : x + MAP_CELLS] += weights
    _ = total / weight
    return time.perf_counter() - began
