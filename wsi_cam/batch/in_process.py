"""Slides in this very process, for debuggers. A decoder's crash ends the batch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from wsi_cam.batch.task import BatchSetup, Progress, SlideOutcome, SlideTask, Stop
from wsi_cam.errors import Interrupted
from wsi_cam.result_identity import ModelFacts

if TYPE_CHECKING:
    from wsi_cam.batch.one_slide import SlideDesk

_BUSY_S = 1.0


class InProcessEngine:
    """An :class:`Engine` without another process, and so without time limits."""

    def __init__(self, setup: BatchSetup) -> None:
        self._setup = setup
        self._desk: SlideDesk | None = None

    def start(self) -> None:
        """Nothing can be begun beside what the caller does meanwhile."""

    def ready(self, stop: Stop) -> ModelFacts:
        from wsi_cam.batch.one_slide import SlideDesk
        from wsi_cam.pipeline import make_explainer

        if self._desk is None:
            self._desk = SlideDesk(self._setup, make_explainer(self._setup.settings))
        return self._desk.facts

    def run(
        self, tasks: Iterable[SlideTask], progress: Progress, stop: Stop
    ) -> Iterator[tuple[SlideTask, SlideOutcome]]:
        fresh, busy = iter(tasks), deque[SlideTask]()
        while task := next(fresh, None) or (busy.popleft() if busy else None):
            if stop.requested:
                raise Interrupted("stopped between two slides")
            if outcome := self._one(task, progress, stop):
                yield task, outcome
            else:
                time.sleep(_BUSY_S)
                busy.append(task)

    def close(self) -> None:
        if self._desk is not None:
            self._desk.close()
            self._desk = None

    def _one(self, task: SlideTask, progress: Progress, stop: Stop) -> SlideOutcome | None:
        """What became of a slide; None where another run has it."""
        from wsi_cam.batch.one_slide import SlideBusy

        assert self._desk is not None
        progress.slide_started(task)

        def patches_done(done: int, total: int) -> None:
            progress.patches_done(task, done, total)

        try:
            return self._desk.run(task, patches_done, lambda: stop.requested)[0]
        except SlideBusy:
            progress.note(f"{task.sample_id}: another run is working on it")
            return None
