"""Run folders with one finished slide, made with the package's own writers and without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.export.make_heatmaps import heatmap
from tests.export.make_tables import patch_table
from tests.make_slides import tissue_image, write_svs
from wsi_cam.export.source import ExportSource, export_source
from wsi_cam.export.tables import write_patches_csv
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp
from wsi_cam.run_folder import RunFolder, write_json

SLIDE_SIZE = (900, 700)
MPP = Mpp(0.5, 0.5)
CELL_PX = 20
"""Level-0 pixels of a heatmap pixel."""


def small_slide(path: Path) -> Path:
    """A slide of 900 x 700 px at 0.5 um/px, half of it tissue."""
    width, height = SLIDE_SIZE
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_svs(path, tissue_image(height, width, [(100, 80, 500, 450)]), mpp=MPP.x, levels=(1, 4))


def planted_probability() -> NDArray[np.float32]:
    """(35, 45): 0.1 on tissue, 0.9 in a square with a hole of 0.2, NaN around."""
    values = np.full((SLIDE_SIZE[1] // CELL_PX, SLIDE_SIZE[0] // CELL_PX), np.nan, np.float32)
    values[4:26, 5:30] = 0.1
    values[8:20, 10:24] = 0.9
    values[12:15, 14:18] = 0.2
    return values


def finished_run(
    folder: Path,
    slide: Path,
    sample_id: str = "case_7",
    class_names: Sequence[str] = ("normal", "tumour"),
    bounds: Box[Level0] | None = None,
    values: NDArray[np.float32] | None = None,
    to_level0: Affine[Heatmap, Level0] | None = None,
    mpp: Mpp = MPP,
    recorded_slide: str | None = None,
) -> RunFolder:
    """A run of one slide; ``values`` (h, w) are the probability of the last class."""
    run = RunFolder(folder)
    files = run.slide(sample_id)
    files.path.mkdir(parents=True, exist_ok=True)
    tumour = planted_probability() if values is None else values
    both = np.stack([1 - tumour, tumour])
    affine = to_level0 or Affine[Heatmap, Level0](CELL_PX, CELL_PX)
    heatmap(files.probability_zarr, both, affine, mpp, class_names)
    heatmap(files.evidence_zarr, 10 * both - 2, affine, mpp, class_names)
    table = patch_table(60, unread=(7,), patch_level0=(96.0, 96.0), columns=10)
    write_patches_csv(files.patches_csv, replace(table, class_names=tuple(class_names)))
    record: dict[str, Any] = {
        "sample_id": sample_id,
        "score": {
            "class": class_names[-1],
            "value": 0.9,
            "rule": "mean of the 10 highest",
            "of_each_class": dict.fromkeys(class_names, 0.9),
        },
        "slide": {
            "path": recorded_slide or str(slide),
            "reader": "tiff",
            "vendor": "aperio",
            "series": 0,
            "size": {"width": SLIDE_SIZE[0], "height": SLIDE_SIZE[1]},
            "bounds": None if bounds is None else vars(bounds),
        },
        "model": {"name": "test model", "mpp_um": 1.0},
        "research_use": "Research use only.",
    }
    write_json(files.slide_json, record)
    return run


def finished_source(folder: Path, slide: Path, **changes: Any) -> ExportSource:
    """The slide of such a run."""
    run = finished_run(folder, slide, **changes)
    return export_source(run, changes.get("sample_id", "case_7"))
