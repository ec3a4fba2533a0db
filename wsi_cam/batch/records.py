"""What a run folder says of its slides as a whole: the process list, ``run.json``, the QuPath project.

Other runs may write the same files: each is read, changed and written under one lock.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from wsi_cam.batch.locks import shared_files_lock
from wsi_cam.batch.task import SlideOutcome, SlideTask
from wsi_cam.errors import WsiCamError
from wsi_cam.inputs import SlideInput, assign_sample_ids, path_key, safe_name
from wsi_cam.process_list import ProcessRow, read_process_list, write_process_list
from wsi_cam.result_identity import ModelFacts
from wsi_cam.run_folder import RunFolder, write_json
from wsi_cam.settings import RunSettings
from wsi_cam.slide_url import located
from wsi_cam.versions import installed_versions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecords:
    """The files that all slides and all runs of a folder share."""

    folder: RunFolder

    def tasks(self, slides: Sequence[SlideInput]) -> list[SlideTask]:
        """Each slide with an id of its own; what the folder knows of them is only read."""
        return self._tasks(slides, read_process_list(self.folder.process_list))

    def enter_all(self, slides: Sequence[SlideInput]) -> tuple[list[SlideTask], dict[str, ProcessRow]]:
        """As :meth:`tasks`, and each id reserved: new slides stand in the process list as ``pending``.

        Gives the list as it was, too. Raises OutputError.
        """
        with self._changed_list() as rows:
            before = dict(rows)
            tasks = self._tasks(slides, rows)
            for task in tasks:
                rows.setdefault(task.sample_id, task.row("pending"))
        return tasks, before

    def enter(self, outcomes: Iterable[SlideOutcome]) -> None:
        """The lines of slides in the process list. Raises OutputError."""
        with self._changed_list() as rows:
            for outcome in outcomes:
                row = outcome.row
                if outcome.kind in ("skipped", "stale"):
                    row = _of_older_result(outcome, rows.get(row.sample_id, row))
                rows[row.sample_id] = row

    def end(
        self, settings: RunSettings, model: ModelFacts, started: datetime, ended: Mapping[str, str]
    ) -> None:
        """Write ``run.json`` (command, machine, times, outcome) and the QuPath project, if asked for."""
        record = {
            "command": sys.argv,
            "started": started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": settings.as_dict(),
            "device": model.device_name,
            "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
            "versions": installed_versions(),
            "slides": dict(ended),
        }
        with shared_files_lock(self.folder.path):
            write_json(self.folder.run_json, record)
            if "qupath" in settings.export:
                _write_project(self.folder)

    @contextmanager
    def _changed_list(self) -> Iterator[dict[str, ProcessRow]]:
        self.folder.require()
        with shared_files_lock(self.folder.path):
            rows = read_process_list(self.folder.process_list)
            before = dict(rows)
            yield rows
            if rows != before:
                write_process_list(self.folder.process_list, rows)

    def _tasks(self, slides: Sequence[SlideInput], rows: Mapping[str, ProcessRow]) -> list[SlideTask]:
        known = {path: sample_id for sample_id, path in self._results_without_row(rows)}
        # An id is a folder's name: one that was edited into a path would lead out of the run folder.
        known |= {
            row.image_path: sample_id for sample_id, row in rows.items() if sample_id == safe_name(sample_id)
        }
        return [
            SlideTask(
                number,
                len(slides),
                sample_id,
                located(path_key(slide.path)),
                mpp=slide.mpp,
                tissue=slide.mask_path,
                patient_id=slide.patient_id or "",
                label=slide.label or "",
            )
            for number, (sample_id, slide) in enumerate(assign_sample_ids(slides, known), start=1)
        ]

    def _results_without_row(self, rows: Mapping[str, ProcessRow]) -> Iterable[tuple[str, str]]:
        """Ids and slides of results whose list was lost, so that no other slide takes their place."""
        for record in sorted(self.folder.path.glob("slides/*/slide.json")):
            sample_id = record.parent.name
            if sample_id in rows or sample_id.startswith("."):
                continue
            try:
                yield sample_id, str(json.loads(record.read_text(encoding="utf-8"))["slide"]["path"])
            except (OSError, ValueError, KeyError, TypeError):
                yield sample_id, ""


def _of_older_result(outcome: SlideOutcome, known: ProcessRow) -> ProcessRow:
    """The line of a slide whose older result stands: what is known of that, and what is said of it now."""
    said = outcome.row
    return replace(
        known,
        status="done",
        error=f"stale: {outcome.note}" if outcome.kind == "stale" else "",
        patches=said.patches or known.patches,
        unread=said.unread or known.unread,
        patient_id=said.patient_id or known.patient_id,
        label=said.label or known.label,
    )


def _write_project(folder: RunFolder) -> None:
    """One QuPath project over all slides of the folder that are done, those of earlier runs too.

    The results are complete without it: what is wrong with it is a warning.
    """
    from wsi_cam.export.qupath_project import write_qupath_project
    from wsi_cam.export.source import export_source, finished_samples

    try:
        sources = [export_source(folder, sample_id) for sample_id in finished_samples(folder)]
        if sources:
            write_qupath_project(folder, sources)
    except WsiCamError as error:
        log.warning("no QuPath project: %s", error)
