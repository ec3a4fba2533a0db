"""Results of slides that never were: patches with known probabilities, stitched as a run stitches them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.export.make_heatmaps import heatmap
from wsi_cam.export.tables import PatchTable, write_patches_csv
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.stitcher import BandStitcher
from wsi_cam.process_list import ProcessRow, read_process_list, write_process_list
from wsi_cam.run_folder import RunFolder, write_json

MODEL_MPP_UM, CELL_PX, MAP_CELLS = 1.0, 32, 3
SLIDE_MPP = Mpp(0.5, 0.5)
CELL_LEVEL0 = CELL_PX * MODEL_MPP_UM / SLIDE_MPP.x
CLASSES = ("normal", "tumour")


def finished_slide(
    run: RunFolder,
    sample_id: str,
    tumour: NDArray[np.float32],
    stride_cells: int = 2,
    slide_size: Size | None = None,
    bounds: Box[Level0] | None = None,
    row: ProcessRow | None = None,
    evidence: bool = False,
    **record_changes: Any,
) -> None:
    """A finished slide whose patches, on a grid of ``stride_cells`` of three cells, have the given
    probabilities of tumour, (rows, columns); NaN where a patch could not be read, -1 where there is none.

    ``slide_size`` in level-0 pixels; what the patches cover where None. ``row`` goes to the process list.
    """
    rows, columns = tumour.shape
    grid_y, grid_x = np.nonzero(~(tumour < 0))
    cell_xy = np.stack([grid_x, grid_y], axis=1) * stride_cells
    column = tumour[grid_y, grid_x].astype(np.float32)
    probabilities = np.stack([1 - column, column], axis=1)
    cells = Size((columns - 1) * stride_cells + MAP_CELLS, (rows - 1) * stride_cells + MAP_CELLS)
    size = slide_size or Size(round(cells.width * CELL_LEVEL0), round(cells.height * CELL_LEVEL0))
    affine = Affine[Heatmap, Level0](CELL_LEVEL0, CELL_LEVEL0)
    lattice = Size(-(-size.width // round(CELL_LEVEL0)), -(-size.height // round(CELL_LEVEL0)))
    values = stitched(lattice, cell_xy, probabilities, stride_cells)
    files = run.slide(sample_id)
    files.path.mkdir(parents=True)
    heatmap(files.probability_zarr, values, affine, SLIDE_MPP, CLASSES)
    if evidence:
        heatmap(files.evidence_zarr, 10 * values - 2, affine, SLIDE_MPP, CLASSES)
    write_patches_csv(files.patches_csv, patch_table(cell_xy, probabilities))
    record = slide_record(run, sample_id, probabilities, size, bounds, stride_cells) | record_changes
    write_json(files.slide_json, record)
    if row is not None:
        listed(run, row)


def listed(run: RunFolder, *rows: ProcessRow) -> None:
    """Add rows to the process list."""
    run.slide("").path.mkdir(parents=True, exist_ok=True)
    known = read_process_list(run.process_list)
    write_process_list(run.process_list, known | {row.sample_id: row for row in rows})


def stitched(
    lattice: Size, cell_xy: NDArray[np.int64], values: NDArray[np.float32], stride_cells: int
) -> NDArray[np.float32]:
    """(c, height, width): what a run's stitcher makes of one value per patch and class."""
    result = np.full((values.shape[1], lattice.height, lattice.width), np.nan, np.float32)

    def take(first: int, rows: NDArray[np.float32]) -> None:
        result[:, first : first + rows.shape[1]] = rows

    stitcher = BandStitcher(lattice, values.shape[1], MAP_CELLS, stride_cells, take)
    stitcher.add(cell_xy, values)
    stitcher.close()
    return result


def slide_record(
    run: RunFolder,
    sample_id: str,
    probabilities: NDArray[np.float32],
    size: Size,
    bounds: Box[Level0] | None,
    stride_cells: int,
) -> dict[str, Any]:
    """A ``slide.json`` as a run writes it, of what a cohort reads."""
    highest = np.sort(probabilities[~np.isnan(probabilities[:, 0])], axis=0)[-10:].mean(
        axis=0, dtype=np.float64
    )
    scores = {name: float(score) for name, score in zip(CLASSES, highest, strict=True)}
    unread = int(np.isnan(probabilities[:, 0]).sum())
    overlap = 1 - stride_cells / MAP_CELLS
    return {
        "sample_id": sample_id,
        "score": {
            "class": CLASSES[-1],
            "value": scores[CLASSES[-1]],
            "rule": "mean",
            "of_each_class": scores,
        },
        "patches": {"planned": len(probabilities), "unread": unread, "unread_reasons": []},
        "tissue_mm2": size.width * size.height * SLIDE_MPP.x**2 * 1e-6 / 2,
        "slide": {
            "path": str(run.path / f"{sample_id}.svs"),
            "reader": "tiff",
            "vendor": "aperio",
            "series": 0,
            "size": vars(size),
            "mpp": vars(SLIDE_MPP),
            "bounds": None if bounds is None else vars(bounds),
        },
        "model": {
            "name": "test model",
            "bundle_hash": "0123456789abcdef",
            "mpp_um": MODEL_MPP_UM,
            "patch_size_px": MAP_CELLS * CELL_PX,
            "label_region_px": CELL_PX,
        },
        "settings": {
            "effective": {
                "mpp_um": [SLIDE_MPP.x, SLIDE_MPP.y],
                "stride_px": stride_cells * CELL_PX,
                "cell_px": CELL_PX,
                "overlap": overlap,
                "target_layer": "layer4",
            }
        },
        "versions": {"wsi-cam": "0.1.0"},
        "research_use": "Research use only.",
    }


def patch_table(cell_xy: NDArray[np.int64], probabilities: NDArray[np.float32]) -> PatchTable:
    n = len(cell_xy)
    return PatchTable(
        class_names=CLASSES,
        level0_xy=cell_xy * CELL_LEVEL0,
        patch_level0=(MAP_CELLS * CELL_LEVEL0, MAP_CELLS * CELL_LEVEL0),
        probabilities=probabilities,
        evidence_max=np.where(np.isnan(probabilities), np.nan, 10 * probabilities).astype(np.float32),
        evidence_mean=np.where(np.isnan(probabilities), np.nan, 4 * probabilities - 2).astype(np.float32),
        tissue_fraction=np.ones(n, np.float32),
        status=np.where(np.isnan(probabilities[:, 0]), "unread", "ok"),
    )


def hills(
    rows: int, columns: int, seed: int, peaks: int = 3, background: float = 0.08
) -> NDArray[np.float32]:
    """(rows, columns): hills of tumour in low probabilities with some noise; glass (-1) around an ellipse."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    values = background + 0.05 * rng.random((rows, columns))
    for _ in range(peaks):
        at_y, at_x, radius = (
            rng.uniform(0.2, 0.8) * rows,
            rng.uniform(0.2, 0.8) * columns,
            rng.uniform(0.6, 3),
        )
        values = np.maximum(values, 0.97 * np.exp(-(((y - at_y) ** 2 + (x - at_x) ** 2) / radius**2) / 2))
    inside = ((y + 0.5) / rows - 0.5) ** 2 + ((x + 0.5) / columns - 0.5) ** 2 <= 0.25
    return np.where(inside, values, -1).astype(np.float32)
