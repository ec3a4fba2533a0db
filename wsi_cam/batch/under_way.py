"""What the client of a cluster hears of the slides that it has given out."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from wsi_cam.batch.task import Progress, SlideTask

if TYPE_CHECKING:
    from distributed import Future


class UnderWay:
    """The slides that the cluster has, and what is heard of them."""

    def __init__(self, progress: Progress) -> None:
        self.tasks: dict[Future[Any], SlideTask] = {}
        self._progress = progress
        self.times_begun: Counter[int] = Counter()

    def hear(self, message: dict[str, Any] | Future[Any]) -> tuple[Future[Any], SlideTask] | None:
        """Pass an event on to whoever watches; the slide that ended, where the message is its future."""
        if not isinstance(message, dict):
            task = self.tasks.pop(message, None)
            return None if task is None else (message, task)
        tasks = {task.number: task for task in self.tasks.values()}
        task = tasks.get(message.get("number", 0))
        if message["say"] == "log":
            logging.getLogger(message["name"]).log(message["level"], "%s", message["text"])
        elif message["say"] == "note":
            self._progress.note(message["text"])
        elif task is not None and message["say"] == "progress":
            self._progress.patches_done(task, message["done"], message["total"])
        elif task is not None:
            if self.times_begun[task.number]:
                self._progress.note(
                    f"{task.sample_id}: its worker has gone; begun again on {message['worker']}"
                )
            self.times_begun[task.number] += 1
            self._progress.slide_started(task)
        return None
