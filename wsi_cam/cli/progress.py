"""What a person sees while slides are worked on: slide i of N, patches per second, time left.

On a terminal there is always a line that says what is going on, also before the first patch and after the
last one: torch takes seconds to load, a slide without a pyramid takes seconds per gigapixel to look over.
"""

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
        """By sample id; the empty one says what the run as a whole waits for."""
        self.any_started = False
        """Whether there was a slide to work on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sample_id in list(self._bars):
            self._close_bar(sample_id)

    def waiting(self, what: str) -> None:
        """What happens before the first slide; gone when that begins."""
        self._wait("", what)

    def slide_started(self, task: SlideTask) -> None:
        self.any_started = True
        self._close_bar("")
        self._wait(task.sample_id, f"{_title(task)}: opening")

    def patches_done(self, task: SlideTask, done: int, total: int) -> None:
        if self._quiet or not total:
            return
        bar = self._bars.get(task.sample_id)
        if bar is None or not bar.total:
            self._close_bar(task.sample_id)
            # disable=None: no bar where the output is not a terminal.
            bar = tqdm(total=total, unit="patch", desc=_title(task), disable=None, leave=False)
            self._bars[task.sample_id] = bar
        bar.update(done - bar.n)
        if done == total:
            bar.set_postfix_str("writing files")

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

    def _wait(self, sample_id: str, what: str) -> None:
        """A line without a count, in place of the bar of that name."""
        self._close_bar(sample_id)
        if not self._quiet:
            self._bars[sample_id] = tqdm(desc=what, bar_format="{desc} ...", disable=None, leave=False)

    def _close_bar(self, sample_id: str) -> None:
        bar = self._bars.pop(sample_id, None)
        if bar is not None:  # a bar without a total has no truth value
            bar.close()


def _title(task: SlideTask) -> str:
    return f"slide {task.number} of {task.total}: {task.sample_id}"
