"""Many slides, one after another: a bad one is recorded and the next one begins."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wsi_cam.classifiers.device import device_name
from wsi_cam.errors import WsiCamError
from wsi_cam.export.qupath_project import write_qupath_project
from wsi_cam.export.source import export_source, finished_samples
from wsi_cam.inputs import SlideInput, assign_sample_ids, collect_inputs, path_key
from wsi_cam.pipeline import explain_slide, make_explainer
from wsi_cam.run_folder import ProcessRow, RunFolder, write_json
from wsi_cam.settings import RunSettings
from wsi_cam.versions import installed_versions

if TYPE_CHECKING:
    from wsi_cam.inference import PatchExplainer

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Told what happens; :class:`wsi_cam.cli.progress.TerminalProgress` shows it."""

    def slide_started(self, number: int, total: int, sample_id: str) -> None: ...
    def patches_done(self, done: int, total: int) -> None: ...
    def slide_ended(self, row: ProcessRow) -> None: ...


def run_batch(
    inputs: Sequence[Path],
    output: Path,
    settings: RunSettings,
    force: bool = False,
    progress: Progress | None = None,
) -> list[ProcessRow]:
    """Explain every slide of ``inputs`` into the run folder ``output``; one row for each, in order.

    A slide that cannot be done has the status ``failed`` and its reason; its traceback is in
    ``logs/``. Raises a WsiCamError only where nothing could start: inputs, settings, model or folder.
    """
    folder = RunFolder(output)
    slides = collect_inputs(inputs)
    folder.prepare()
    rows = folder.read_process_list()
    known = {row.image_path: sample_id for sample_id, row in rows.items()}
    named = assign_sample_ids(slides, known)
    explainer = make_explainer(settings)
    started = datetime.now(UTC)
    results = []
    for number, (sample_id, slide) in enumerate(named, start=1):
        if progress:
            progress.slide_started(number, len(named), sample_id)
        if folder.is_done(sample_id) and not force:
            row = replace(
                rows.get(sample_id, ProcessRow(sample_id, path_key(slide.path), "")), status="skipped"
            )
            rows.setdefault(sample_id, replace(row, status="done"))
        else:
            row = _run_slide(slide, sample_id, folder, explainer, settings, progress)
            rows[sample_id] = row
        folder.write_process_list(rows)
        results.append(row)
        if progress:
            progress.slide_ended(row)
    if "qupath" in settings.export:
        _write_project(folder)
    write_json(folder.run_json, _run_record(settings, explainer, started, results))
    return results


def _write_project(folder: RunFolder) -> None:
    """One QuPath project over all slides of the folder that are done, those of earlier runs too."""
    sources = [export_source(folder, sample_id) for sample_id in finished_samples(folder)]
    if sources:
        write_qupath_project(folder, sources)


def _run_slide(
    slide: SlideInput,
    sample_id: str,
    folder: RunFolder,
    explainer: PatchExplainer,
    settings: RunSettings,
    progress: Progress | None,
) -> ProcessRow:
    own = replace(settings, mpp=slide.mpp or settings.mpp, tissue=slide.mask_path or settings.tissue)
    began = time.perf_counter()
    row = ProcessRow(sample_id, path_key(slide.path), "failed")
    try:
        result = explain_slide(
            slide.path,
            folder.path,
            explainer,
            own,
            sample_id=sample_id,
            progress=progress.patches_done if progress else None,
        )
    except Exception as error:  # noqa: BLE001
        # The one place where a slide's failure ends: it is recorded, and the batch goes on.
        _write_log(folder.log(sample_id))
        known = isinstance(error, (WsiCamError, OSError, MemoryError))
        cause = " ".join(str(error).split()) or type(error).__name__
        message = cause if known else f"unexpected {type(error).__name__}: {cause} (see logs/{sample_id}.log)"
        return replace(row, error=message, seconds=round(time.perf_counter() - began, 2))
    return replace(
        row,
        status="done",
        seconds=round(time.perf_counter() - began, 2),
        patches=result.n_patches,
        unread=result.n_unread,
    )


def _write_log(path: Path) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        log.warning("%s: the traceback cannot be written (%s)", path, error.strerror)


def _run_record(
    settings: RunSettings, explainer: PatchExplainer, started: datetime, rows: list[ProcessRow]
) -> dict[str, Any]:
    """What ``run.json`` says: the last run's command, machine, times and outcome."""
    return {
        "command": sys.argv,
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": settings.as_dict(),
        "device": device_name(explainer.classifier.device),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "versions": installed_versions(),
        "slides": {row.sample_id: row.status for row in rows},
    }
