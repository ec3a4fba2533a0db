"""The slides of a run folder, while a viewer is open on it; the run may still be adding some."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from wsi_cam.errors import WsiCamError, one_line
from wsi_cam.export.source import export_source, finished_samples
from wsi_cam.process_list import ProcessRow, read_process_list
from wsi_cam.run_folder import RunFolder
from wsi_cam.viewer.not_found import NotFoundError
from wsi_cam.viewer.viewed_slide import ViewedSlide

#: Slides kept open: each holds a file, decoded tiles (tens of MiB), and its table of patches.
MAX_OPEN = 4


class Library:
    """Finds slides by name among those that are done, and keeps the last used ones open.

    No path is ever made of a name that is not in the list of finished slides. Safe to use from many threads.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._samples: frozenset[str] = frozenset(finished_samples(run))
        self._open: OrderedDict[str, ViewedSlide] = OrderedDict()
        self._retired: list[ViewedSlide] = []

    def samples(self) -> list[str]:
        """Ids of the slides that are done by now. Raises OutputError where the folder is gone."""
        found = finished_samples(self.run)
        self._samples = frozenset(found)
        return found

    @contextmanager
    def lease(self, sample_id: str) -> Iterator[ViewedSlide]:
        """A slide that stays open inside of the block, at the present version of its results.

        Raises NotFoundError for a name that is not in the list, OutputError for results that cannot be read.
        """
        version = self.version(sample_id)
        with self._lock:
            viewed = self._open.get(sample_id)
            if viewed is None or viewed.version != version:
                self._retire(sample_id)
                viewed = self._open[sample_id] = ViewedSlide(export_source(self.run, sample_id), version)
            self._open.move_to_end(sample_id)
            viewed.users += 1
            while len(self._open) > MAX_OPEN:
                self._retire(next(iter(self._open)))
        try:
            yield viewed
        finally:
            with self._lock:
                viewed.users -= 1
                self._close_unused()

    def version(self, sample_id: str) -> str:
        """Changes when a slide is computed again. Raises NotFoundError for a name that is not in the list."""
        if sample_id not in self._samples and sample_id not in self.samples():
            raise NotFoundError(f"no slide {sample_id!r} is done in this run")
        try:
            written = self.run.slide(sample_id).slide_json.stat()
        except FileNotFoundError as error:
            raise NotFoundError(f"the results of {sample_id!r} were removed") from error
        return f"{written.st_mtime_ns:x}"

    def close(self) -> None:
        with self._lock:
            for sample_id in list(self._open):
                self._retire(sample_id)

    def _retire(self, sample_id: str) -> None:
        """Out of the list, and closed as soon as nobody reads from it."""
        viewed = self._open.pop(sample_id, None)
        if viewed is not None:
            self._retired.append(viewed)
        self._close_unused()

    def _close_unused(self) -> None:
        for viewed in [each for each in self._retired if each.users == 0]:
            viewed.close()
            self._retired.remove(viewed)

    def listing(self) -> dict[str, Any]:
        """Every slide that the run knows: those done by falling slide score, then the others."""
        rows = read_process_list(self.run.process_list)
        done, others = [], []
        for sample_id in self.samples():
            try:
                done.append(self._done(sample_id, rows.pop(sample_id, None)))
            except (WsiCamError, LookupError, TypeError, ValueError, AttributeError) as error:
                said = (
                    one_line(error)
                    if isinstance(error, WsiCamError)
                    else f"its record is damaged ({error!r})"
                )
                others.append({"id": sample_id, "status": "failed", "error": said})
        done.sort(key=lambda slide: -slide["score"])
        others += [{"id": row.sample_id, "status": row.status, "error": row.error} for row in rows.values()]
        return {"run": self.run.path.resolve().name, "done": done, "others": others}

    def _done(self, sample_id: str, row: ProcessRow | None) -> dict[str, Any]:
        record = export_source(self.run, sample_id).record
        patches, tissue_mm2 = record.get("patches", {}), record.get("tissue_mm2")
        score = float(record["score"]["value"])
        if not 0 <= score <= 1:
            raise ValueError(f"a slide score of {score}")
        return {
            "id": sample_id,
            # Names of files may hold bytes that are no text; an address can carry them all the same.
            "address": quote(sample_id, safe="", errors="surrogateescape"),
            "version": self.version(sample_id),
            "class": record["score"]["class"],
            "score": score,
            "patches": patches.get("planned"),
            "unread": patches.get("unread"),
            "tissue_mm2": None if tissue_mm2 is None else float(tissue_mm2),
            "patient": row.patient_id if row else "",
            "label": row.label if row else "",
            # The last run may have failed on a slide that an earlier one finished.
            "error": row.error if row else "",
        }
