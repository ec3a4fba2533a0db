"""What a Dask worker does for a batch: it keeps an engine, and the model in it, from one slide to the next.

The engine's slides run in a process of their own, so a crash, a hang or a time limit is dealt with on each
machine as it is on one. The functions here are called by name from :mod:`wsi_cam.batch.cluster`.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from distributed import Worker, get_worker

from wsi_cam.batch.isolated import IsolatedEngine
from wsi_cam.batch.task import BatchSetup, SlideOutcome, SlideTask, Stop

#: An engine that nobody wanted for so long is closed: its batch may have been killed, and it holds memory.
_IDLE_S = 60.0


class _Engines:
    """The idle engines of one batch on this worker, and its request to stop."""

    def __init__(self, batch: str, setup: BatchSetup, levels: dict[str, int]) -> None:
        self._setup = setup
        self._idle: list[IsolatedEngine] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._logs = _ToClient(batch, get_worker())
        logging.getLogger("wsi_cam").addHandler(self._logs)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        self.stop = Stop()

    def take(self) -> IsolatedEngine:
        with self._lock:
            self._stop_clock()
            return self._idle.pop() if self._idle else IsolatedEngine(self._setup)

    def give_back(self, engine: IsolatedEngine) -> None:
        with self._lock:
            self._idle.append(engine)
            self._stop_clock()
            self._timer = threading.Timer(_IDLE_S, self.close_idle)
            self._timer.daemon = True
            self._timer.start()

    def close_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for engine in idle:
            engine.close()

    def close(self) -> None:
        with self._lock:
            self._stop_clock()
        self.close_idle()
        logging.getLogger("wsi_cam").removeHandler(self._logs)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


_BATCHES: dict[str, _Engines] = {}
_ASKING = threading.Lock()


def load_model(batch: str, setup: dict[str, Any], levels: dict[str, int]) -> dict[str, Any]:
    """Start an engine on this worker; its :class:`ModelFacts` as a dictionary. Raises as ``Engine.ready``."""
    engines = _engines_of(batch, setup, levels)
    engine = engines.take()
    try:
        engine.start()
        return vars(engine.ready(engines.stop))
    finally:
        engines.give_back(engine)


def run_slide(
    batch: str, setup: dict[str, Any], levels: dict[str, int], task: dict[str, Any]
) -> dict[str, Any]:
    """What became of one slide, as a dictionary. Raises what ``Engine.run`` raises."""
    engines = _engines_of(batch, setup, levels)
    engine = engines.take()
    try:
        told = _Told(batch, get_worker())
        ((_, outcome),) = engine.run([SlideTask.from_dict(task)], told, engines.stop)
        return outcome.as_dict()
    finally:
        engines.give_back(engine)


def ask_to_stop(batch: str, times: int) -> None:
    """Once: after the batch under way; twice: at once. Says how often in all, so it can be said again."""
    if batch in _BATCHES:
        while _BATCHES[batch].stop.asked < times:
            _BATCHES[batch].stop.ask()


def forget(batch: str) -> None:
    """Let go of the engines of a batch that is over."""
    with _ASKING:
        engines = _BATCHES.pop(batch, None)
    if engines is not None:
        engines.close()


def _engines_of(batch: str, setup: dict[str, Any], levels: dict[str, int]) -> _Engines:
    with _ASKING:
        if batch not in _BATCHES:
            _BATCHES[batch] = _Engines(batch, BatchSetup.from_dict(setup), levels)
        return _BATCHES[batch]


class _Told:
    """A Progress that tells the client, by events of the batch's name."""

    def __init__(self, batch: str, worker: Worker) -> None:
        self._batch, self._worker = batch, worker

    def _say(self, what: str, **content: Any) -> None:
        self._worker.log_event(self._batch, {"say": what, "worker": self._worker.address, **content})

    def slide_started(self, task: SlideTask) -> None:
        self._say("started", number=task.number)

    def patches_done(self, task: SlideTask, done: int, total: int) -> None:
        self._say("progress", number=task.number, done=done, total=total)

    def slide_ended(self, task: SlideTask, outcome: SlideOutcome) -> None:
        """The client says it, when the outcome has reached it."""

    def note(self, text: str) -> None:
        self._say("note", text=text)


class _ToClient(logging.Handler):
    """What is logged on a worker is shown where the batch was started."""

    def __init__(self, batch: str, worker: Worker) -> None:
        super().__init__()
        self._batch, self._worker = batch, worker

    def emit(self, record: logging.LogRecord) -> None:
        event = {"say": "log", "name": record.name, "level": record.levelno, "text": self.format(record)}
        self._worker.log_event(self._batch, event)
