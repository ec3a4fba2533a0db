"""Many slides, one after another: a bad one is recorded and the next one begins."""

from __future__ import annotations

import json
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
from wsi_cam.errors import SettingsError, WsiCamError, one_line
from wsi_cam.export.optional_packages import require_packages
from wsi_cam.export.qupath_project import write_qupath_project
from wsi_cam.export.source import export_source, finished_samples
from wsi_cam.inputs import SlideInput, assign_sample_ids, collect_inputs, path_key
from wsi_cam.pipeline import explain_slide, make_explainer
from wsi_cam.process_list import ProcessRow, read_process_list, write_process_list
from wsi_cam.run_folder import RunFolder, write_json
from wsi_cam.settings import RunSettings
from wsi_cam.slide_run.record import differences
from wsi_cam.tiling.roi import read_roi
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
    explainer = make_explainer(settings)
    _check_for_all(settings, explainer, slides)
    folder.prepare()
    rows = read_process_list(folder.process_list)
    known = {row.image_path: sample_id for sample_id, row in rows.items()}
    named = assign_sample_ids(slides, known)
    started = datetime.now(UTC)
    results = []
    for number, (sample_id, slide) in enumerate(named, start=1):
        if progress:
            progress.slide_started(number, len(named), sample_id)
        own = replace(settings, mpp=slide.mpp or settings.mpp, tissue=slide.mask_path or settings.tissue)
        if folder.is_done(sample_id) and not force:
            done = rows.get(sample_id) or ProcessRow(sample_id, path_key(slide.path), "done")
            rows[sample_id] = replace(done, status="done", error="")
            row = replace(done, status="skipped", error=_why_differently(folder, sample_id, own, explainer))
        else:
            row = _run_slide(slide, sample_id, folder, explainer, own, progress)
            rows[sample_id] = row
        write_process_list(folder.process_list, rows)
        results.append(row)
        if progress:
            progress.slide_ended(row)
    write_json(folder.run_json, _run_record(settings, explainer, started, results))
    if "qupath" in settings.export:
        _write_project(folder)
    return results


def _check_for_all(settings: RunSettings, explainer: PatchExplainer, slides: list[SlideInput]) -> None:
    """What would fail for every slide is said once, before anything is written."""
    require_packages(settings.export)
    names = explainer.classifier.card.class_names
    if settings.target_class and settings.target_class not in names:
        raise SettingsError(f"target class {settings.target_class!r}: the model knows {', '.join(names)}")
    if settings.tissue:
        read_roi(settings.tissue)
        if sum(slide.mask_path is None for slide in slides) > 1:
            raise SettingsError(
                f"{settings.tissue}: one region for {len(slides)} slides; give each its own in a manifest, "
                "in the column mask_path"
            )


def _why_differently(
    folder: RunFolder, sample_id: str, settings: RunSettings, explainer: PatchExplainer
) -> str:
    """How the result that is there differs from what is asked for; empty where it does not."""
    try:
        record = json.loads(folder.slide(sample_id).slide_json.read_text(encoding="utf-8"))
        names = differences(record, settings, explainer.classifier.bundle_hash)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "its slide.json cannot be read; --force computes it again"
    return f"done with other settings ({', '.join(names)}); --force computes it again" if names else ""


def _write_project(folder: RunFolder) -> None:
    """One QuPath project over all slides of the folder that are done, those of earlier runs too.

    The results are complete without it: what is wrong with it is a warning.
    """
    try:
        sources = [export_source(folder, sample_id) for sample_id in finished_samples(folder)]
        if sources:
            write_qupath_project(folder, sources)
    except WsiCamError as error:
        log.warning("no QuPath project: %s", error)


def _run_slide(
    slide: SlideInput,
    sample_id: str,
    folder: RunFolder,
    explainer: PatchExplainer,
    settings: RunSettings,
    progress: Progress | None,
) -> ProcessRow:
    began = time.perf_counter()
    row = ProcessRow(sample_id, path_key(slide.path), "failed")
    try:
        result = explain_slide(
            slide.path,
            folder.path,
            explainer,
            settings,
            sample_id=sample_id,
            progress=progress.patches_done if progress else None,
        )
    except Exception as error:  # noqa: BLE001
        # The one place where a slide's failure ends: it is recorded, and the batch goes on.
        _write_log(folder.log(sample_id))
        known = isinstance(error, (WsiCamError, OSError, MemoryError))
        cause = one_line(error)
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
