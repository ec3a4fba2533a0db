"""Exports of a slide with 200 000 patches from its run folder: seconds, peak memory and size of each.

500 x 400 patches of 7 x 7 cells, two classes, a tenth of the slide never seen and tumour in blobs. Every
format is written by a process of its own, as ``wsi-cam export`` does it; the table and the heatmaps are read
from disk, imports are timed apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.export.make_run import finished_run
from tests.export.make_tables import patch_table
from wsi_cam.export.tables import write_patches_csv
from wsi_cam.geometry import Affine, Mpp

CELLS, CELL_PX = 7, 64
FORMATS = ("patches.geojson alone", "qupath", "csv", "ome-tiff", "asap", "parquet")

_EXPORT = """
import json, resource, sys, time
from pathlib import Path
def peak():
    # Of this program alone: ru_maxrss would begin with the memory of the process that started it.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
began = time.perf_counter()
from wsi_cam.export.exporters import export
from wsi_cam.export.qupath import write_patches_geojson
from wsi_cam.export.source import ExportOptions, export_source
from wsi_cam.run_folder import RunFolder
imported, imports_peak = time.perf_counter(), peak()
source = export_source(RunFolder(Path(sys.argv[1])), "case_7")
if sys.argv[2] == "patches.geojson alone":
    written = [write_patches_geojson(Path(sys.argv[1]) / "alone" / "patches.geojson", source.table)]
else:
    written = export(source, sys.argv[2], ExportOptions(), force=True)
print(json.dumps({
    "seconds": round(time.perf_counter() - imported, 2),
    "peak_MiB": round(peak()),
    "imports_s": round(imported - began, 2),
    "imports_MiB": round(imports_peak),
    "files_MiB": {path.name: round(path.stat().st_size / 2**20, 2) for path in written},
}))
"""


def measure(work: Path, quick: bool) -> dict[str, Any]:
    columns, rows = (50, 40) if quick else (500, 400)
    patch_px = CELLS * CELL_PX
    run = finished_run(
        work / "run",
        work / "slide.svs",
        values=_blobs(columns * CELLS, rows * CELLS),
        to_level0=Affine(CELL_PX, CELL_PX),
        mpp=Mpp(0.25, 0.25),
    )
    table = patch_table(columns * rows, patch_level0=(patch_px, patch_px), columns=columns)
    write_patches_csv(run.slide("case_7").patches_csv, table)
    results: dict[str, Any] = {"patches": len(table), "heatmap_px": [columns * CELLS, rows * CELLS]}
    for name in FORMATS:
        command = [sys.executable, "-c", _EXPORT, str(run.path), name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    results["highest_peak_MiB"] = max(results[name]["peak_MiB"] for name in FORMATS)
    return results


def _blobs(width: int, height: int) -> NDArray[np.float32]:
    """(height, width): smooth hills of probability with noise of the patches' scale; a corner is NaN."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    hills = 0.5 + 0.5 * np.sin(x / 90) * np.sin(y / 70)
    noise = np.kron(
        rng.normal(scale=0.1, size=(-(-height // CELLS), -(-width // CELLS))).astype(np.float32),
        np.ones((CELLS, CELLS), np.float32),
    )[:height, :width]
    values = np.clip(hills + noise, 0, 1).astype(np.float32)
    values[(x / width + y / height) < 0.45] = np.nan
    return values
