"""Everything in a slide's folder beside the heatmaps: tables, QuPath files, OME-TIFF and pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import SlideError, WsiCamError
from wsi_cam.export.exporters import export
from wsi_cam.export.png import write_png
from wsi_cam.export.slide_view import SlideView, read_slide_view
from wsi_cam.export.source import ExportOptions, ExportSource
from wsi_cam.export.tables import write_patches_csv
from wsi_cam.export.tissue_picture import tissue_picture
from wsi_cam.export.triptych import triptych
from wsi_cam.geometry import Box, Mpp
from wsi_cam.inputs import safe_name
from wsi_cam.loader import PatchReader
from wsi_cam.run_folder import SlideFolder
from wsi_cam.slide_run.job import PICTURE_PX, NothingToClassify, SlideJob, Thumb
from wsi_cam.slide_run.ledger import Ledger, TopPatch
from wsi_cam.slides.slide import Slide, require_mpp

log = logging.getLogger(__name__)


def write_outputs(
    job: SlideJob,
    ledger: Ledger,
    record: dict[str, Any],
    folder: SlideFolder,
    still_at_it: Callable[[], None],
) -> None:
    """Write the table, the formats that were asked for, and the pictures of tissue and top patches.

    ``record`` is what ``slide.json`` will say; formats that cannot be made of this slide are entered
    there as ``export_failures``. ``still_at_it`` is called before each step that may take long. Raises
    OutputError or SlideError.
    """
    # The table is part of every result: what is exported later is made of it and the heatmaps.
    still_at_it()
    table = ledger.table()
    write_patches_csv(folder.patches_csv, table)
    view = _view(job.slide, job.mpp, job.thumb)
    source = ExportSource(job.sample_id, folder, job.slide.info.path, record, job.slide, view, table)
    for name in job.settings.export:
        if name == "csv":
            continue  # written above
        still_at_it()
        try:
            export(source, name, ExportOptions(class_name=job.target_class), force=True)
        except WsiCamError as error:
            if isinstance(error.__cause__, OSError):
                raise  # the place that is written to is at fault, and so would be the rest
            # What was computed is not thrown away for a format that this slide cannot have.
            record["export_failures"][name] = str(error)
            log.warning("%s: no %s: %s", job.sample_id, name, error)
    still_at_it()
    noun = "patch" if len(job.plan) == 1 else "patches"
    title = f"{job.sample_id}: {len(job.plan)} {noun}"
    write_png(folder.tissue_png, tissue_picture(view, job.tissue, job.plan, title=title))
    _write_top_patches(job, ledger, folder.patch_pictures)


def write_failure_picture(path: Path, slide: Slide, error: NothingToClassify) -> None:
    """The slide with what was found of tissue, and the reason in red. Raises OutputError."""
    view = _view(slide, require_mpp(slide.info), error.thumb)
    reason = str(error).removeprefix(f"{slide.info.path}: ")
    title = slide.info.path.name
    write_png(path, tissue_picture(view, error.tissue, None, title=title, reason=reason))


def _view(slide: Slide, mpp: Mpp, thumb: Thumb) -> SlideView:
    """The thumbnail that is already there, or a larger one of a small slide."""
    if max(thumb.image.shape[:2]) < PICTURE_PX:
        return read_slide_view(slide, mpp, longest_side=PICTURE_PX)
    size = slide.info.size
    shown = slide.info.bounds or Box(0, 0, size.width, size.height)
    return SlideView(thumb.image, thumb.to_level0, mpp, shown)


def _write_top_patches(job: SlideJob, ledger: Ledger, folder: Path) -> None:
    """``<class>_<rank>.png`` of the patches with the highest probability of each class."""
    folder.mkdir()
    reader = PatchReader(job.slide, job.plan, job.plan.level_to_level0)
    for class_index, class_name in enumerate(job.class_names):
        for rank, patch in enumerate(ledger.top_patches(class_index), start=1):
            # The number keeps classes apart whose names become one file name.
            name = f"{class_index}_{safe_name(class_name)}_{rank}.png"
            write_png(folder / name, _picture_of(job, patch, reader))


def _picture_of(job: SlideJob, patch: TopPatch, reader: PatchReader) -> NDArray[np.uint8]:
    x, y = job.plan.level0_xy[patch.index]
    try:
        image = reader.read(np.array([patch.index]))[0]
    except SlideError as error:
        raise SlideError(f"{error} (it could be read before: is the file's disk failing?)") from error
    return triptych(
        image,
        patch.evidence,
        job.evidence_scales[patch.class_index],
        class_name=job.class_names[patch.class_index],
        probability=patch.probability,
        cell_px=job.plan.cell_px,
        place=f"{job.sample_id} at level-0 pixel {x:.0f}, {y:.0f}",
    )
