"""One slide of a batch, from its lock to what became of it, in whichever process."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from wsi_cam.batch.examine import examine
from wsi_cam.batch.failure_log import write_log
from wsi_cam.batch.fetching import copy_path, fetch, remove_fetched
from wsi_cam.batch.locks import HeldLock, try_slide_lock
from wsi_cam.batch.task import BatchSetup, SlideOutcome, SlideTask
from wsi_cam.errors import (
    Interrupted,
    OutputError,
    SettingsError,
    WsiCamError,
    is_out_of_memory,
    one_line,
)
from wsi_cam.export.optional_packages import require_packages
from wsi_cam.inference import PatchExplainer
from wsi_cam.pipeline import PreparedSlide, explain_prepared, prepare_slide
from wsi_cam.result_identity import model_facts, result_identity
from wsi_cam.run_folder import RunFolder
from wsi_cam.slides.identity import slide_identity
from wsi_cam.slides.opening import check_path
from wsi_cam.tiling.mask_picture import is_mask_picture, require_mask_picture
from wsi_cam.tiling.roi import read_roi

PatchesDone = Callable[[int, int], None]

#: What a file system says when it takes nothing more from anybody; no slide is to blame then.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


class SlideBusy(Exception):
    """Another run works on this slide."""


@dataclass(frozen=True, eq=False)
class _Begun:
    """A slide whose lock is held and whose first pixels are on their way."""

    lock: HeldLock
    prepared: PreparedSlide
    seconds: float
    """What its preparation took."""

    def close(self) -> None:
        self.prepared.close()
        remove_fetched(self.prepared.folder.path, self.prepared.sample_id)
        self.lock.release()


class SlideDesk:
    """Works on one slide after the other with one model; the next one may be prepared meanwhile."""

    def __init__(self, setup: BatchSetup, explainer: PatchExplainer) -> None:
        """Raises a WsiCamError for what would fail for every slide."""
        self._setup, self._explainer = setup, explainer
        self._folder = RunFolder(setup.output)
        self.facts = model_facts(explainer)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wsi_cam-prepare")
        self._begun: dict[str, Future[_Begun | SlideOutcome]] = {}
        self._at_work: tuple[str, PatchesDone, Callable[[], bool]] | None = None
        """The id of the slide that is being run, and whom to tell and to ask."""
        _check_for_all(setup, self.facts.class_names)

    def prepare(self, task: SlideTask) -> None:
        """Begin with a slide in a thread of its own; :meth:`run` finds it begun. From any thread."""
        self._begun[task.sample_id] = self._thread.submit(self._begin, task)

    def run(
        self, task: SlideTask, progress: PatchesDone, should_stop: Callable[[], bool]
    ) -> tuple[SlideOutcome, BaseException | None]:
        """What became of a slide, and the error where it failed.

        Raises SlideBusy, Interrupted (the slide can be gone on with), or OutputError where nothing can
        be written any more; every other failure is the slide's own.
        """
        began = time.perf_counter()
        self._at_work = task.sample_id, progress, should_stop
        try:
            begun = self._take(task)
            if isinstance(begun, SlideOutcome):
                return begun, None
            try:
                result = explain_prepared(begun.prepared, progress, should_stop)
            finally:
                begun.close()
        except SlideBusy:
            raise
        except Interrupted as interrupted:
            raise Interrupted(self._named(task, str(interrupted))) from interrupted
        except Exception as error:
            # The one place where a slide's failure ends: it is recorded, and the batch goes on.
            self._folder.require()
            if reason := _why_unwritable(error):
                raise OutputError(self._named(task, reason)) from error
            return self._failed(task, error, time.perf_counter() - began), error
        self._forget_failure(task)
        row = replace(
            task.row("done"),
            seconds=round(begun.seconds + time.perf_counter() - began, 2),
            patches=result.n_patches,
            unread=result.n_unread,
        )
        waits = result.waited_for_reading, result.reading_waited
        return SlideOutcome("done", row, "", *waits, resumed_at=result.resumed_at), None

    def close(self) -> None:
        """Let go of slides that were begun; one that is just beginning does so by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        while self._begun:
            self._begun.popitem()[1].add_done_callback(_close)

    def _take(self, task: SlideTask) -> _Begun | SlideOutcome:
        """The slide as :meth:`prepare` left it, or begun now."""
        if future := self._begun.pop(task.sample_id, None):
            # Whoever was at it then may have ended, and there may have been no room for two copies.
            with suppress(SlideBusy, OutputError):
                return future.result()
        return self._begin(task)

    def _begin(self, task: SlideTask) -> _Begun | SlideOutcome:
        """Lock the slide, see whether it is still wanted, open it and begin to read."""
        began = time.perf_counter()
        self._folder.require()
        lock = try_slide_lock(self._setup.output, task.sample_id)
        if lock is None:
            raise SlideBusy
        try:
            self._folder.settle(task.sample_id)
            state = examine(self._folder, task, self.facts, self._setup.settings)
            if not state.is_wanted(self._setup.redo):
                if state.kind == "done":
                    self._folder.discard_growing(task.sample_id)
                lock.release()
                outcome = state.outcome(task)
                return replace(outcome, note=outcome.note or "done already by another run")
            prepared = self._prepared(task, *self._file(task))
        except BaseException:
            remove_fetched(self._setup.output, task.sample_id)
            lock.release()
            raise
        return _Begun(lock, prepared, time.perf_counter() - began)

    def _file(self, task: SlideTask) -> tuple[Path, dict[str, Any]]:
        """The file to read, and what the record is to say of it where it is a copy of a remote one."""
        if isinstance(task.path, Path):
            return task.path, {}
        copy, facts = fetch(task.path, self._setup.output, task.sample_id, partial(self._fetching, task))
        return copy, {"path": str(task.path), "remote": facts}

    def _fetching(self, task: SlideTask, arrived: bool) -> None:
        """Say that a slide's copy grows; not while another slide is run, which may hang."""
        if self._at_work is None or self._at_work[0] != task.sample_id:
            return
        _, progress, should_stop = self._at_work
        if should_stop():
            raise Interrupted(f"{task.path}: stopped while it was fetched")
        if arrived:
            progress(0, 0)

    def _prepared(self, task: SlideTask, path: Path, origin: dict[str, Any]) -> PreparedSlide:
        settings = task.settings(self._setup.settings)
        # Whatever fails here, what an earlier run had begun of the slide goes as it does later on.
        with self._folder.working_on(task.sample_id):
            check_path(path)
            return prepare_slide(
                path,
                self._folder,
                self._explainer,
                settings,
                sample_id=task.sample_id,
                identity=result_identity(slide_identity(path), self.facts, settings),
                origin=origin,
            )

    def _failed(self, task: SlideTask, error: Exception, seconds: float) -> SlideOutcome:
        write_log(self._folder.log(task.sample_id), traceback.format_exc())
        reason = self._named(task, _reason(error, task))
        return SlideOutcome("failed", replace(task.row("failed", reason), seconds=round(seconds, 2)))

    def _named(self, task: SlideTask, text: str) -> str:
        """A message that names the slide by its URL and not by its copy, which will be gone."""
        if isinstance(task.path, Path):
            return text
        copy = copy_path(task.path, self._setup.output, task.sample_id)
        return text.replace(str(copy), str(task.path))

    def _forget_failure(self, task: SlideTask) -> None:
        """Remove what an earlier failure left: it is true no more."""
        traces = self._folder.failed_tissue_png(task.sample_id), self._folder.log(task.sample_id)
        for trace in traces:
            with suppress(OSError):
                trace.unlink(missing_ok=True)
                trace.parent.rmdir()


def _close(future: Future[_Begun | SlideOutcome]) -> None:
    if not future.cancelled() and future.exception() is None and isinstance(begun := future.result(), _Begun):
        begun.close()


def _check_for_all(setup: BatchSetup, class_names: tuple[str, ...]) -> None:
    """What would fail for every slide is said once, before anything is written."""
    settings = setup.settings
    require_packages(settings.export)
    if settings.target_class and settings.target_class not in class_names:
        raise SettingsError(
            f"target class {settings.target_class!r}: the model knows {', '.join(class_names)}"
        )
    if settings.tissue:
        check = require_mask_picture if is_mask_picture(settings.tissue) else read_roi
        check(settings.tissue)


def _reason(error: Exception, task: SlideTask) -> str:
    """One line for the process list."""
    cause = one_line(error)
    if is_out_of_memory(error):
        return (
            f"{task.path}: out of memory ({shorten(cause, 200)}); free some, or take a smaller --batch-size "
            "or fewer --num-workers"
        )
    if isinstance(error, (WsiCamError, OSError)):
        return cause
    return f"unexpected {type(error).__name__}: {cause} (see logs/{task.sample_id}.log)"


def _why_unwritable(error: BaseException) -> str:
    """Why the output takes nothing more; empty where the slide itself is at fault."""
    cause: BaseException | None = error
    while cause is not None:
        number = cause.errno if isinstance(cause, OSError) else None
        if number in _FULL or (number in _FORBIDDEN and isinstance(error, OutputError)):
            what = one_line(error).partition("; ")[0]
            return f"{what}; free space or mend permissions, then run the same command again"
        cause = cause.__cause__ or cause.__context__
    return ""
