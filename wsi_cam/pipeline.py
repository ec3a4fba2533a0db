"""The story of one slide: find the tissue, plan the patches, look at each once, lay it back, write it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wsi_cam.classifiers.bundle import Classifier, load_classifier
from wsi_cam.errors import ModelError, SlideError
from wsi_cam.heatmap.store import HeatmapStore, open_heatmap
from wsi_cam.inference import ExplainedBatch, PatchExplainer, PendingBatch
from wsi_cam.inputs import safe_name
from wsi_cam.loader import PatchBatch, PatchReader, ReadingReport, default_workers, read_batches
from wsi_cam.run_folder import RunFolder, SlideFolder, write_json
from wsi_cam.settings import RunSettings
from wsi_cam.slide_run.heatmaps import SlideHeatmaps
from wsi_cam.slide_run.job import NothingToClassify, SlideJob, prepare_job
from wsi_cam.slide_run.ledger import Ledger
from wsi_cam.slide_run.outputs import write_failure_picture, write_outputs
from wsi_cam.slide_run.record import provenance, slide_record
from wsi_cam.slides.slide import open_slide

#: Called with patches done and patches planned.
PatchesDone = Callable[[int, int], None]


@dataclass(frozen=True)
class SlideResult:
    """What became of a slide; the files are in ``folder``."""

    sample_id: str
    folder: Path
    score: float
    """Mean of the ten highest calibrated probabilities of the target class, 0 to 1."""
    n_patches: int
    n_unread: int

    @property
    def probability(self) -> HeatmapStore:
        return open_heatmap(SlideFolder(self.folder).probability_zarr)

    @property
    def evidence(self) -> HeatmapStore:
        return open_heatmap(SlideFolder(self.folder).evidence_zarr)


@dataclass
class Stopwatch:
    """Seconds by stage, for ``timing.json``."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def explain_slide(
    path: str | Path,
    output: str | Path,
    classifier: Classifier | PatchExplainer | None = None,
    settings: RunSettings | None = None,
    *,
    sample_id: str | None = None,
    progress: PatchesDone | None = None,
) -> SlideResult:
    """Classify and explain the tissue of one slide into ``output/slides/<sample_id>/``.

    Without a ``classifier``, the one that ``settings.model`` names is loaded (the bundled one where it
    names none); for many slides make a ``PatchExplainer`` once, with :func:`make_explainer`. The folder
    appears when everything in it is written; an older one is replaced.

    Raises a WsiCamError: SlideError, SpacingError, TissueError (its picture is then in
    ``output/failed/``), ModelError, SettingsError or OutputError.
    """
    settings = settings or RunSettings()
    explainer = classifier if isinstance(classifier, PatchExplainer) else make_explainer(settings, classifier)
    folder, sample_id = RunFolder(Path(output)), safe_name(sample_id or Path(path).stem)
    folder.prepare()
    watch = Stopwatch()
    # Absolute, for the record: exports find the slide again from any folder.
    path = Path(path).absolute()
    with open_slide(path, reader=settings.reader, mpp=settings.mpp, series=settings.series) as slide:
        try:
            with watch.stage("tissue"):
                job = prepare_job(sample_id, slide, explainer, settings)
        except NothingToClassify as error:
            write_failure_picture(folder.failed_tissue_png(sample_id), slide, error)
            raise
        with folder.publishing(sample_id) as building:
            common = provenance(job)
            report = ReadingReport()
            ledger = _look(job, building, common, watch, report, progress or (lambda done, planned: None))
            record = slide_record(job, ledger, common, report.distinct_reasons)
            with watch.stage("export"):
                write_outputs(job, ledger, record, building)
            write_json(building.timing_json, _timing(job, watch))
            write_json(building.slide_json, record)
    return SlideResult(
        sample_id,
        folder.slide(sample_id).path,
        score=ledger.score(job.target_index),
        n_patches=len(job.plan),
        n_unread=ledger.n_unread,
    )


def make_explainer(settings: RunSettings, classifier: Classifier | None = None) -> PatchExplainer:
    """The classifier that the settings name, or the given one, ready to explain batches of patches."""
    classifier = classifier or load_classifier(settings.model, settings.device)
    return PatchExplainer(classifier, settings.target_layer, batch_size=settings.batch_size)


def _look(
    job: SlideJob,
    building: SlideFolder,
    common: dict[str, object],
    watch: Stopwatch,
    report: ReadingReport,
    progress: PatchesDone,
) -> Ledger:
    """Every patch once through the network, its answer into the ledger and both heatmaps."""
    plan, slide = job.plan, job.slide
    ledger = Ledger(plan, job.class_names, keep=job.settings.top_patches)
    heatmaps = SlideHeatmaps(job, building.probability_zarr, building.evidence_zarr, common)
    reader = PatchReader(slide, plan, plan.level_to_level0)
    workers = default_workers() if job.settings.num_workers is None else job.settings.num_workers
    progress(0, len(plan))
    batches = read_batches(reader, plan, job.explainer.batch_size, workers, report)
    for batch, seen in _explained(batches, job.explainer, watch):
        with watch.stage("stitching"):
            if not np.isfinite(seen.logits).all():
                raise ModelError(
                    f"{job.card.name}: the network gives no finite numbers; are its weights whole?"
                )
            # What could not be read was not seen: no number may come of its white stand-in.
            seen.probabilities[~batch.readable] = np.nan
            seen.evidence[~batch.readable] = np.nan
            ledger.enter(batch.start, seen.probabilities, seen.evidence)
            heatmaps.add(batch.start, seen.probabilities, seen.evidence)
        progress(batch.start + len(batch.images), len(plan))
    watch.seconds["waited for reading"] = report.waited
    if ledger.n_unread == len(plan):
        raise SlideError(
            f"{slide.info.path}: no patch can be read ({report.reasons[0]}); is the file complete?"
        )
    with watch.stage("stitching"):
        heatmaps.finish()
    return ledger


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


def _timing(job: SlideJob, watch: Stopwatch) -> dict[str, object]:
    looking = watch.seconds["network"] + watch.seconds["waited for reading"]
    return {
        "seconds": {name: round(seconds, 3) for name, seconds in watch.seconds.items()},
        "patches": len(job.plan),
        "patches_per_second": round(len(job.plan) / looking, 2) if looking > 0 else None,
    }
