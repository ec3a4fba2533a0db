"""The story of one slide: find the tissue, plan the patches, look at each once, lay it back, write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsi_cam.classifiers.bundle import Classifier, load_classifier
from wsi_cam.heatmap.store import HeatmapStore, open_heatmap
from wsi_cam.inference import PatchExplainer
from wsi_cam.inputs import safe_name
from wsi_cam.loader import PatchReader, ReadAhead, default_workers
from wsi_cam.result_identity import RECORD_KEY, identity_of
from wsi_cam.run_folder import RunFolder, SlideFolder, write_json
from wsi_cam.settings import RunSettings
from wsi_cam.slide_run.heatmaps import SlideHeatmaps
from wsi_cam.slide_run.job import NothingToClassify, SlideJob, prepare_job
from wsi_cam.slide_run.journal import Journal, plan_digest
from wsi_cam.slide_run.looking import PatchesDone, ShouldStop, Stopwatch, look_at_patches
from wsi_cam.slide_run.outputs import write_failure_picture, write_outputs
from wsi_cam.slide_run.record import provenance, slide_record
from wsi_cam.slide_run.spare_memory import give_back_spare_memory
from wsi_cam.slides.opening import open_slide


@dataclass(frozen=True)
class SlideResult:
    """What became of a slide; the files are in ``folder``."""

    sample_id: str
    folder: Path
    score: float
    """Mean of the ten highest calibrated probabilities of the target class, 0 to 1."""
    n_patches: int
    n_unread: int
    resumed_at: int = 0
    """Patches that an earlier run, which did not come to its end, had seen already."""
    waited_for_reading: float = 0.0
    """Seconds that the network waited for pixels."""
    reading_waited: float = 0.0
    """Seconds that reading threads waited for the network, added up."""

    @property
    def probability(self) -> HeatmapStore:
        return open_heatmap(SlideFolder(self.folder).probability_zarr)

    @property
    def evidence(self) -> HeatmapStore:
        return open_heatmap(SlideFolder(self.folder).evidence_zarr)


@dataclass(eq=False)
class PreparedSlide:
    """A slide that is open, planned and being read; made by :func:`prepare_slide`.

    It holds the file, threads and read blocks until it is closed, which :func:`explain_prepared` does.
    """

    job: SlideJob
    folder: RunFolder
    identity: Mapping[str, Any]
    journal: Journal
    reading: ReadAhead
    watch: Stopwatch
    origin: Mapping[str, Any]
    """What the record says of where the slide came from, in place of the path of the file that is read."""
    _open: ExitStack = field(repr=False)

    @property
    def sample_id(self) -> str:
        return self.job.sample_id

    @property
    def n_patches(self) -> int:
        return len(self.job.plan)

    def close(self) -> None:
        """Stop reading and close the slide. Calling it again does nothing."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def explain_slide(
    path: str | Path,
    output: str | Path,
    classifier: Classifier | PatchExplainer | None = None,
    settings: RunSettings | None = None,
    *,
    sample_id: str | None = None,
    progress: PatchesDone | None = None,
    should_stop: ShouldStop | None = None,
) -> SlideResult:
    """Classify and explain the tissue of one slide into ``output/slides/<sample_id>/``.

    Without a ``classifier``, the one that ``settings.model`` names is loaded (the bundled one where it
    names none); for many slides make a ``PatchExplainer`` once, with :func:`make_explainer`. The folder
    appears when everything in it is written; an older one is replaced. A call that was
    interrupted or killed, or could not write, left a journal: the same call goes on from there.

    Raises a WsiCamError: SlideError, SpacingError, TissueError (its picture is then in
    ``output/failed/``), ModelError, SettingsError, OutputError, or Interrupted when ``should_stop``,
    which is asked after every batch, says so.
    """
    settings = settings or RunSettings()
    explainer = classifier if isinstance(classifier, PatchExplainer) else make_explainer(settings, classifier)
    prepared = prepare_slide(path, output, explainer, settings, sample_id=sample_id)
    return explain_prepared(prepared, progress, should_stop)


def make_explainer(settings: RunSettings, classifier: Classifier | None = None) -> PatchExplainer:
    """The classifier that the settings name, or the given one, ready to explain batches of patches."""
    classifier = classifier or load_classifier(settings.model, settings.device)
    return PatchExplainer(classifier, settings.target_layer, batch_size=settings.batch_size)


def prepare_slide(
    path: str | Path,
    output: str | Path | RunFolder,
    explainer: PatchExplainer,
    settings: RunSettings,
    *,
    sample_id: str | None = None,
    identity: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> PreparedSlide:
    """Open a slide, find its tissue, plan its patches and begin to read the first ones in threads.

    It does not use the network, so one slide can be prepared while another is explained. What is read
    beforehand is one block for each reading thread. ``identity`` says what the result is made of (made
    here where it is None): the journal of an earlier run is gone on with only where it has the same.
    ``origin`` is for a slide that is a passing copy: its ``path`` is what the record names. A missing
    ``output`` is made, but not one that is given as a RunFolder: it was there, and somebody removed it.

    Raises as :func:`explain_slide`; nothing is left open then.
    """
    if isinstance(output, RunFolder):
        folder = output
    else:
        folder = RunFolder(Path(output))
        folder.prepare()
    sample_id = safe_name(sample_id or Path(path).stem)
    watch = Stopwatch()
    # Absolute, for the record: exports find the slide again from any folder.
    path = Path(path).absolute()
    with folder.working_on(sample_id), ExitStack() as stack:
        slide = stack.enter_context(
            open_slide(path, reader=settings.reader, mpp=settings.mpp, series=settings.series)
        )
        try:
            with watch.stage("tissue"):
                job = prepare_job(sample_id, slide, explainer, settings)
                give_back_spare_memory()
        except NothingToClassify as error:
            write_failure_picture(folder.failed_tissue_png(sample_id), slide, error)
            raise
        identity = identity or identity_of(path, explainer, settings)
        folder.settle(sample_id)
        journal = Journal(
            folder.growing(sample_id).journal,
            {"identity": identity, "plan": plan_digest(job.plan)},
            len(job.class_names),
            job.plan.map_cells,
        )
        workers = default_workers() if settings.num_workers is None else settings.num_workers
        reader = PatchReader(slide, job.plan, job.plan.level_to_level0)
        reading = stack.enter_context(ReadAhead(reader, job.plan, workers, start=journal.patches))
        return PreparedSlide(job, folder, identity, journal, reading, watch, origin or {}, stack.pop_all())


def explain_prepared(
    prepared: PreparedSlide, progress: PatchesDone | None = None, should_stop: ShouldStop | None = None
) -> SlideResult:
    """Look at all patches of a prepared slide and publish what was seen; closes it, whatever happens.

    Raises as :func:`explain_slide`.
    """
    job, reading, watch = prepared.job, prepared.reading, prepared.watch
    common = provenance(job, prepared.identity, prepared.origin)
    with prepared, prepared.folder.publishing(prepared.sample_id) as building:
        heatmaps = SlideHeatmaps(job, building.probability_zarr, building.evidence_zarr, common)
        said = progress or (lambda done, planned: None)
        ledger = look_at_patches(
            job, reading, prepared.journal, heatmaps, watch, said, should_stop or (lambda: False)
        )
        give_back_spare_memory()
        record = slide_record(job, ledger, {RECORD_KEY: prepared.identity, **common})
        with watch.stage("export"):
            # Who waits for a sign of life hears of each format that is written.
            write_outputs(job, ledger, record, building, lambda: said(len(job.plan), len(job.plan)))
        write_json(building.timing_json, _timing(prepared))
        write_json(building.slide_json, _naming_the_origin(record, prepared))
    return SlideResult(
        prepared.sample_id,
        prepared.folder.slide(prepared.sample_id).path,
        score=ledger.score(job.target_index),
        n_patches=len(job.plan),
        n_unread=ledger.n_unread,
        resumed_at=prepared.journal.patches,
        waited_for_reading=reading.waited,
        reading_waited=reading.reading_waited,
    )


def _naming_the_origin(record: dict[str, Any], prepared: PreparedSlide) -> dict[str, Any]:
    """The record with the slide's own address in the reasons that readers gave for what they could not do."""
    if not prepared.origin:
        return record
    copy, own = (json.dumps(str(path)) for path in (prepared.job.slide.info.path, prepared.origin["path"]))
    named: dict[str, Any] = json.loads(json.dumps(record).replace(copy[1:-1], own[1:-1]))
    return named


def _timing(prepared: PreparedSlide) -> dict[str, Any]:
    """What ``timing.json`` says: seconds by stage, and who waited for whom.

    "looking" is all that is done with patches from the first batch to the last, without those of an earlier
    run, finishing the heatmaps and exports. While a GPU works other stages go on: none of them is its time.
    """
    seconds = prepared.watch.seconds | {
        "waited for reading": prepared.reading.waited,
        "reading waited": prepared.reading.reading_waited,
    }
    looking, looked_at = seconds["looking"], prepared.n_patches - prepared.journal.patches
    return {
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "patches": prepared.n_patches,
        "resumed_at": prepared.journal.patches,
        "patches_per_second": round(looked_at / looking, 2) if looked_at else None,
    }
