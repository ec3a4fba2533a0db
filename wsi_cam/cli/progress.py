"""What a person sees while slides are worked on: slide i of N, patches per second, time left."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from wsi_cam.batch.task import SlideOutcome, SlideTask


class TerminalProgress:
    """A bar for each slide under way on a terminal, a line per slide elsewhere: a ``batch.Progress``."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: dict[str, tqdm[Any]] = {}
        self.any_started = False
        """Whether there was a slide to work on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sample_id in list(self._bars):
            self._close_bar(sample_id)

    def slide_started(self, task: SlideTask) -> None:
        self.any_started = True
        self._close_bar(task.sample_id)

    def patches_done(self, task: SlideTask, done: int, total: int) -> None:
        if self._quiet or not total:
            return
        bar = self._bars.get(task.sample_id)
        if bar is None:
            # disable=None: no bar where the output is not a terminal.
            bar = tqdm(total=total, unit="patch", desc=_title(task), disable=None, leave=False)
            self._bars[task.sample_id] = bar
        bar.update(done - bar.n)

    def slide_ended(self, task: SlideTask, outcome: SlideOutcome) -> None:
        self._close_bar(task.sample_id)
        row = outcome.row
        match outcome.kind:
            case "failed":
                self._print(f"{_title(task)}: failed: {row.error}", sys.stderr)
            case "stale":
                self._print(f"{_title(task)}: stale: {outcome.note}", sys.stderr)
            case "skipped":
                self._say(f"{_title(task)}: {outcome.note or 'already done'}")
            case _:
                unread = f", {row.unread} unreadable" if row.unread else ""
                before = f", {outcome.resumed_at} of them by an earlier run" if outcome.resumed_at else ""
                self._say(f"{_title(task)}: {row.patches} patches{unread}{before} in {row.seconds:.1f} s")

    def note(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._print(text, sys.stdout)

    def _print(self, text: str, stream: Any) -> None:
        """A line above the bars."""
        try:
            if any(not bar.disable for bar in self._bars.values()):
                tqdm.write(text, file=stream)
            else:
                # At once: a file or a pipe would show it hours later.
                print(text, file=stream, flush=True)
        except BrokenPipeError:
            # Whoever read along has left (head, a closed window); the slides are done all the same.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def _close_bar(self, sample_id: str) -> None:
        if bar := self._bars.pop(sample_id, None):
            bar.close()


def _title(task: SlideTask) -> str:
    return f"slide {task.number} of {task.total}: {task.sample_id}"
