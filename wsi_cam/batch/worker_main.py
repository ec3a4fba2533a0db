"""A worker process: takes slides from its parent, one by one, and says what became of them.

It reads JSON lines from its standard input and answers in JSON lines on what was its standard output when it
began; output of decoders goes with standard error to a file of the parent's. It goes on for as long as
its parent lives: when its input ends it ends itself, whatever it is doing.

    {"do": "setup", ...}  first of all            {"say": "ready", "model": ...} or {"say": "fatal", ...}
    {"do": "task", "task": ...}  a slide          {"say": "progress", "done", "total"} ... then one of
                                                  {"say": "ended", "outcome", "spent"}, {"say": "busy"},
                                                  {"say": "unwritable", "error"}, {"say": "stopped"}
    {"do": "prepare", "task": ...}  begin with it while the slide before it is worked on
    {"do": "stop"}  soon, keeping what is done    {"say": "stopped", "error"}
                                                  {"say": "log", "name", "level", "text"} at any time
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from wsi_cam.batch.one_slide import SlideDesk
    from wsi_cam.batch.task import BatchSetup

#: After the time in which the parent would have replaced a silent worker: so much later it ends by itself.
_ORPHAN_MARGIN_S = 60.0


def main() -> None:
    """The process's whole life."""
    # An interrupt at the keyboard goes to every process of the terminal; only the parent answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)
    faulthandler.enable()
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    worker = _Worker(channel)
    signal.signal(signal.SIGTERM, lambda number, frame: worker.take({"do": "stop"}))
    threading.Thread(target=worker.listen, name="wsi_cam-listen", daemon=True).start()
    worker.work()
    # Not sys.exit: it would wait for threads, one of which may hang in a decoder.
    os._exit(0)


class _Worker:
    def __init__(self, channel: TextIO) -> None:
        self._channel = channel
        self._speaking = threading.Lock()
        # Simple: a signal handler may put something in while the same thread waits for it.
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._desk: SlideDesk | None = None
        self._patience_s: float | None = None
        self.stop = threading.Event()

    def listen(self) -> None:
        """Take orders for as long as the parent gives any."""
        try:
            for line in sys.stdin.buffer:
                self.take(json.loads(line))
        finally:
            os._exit(0)  # a worker that hears nothing is of no use

    def take(self, order: dict[str, Any]) -> None:
        if order["do"] == "prepare":
            if self._desk is not None:
                self._prepare(self._desk, order)
            return
        if order["do"] == "stop":
            self.stop.set()
        self._orders.put(order)

    def say(self, what: str, **content: Any) -> None:
        with self._speaking:
            self._channel.write(json.dumps({"say": what, **content}) + "\n")
            self._channel.flush()

    def work(self) -> None:
        """Load, then one slide after the other until told to stop."""
        desk = self._load(self._orders.get())
        if desk is None:
            return
        self._desk = desk
        while (order := self._orders.get())["do"] == "task":
            os.ftruncate(2, 0)
            going_on = self._one(desk, order)
            faulthandler.cancel_dump_traceback_later()
            if not going_on:
                break
        desk.close()

    def _load(self, order: dict[str, Any]) -> SlideDesk | None:
        from wsi_cam.batch.task import BatchSetup
        from wsi_cam.errors import WsiCamError, one_line

        setup = BatchSetup.from_dict(order["setup"])
        self._patience_s = setup.stall_timeout_s
        self._send_logs(order["levels"])
        try:
            desk = self._desk_for(setup)
        except WsiCamError as error:
            self.say("fatal", kind=type(error).__name__, error=one_line(error))
            return None
        except Exception as error:  # noqa: BLE001
            # Isolation boundary: whatever keeps the worker from starting is the parent's to tell.
            traceback.print_exc()
            self.say("fatal", kind="", error=f"{type(error).__name__}: {one_line(error)}")
            return None
        self.say("ready", model=vars(desk.facts))
        return desk

    def _desk_for(self, setup: BatchSetup) -> SlideDesk:
        from wsi_cam.batch.one_slide import SlideDesk
        from wsi_cam.pipeline import make_explainer

        return SlideDesk(setup, make_explainer(setup.settings))

    def _prepare(self, desk: SlideDesk, order: dict[str, Any]) -> None:
        from wsi_cam.batch.task import SlideTask

        desk.prepare(SlideTask.from_dict(order["task"]))

    def _one(self, desk: SlideDesk, order: dict[str, Any]) -> bool:
        """Work on a slide, say what became of it, and give whether another one may follow."""
        from wsi_cam.batch.one_slide import SlideBusy
        from wsi_cam.batch.task import SlideTask
        from wsi_cam.errors import Interrupted, OutputError, one_line

        self._watch_myself()
        try:
            outcome, error = desk.run(SlideTask.from_dict(order["task"]), self._progress, self.stop.is_set)
        except SlideBusy:
            self.say("busy")
        except Interrupted as interrupted:
            self.say("stopped", error=one_line(interrupted))
            return False
        except OutputError as unwritable:
            self.say("unwritable", error=one_line(unwritable))
        else:
            spent = error is not None and _leaves_marks(error)
            self.say("ended", outcome=outcome.as_dict(), spent=spent)
            return not spent
        return True

    def _progress(self, done: int, total: int) -> None:
        self._watch_myself()
        self.say("progress", done=done, total=total)

    def _watch_myself(self) -> None:
        """A worker whose parent is gone and whose decoder hangs hears nothing; a clock in C still runs."""
        if self._patience_s is not None:
            faulthandler.dump_traceback_later(self._patience_s + _ORPHAN_MARGIN_S, exit=True)

    def _send_logs(self, levels: dict[str, int]) -> None:
        """What this process logs is shown by the parent, as if it had logged it."""
        logging.getLogger().addHandler(_ToParent(self))
        for name, level in levels.items():
            logging.getLogger(name or None).setLevel(level)


class _ToParent(logging.Handler):
    def __init__(self, worker: _Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        self._worker.say("log", name=record.name, level=record.levelno, text=self.format(record))


def _leaves_marks(error: BaseException) -> bool:
    """Whether the process may no longer be sound: memory ran out, or the GPU's state is lost."""
    from wsi_cam.errors import is_out_of_memory

    return is_out_of_memory(error) or "CUDA" in str(error)


if __name__ == "__main__":
    main()
