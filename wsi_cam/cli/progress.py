"""What a person sees while slides are worked on: slide i of N, patches per second, time left."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from wsi_cam.process_list import ProcessRow


class TerminalProgress:
    """A bar per slide on a terminal, a line per slide elsewhere. Implements ``batch.Progress``."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: tqdm[Any] | None = None
        self._title = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()

    def slide_started(self, number: int, total: int, sample_id: str) -> None:
        self._title = f"slide {number} of {total}: {sample_id}"

    def patches_done(self, done: int, total: int) -> None:
        if self._quiet:
            return
        if self._bar is None:
            # disable=None: no bar where the output is not a terminal.
            self._bar = tqdm(total=total, unit="patch", desc=self._title, disable=None, leave=False)
        self._bar.update(done - self._bar.n)

    def slide_ended(self, row: ProcessRow) -> None:
        self._close_bar()
        if row.status == "failed":
            print(f"{self._title}: failed: {row.error}", file=sys.stderr)
        elif not self._quiet:
            unread = f", {row.unread} unreadable" if row.unread else ""
            facts = (
                f"{row.patches} patches{unread} in {row.seconds:.1f} s"
                if row.status == "done"
                else row.error or "already done"
            )
            print(f"{self._title}: {facts}")

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
