"""Slides in a process of their own, which may crash, hang or be killed: the batch goes on without it.

The worker prepares the next slide while it works on one. When it dies, either may have been the cause, so
each is tried once more alone; a slide that is there when a worker dies a second time has failed.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from wsi_cam.batch.failure_log import write_log
from wsi_cam.batch.locks import try_slide_lock
from wsi_cam.batch.task import BatchSetup, Progress, SlideOutcome, SlideTask, Stop
from wsi_cam.batch.worker_process import WorkerDied, WorkerProcess, WorkerStartError
from wsi_cam.errors import Interrupted, OutputError
from wsi_cam.result_identity import ModelFacts
from wsi_cam.run_folder import RunFolder

_TICK_S = 0.2
#: Between two looks at a slide that another run is working on.
_BUSY_S = 1.0
#: A message is waited for so much longer than asked only where this process was suspended.
_STOOD_STILL_S = 5.0
_STARTS = 3
#: A worker that loads is given at least so long, however short a time slides are given.
_LOADING_S = 120.0


@dataclass
class _Turn:
    """A slide's place in the queue."""

    task: SlideTask
    deaths: int = 0
    alone: bool = False
    """Nothing is prepared beside it: it is under suspicion."""
    busy: bool = False
    """Another run had its lock when it was last tried."""


class _OutOfTime(Exception):
    """A worker was killed: it was silent (``stalled``), or its slide took too long."""

    def __init__(self, limit_s: float, noise: str, stalled: bool) -> None:
        what = "nothing happened for" if stalled else "took longer than"
        super().__init__(f"{what} {limit_s:g} s")
        self.limit_s, self.noise, self.stalled = limit_s, noise, stalled


class IsolatedEngine:
    """An :class:`Engine` of one worker process at a time, replaced when it dies.

    :meth:`run` may be called again and again; the worker, and the model in it, stay.
    """

    def __init__(self, setup: BatchSetup) -> None:
        self._setup = setup
        self._working_folder = os.getcwd()
        self._worker: WorkerProcess | None = None

    def start(self) -> None:
        self._started()

    def ready(self, stop: Stop) -> ModelFacts:
        """As :meth:`Engine.ready`; a worker that dies as it loads is started again."""
        for attempt in range(_STARTS):
            worker = self._started()
            try:
                while worker.facts is None:
                    worker.receive(_TICK_S)
                    self._check_clocks(worker, None)
                    if stop.requested:
                        self._end_worker()
                        raise Interrupted("stopped before the first slide")
            except WorkerDied as death:
                self._worker = None
                if attempt < _STARTS - 1:
                    continue
                last = (death.noise.strip().splitlines() or ["it said nothing"])[-1]
                raise WorkerStartError(
                    f"the worker process dies as it starts ({death.how}; {last}); does wsi-cam doctor pass?"
                ) from death
            except _OutOfTime as silence:
                raise WorkerStartError("the worker process hangs as it starts; try --in-process") from silence
            return worker.facts
        raise AssertionError

    def run(
        self, tasks: Iterable[SlideTask], progress: Progress, stop: Stop
    ) -> Iterator[tuple[SlideTask, SlideOutcome]]:
        queue = _Queue(tasks)
        while (turn := queue.take()) is not None:
            if stop.requested:
                raise Interrupted("stopped between two slides")
            if turn.busy:
                time.sleep(_BUSY_S)
            self.ready(stop)
            ahead = None if turn.alone or turn.busy else queue.peek()
            began = time.monotonic()
            try:
                outcome = self._work_on(turn.task, ahead.task if ahead else None, progress, stop)
            except (WorkerDied, _OutOfTime) as end:
                self._worker = None
                reason = _suspect(end, turn, ahead)
                if reason:
                    yield turn.task, self._failed(turn.task, reason, end, time.monotonic() - began)
                else:
                    progress.note(f"{turn.task.sample_id}: {end}; trying it again alone")
                    queue.put_back(turn)
                continue
            if outcome is not None:
                yield turn.task, outcome
                continue
            if not turn.busy:
                progress.note(f"{turn.task.sample_id}: another run is working on it")
            turn.busy = True
            queue.put_last(turn)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _started(self) -> WorkerProcess:
        if self._worker is None:
            self._worker = WorkerProcess(self._setup, self._working_folder)
        return self._worker

    def _work_on(
        self, task: SlideTask, ahead: SlideTask | None, progress: Progress, stop: Stop
    ) -> SlideOutcome | None:
        """What became of a slide, or None where another run has it.

        Raises WorkerDied, _OutOfTime, Interrupted and OutputError.
        """
        worker = self._started()
        progress.slide_started(task)
        worker.send("task", task=task.as_dict())
        if ahead:
            worker.send("prepare", task=ahead.as_dict())
        worker.heard = began = time.monotonic()
        told = False
        while True:
            message, lost_s = _receive(worker)
            began += lost_s
            match message["say"]:
                case "progress":
                    progress.patches_done(task, message["done"], message["total"])
                case "ended":
                    if message["spent"]:
                        self._end_worker()
                    return SlideOutcome.from_dict(message["outcome"])
                case "busy":
                    return None
                case "unwritable":
                    raise OutputError(message["error"])
                case "stopped":
                    self._end_worker()
                    raise Interrupted(message["error"] or "stopped")
            self._check_clocks(worker, began)
            if stop.requested and not told:
                worker.send("stop")
                told = True
            if stop.forced:
                worker.kill()
                self._worker = None
                raise Interrupted("stopped at once")

    def _check_clocks(self, worker: WorkerProcess, began: float | None) -> None:
        """Kill a worker that is silent or whose slide, begun at ``began``, takes too long."""
        now, setup = time.monotonic(), self._setup
        patience = setup.stall_timeout_s
        if patience is not None and began is None:
            patience = max(patience, _LOADING_S)
        stalled = patience is not None and now - worker.heard > patience
        late = began is not None and setup.slide_timeout_s is not None and now - began > setup.slide_timeout_s
        if stalled or late:
            limit = patience if stalled else setup.slide_timeout_s
            raise _OutOfTime(limit or 0.0, worker.kill(), stalled)

    def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _failed(
        self, task: SlideTask, reason: str, end: WorkerDied | _OutOfTime, seconds: float
    ) -> SlideOutcome:
        folder = RunFolder(self._setup.output)
        write_log(folder.log(task.sample_id), f"{reason}\n\n{end.noise}")
        # What was seen is kept where the file is not to blame: with more time or memory it is gone on with.
        blameless = end.killed if isinstance(end, WorkerDied) else not end.stalled
        if not blameless and (lock := try_slide_lock(folder.path, task.sample_id)):
            folder.discard_growing(task.sample_id)
            lock.release()
        row = replace(task.row("failed", f"{task.path}: {reason}"), seconds=round(seconds, 2))
        return SlideOutcome("failed", row)


def _receive(worker: WorkerProcess) -> tuple[dict[str, Any], float]:
    """The next message, {"say": ""} for none, and how long this process itself stood still (Ctrl-Z), s."""
    before = time.monotonic()
    message = worker.receive(_TICK_S)
    lost_s = time.monotonic() - before - _TICK_S
    if lost_s < _STOOD_STILL_S:
        return message or {"say": ""}, 0.0
    worker.heard += 0.0 if message else lost_s
    return message or {"say": ""}, lost_s


def _suspect(end: WorkerDied | _OutOfTime, turn: _Turn, ahead: _Turn | None) -> str:
    """Why the slide has failed by the end of its worker; empty where it is to be tried again alone.

    Marks the slide that was prepared beside it, if that may have been the cause.
    """
    if isinstance(end, _OutOfTime):
        if not end.stalled:
            return f"took longer than {end.limit_s:g} s; give it more with --slide-timeout"
        if ahead is None:
            return (
                f"nothing happened for {end.limit_s:g} s: reading it hangs; "
                "copy the file again, try another --reader, or wait longer with --stall-timeout"
            )
    turn.deaths += 1
    if turn.deaths > 1 and isinstance(end, WorkerDied):
        return _after_two_deaths(end, turn.task)
    for suspect in (turn, ahead):
        if suspect:
            suspect.alone = True
    if ahead:
        ahead.deaths += 1
    return ""


def _after_two_deaths(death: WorkerDied, task: SlideTask) -> str:
    if death.killed:
        return (
            f"the process that worked on it was killed twice ({death.how}), most likely because memory ran "
            "out; take a smaller --batch-size or fewer --num-workers, or a machine with more memory"
        )
    return (
        f"crashed the process that read it ({death.how}), twice; the file is probably damaged: copy it again "
        f"or try another --reader (see logs/{task.sample_id}.log)"
    )


class _Queue:
    """Slides in their order; those that are tried again come first, those that another run has last."""

    def __init__(self, tasks: Iterable[SlideTask]) -> None:
        self._fresh = map(_Turn, tasks)
        self._first: deque[_Turn] = deque()
        self._last: deque[_Turn] = deque()

    def take(self) -> _Turn | None:
        if self._first:
            return self._first.popleft()
        turn = next(self._fresh, None)
        return turn or (self._last.popleft() if self._last else None)

    def peek(self) -> _Turn | None:
        """The next slide, where it may be prepared beside another one; it stays in the queue."""
        if not self._first and (turn := next(self._fresh, None)):
            self._first.append(turn)
        return self._first[0] if self._first and not self._first[0].alone else None

    def put_back(self, turn: _Turn) -> None:
        self._first.appendleft(turn)

    def put_last(self, turn: _Turn) -> None:
        self._last.append(turn)
