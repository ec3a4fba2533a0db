"""Many slides at once: in a process that may die, on a folder that others use, stopped and gone on with.

:func:`run_batch` is the story. Who works on the slides is an :class:`Engine`: a worker process
(``isolated``), this process (``in_process``), or whatever keeps the protocol of ``task.Engine``.
"""

from __future__ import annotations

from wsi_cam.batch.run import BatchResult, plan_batch, run_batch
from wsi_cam.batch.task import BatchSetup, Engine, Progress, Silent, SlideOutcome, SlideTask, Stop

__all__ = [
    "BatchResult",
    "BatchSetup",
    "Engine",
    "Progress",
    "Silent",
    "SlideOutcome",
    "SlideTask",
    "Stop",
    "plan_batch",
    "run_batch",
]
