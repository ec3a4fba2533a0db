"""Ctrl-C and SIGTERM as people and schedulers mean them: finish what is in hand; asked again, stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from wsi_cam.batch.task import Stop


@dataclass
class Signals:
    """Which signal came last; 0 for none."""

    number: int = 0

    @property
    def exit_status(self) -> int:
        """What shells expect of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.number or signal.SIGINT)


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[Signals]:
    """Inside of the block signals ask ``stop``; outside of the main thread they do what they did."""
    signals = Signals()

    def ask(number: int, frame: FrameType | None) -> None:
        signals.number = number
        stop.ask()
        if stop.asked > 2:
            raise KeyboardInterrupt
        if not stop.forced:
            print(
                "\nwsi-cam: stopping after the patches in hand; again stops at once",
                file=sys.stderr,
                flush=True,
            )

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        yield signals
        return
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
