"""Every patch once through the network, its answer into journal, ledger and both heatmaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from wsi_cam.errors import Interrupted, ModelError, SlideError
from wsi_cam.inference import ExplainedBatch, PatchExplainer, PendingBatch
from wsi_cam.loader import PatchBatch, ReadAhead, read_batches
from wsi_cam.slide_run.heatmaps import SlideHeatmaps
from wsi_cam.slide_run.job import SlideJob
from wsi_cam.slide_run.journal import Journal, SeenBatch
from wsi_cam.slide_run.ledger import Ledger

#: Called with patches done and patches planned.
PatchesDone = Callable[[int, int], None]
#: Asked after every batch whether to stop.
ShouldStop = Callable[[], bool]


@dataclass
class Stopwatch:
    """Seconds by stage, for ``timing.json``. A stage may lie within another one."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def look_at_patches(
    job: SlideJob,
    reading: ReadAhead,
    journal: Journal,
    heatmaps: SlideHeatmaps,
    watch: Stopwatch,
    progress: PatchesDone,
    should_stop: ShouldStop,
) -> Ledger:
    """What was seen before comes from the journal, the rest is read from where that ends.

    Both go the same way in the same batches, so the result is the same to the byte. Raises Interrupted after
    a batch where ``should_stop`` says so, ModelError, OutputError, OSError from the journal, and SlideError
    where more patches than the settings allow cannot be read.
    """
    ledger, planned = Ledger(job.plan, job.class_names, keep=job.settings.top_patches), len(job.plan)
    progress(0, planned)

    def enter(seen: SeenBatch) -> None:
        with watch.stage("stitching"):
            ledger.enter(seen)
            heatmaps.add(seen)
        progress(seen.stop, planned)

    for seen in journal.replay():
        enter(seen)
    with journal, watch.stage("looking"):
        batches = read_batches(reading, job.explainer.batch_size)
        for batch, explained in _explained(batches, job.explainer, watch):
            seen = _seen(batch, explained, job.card.name)
            with watch.stage("journal"):
                journal.write(seen)
            enter(seen)
            if should_stop():
                raise Interrupted(
                    f"{job.slide.info.path}: stopped after {seen.stop} of {planned} patches; "
                    "the same command goes on from there"
                )
    _demand_readable(job, ledger)
    with watch.stage("stitching"):
        heatmaps.finish()
    return ledger


def _seen(batch: PatchBatch, explained: ExplainedBatch, model: str) -> SeenBatch:
    if not np.isfinite(explained.logits).all():
        raise ModelError(f"{model}: the network gives no finite numbers; are its weights whole?")
    # Laid out as the journal gives it back: sums go the order that numbers have in memory.
    probabilities = np.ascontiguousarray(explained.probabilities)
    evidence = np.ascontiguousarray(explained.evidence)
    # What could not be read was not seen: no number may come of its white stand-in.
    probabilities[~batch.readable] = np.nan
    evidence[~batch.readable] = np.nan
    return SeenBatch(batch.start, probabilities, evidence, batch.reasons)


def _demand_readable(job: SlideJob, ledger: Ledger) -> None:
    path, planned, unread = job.slide.info.path, len(job.plan), ledger.n_unread
    why = ledger.unread_reasons[0] if unread else ""
    if unread == planned:
        raise SlideError(f"{path}: no patch can be read ({why}); is the file complete?")
    if unread > job.settings.max_unread * planned:
        raise SlideError(
            f"{path}: {unread} of {planned} patches cannot be read ({why}), which is above --max-unread "
            f"{job.settings.max_unread:g}; is the file complete?"
        )


def _explained(
    batches: Iterator[PatchBatch], explainer: PatchExplainer, watch: Stopwatch
) -> Iterator[tuple[PatchBatch, ExplainedBatch]]:
    """Each batch with its answer; a GPU has the next batch already while the last one is stitched."""
    under_way: tuple[PatchBatch, PendingBatch] | None = None
    for batch in batches:
        with watch.stage("network"):
            submitted = explainer.submit(batch.images)
        if under_way:
            with watch.stage("network"):
                seen = under_way[1].result()
            yield under_way[0], seen
        under_way = batch, submitted
    if under_way:
        with watch.stage("network"):
            seen = under_way[1].result()
        yield under_way[0], seen
