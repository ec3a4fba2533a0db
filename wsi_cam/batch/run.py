"""Many slides: a bad one is recorded and the next one goes on; the same call again does what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_cam.batch.in_process import InProcessEngine
from wsi_cam.batch.isolated import IsolatedEngine
from wsi_cam.batch.locks import clear_locks
from wsi_cam.batch.task import (
    BatchSetup,
    Engine,
    Progress,
    Redo,
    Silent,
    SlideOutcome,
    SlideTask,
    Stop,
)
from wsi_cam.errors import Interrupted, SettingsError
from wsi_cam.result_identity import ModelFacts
from wsi_cam.run_folder import RunFolder
from wsi_cam.settings import RunSettings
from wsi_cam.slide_url import SlideUrl
from wsi_cam.tiling.stride import effective_overlap

# Light modules only above: the worker process is started before the others are read.
if TYPE_CHECKING:
    from wsi_cam.batch.examine import SlideState
    from wsi_cam.inputs import SlideInput


@dataclass
class BatchResult:
    """What became of a batch."""

    outcomes: list[SlideOutcome] = field(default_factory=list)
    """In the order in which the slides ended."""
    interrupted: str = ""
    """How far it came, where it was asked to stop; empty otherwise."""

    @property
    def counts(self) -> Counter[str]:
        """Slides by the kind of their outcome."""
        return Counter(outcome.kind for outcome in self.outcomes)

    @property
    def all_done(self) -> bool:
        counts = self.counts
        return not (self.interrupted or counts["failed"] or counts["stale"])


def run_batch(
    inputs: Sequence[str | Path],
    output: Path,
    settings: RunSettings,
    *,
    redo: Redo = "missing",
    stall_timeout_s: float | None = 600.0,
    slide_timeout_s: float | None = None,
    in_process: bool = False,
    cluster: str | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> BatchResult:
    """Explain every slide of ``inputs`` into the run folder ``output``.

    A text among the inputs may be a URL; such a slide is fetched for as long as it is worked on.
    Slides are worked on in a worker process, ``in_process``, on the ``cluster`` (``local:N``, the address
    of a Dask scheduler, or its file), or by the ``engine`` given, which then has the time limits. A slide
    that cannot be done has the status ``failed`` and its reason; its traceback is in ``logs/``. Slides
    that are done are left alone, those made with other settings too (outcome ``stale``), unless ``redo``
    says more. Asking ``stop`` ends the batch early; called again it goes on.

    Raises a WsiCamError where nothing could start (inputs, settings, model or folder), and OutputError
    where results can be written no longer.
    """
    stop, progress = stop or Stop(), progress or Silent()
    setup = BatchSetup(Path(output).absolute(), settings, redo, stall_timeout_s, slide_timeout_s)
    engine = engine or _engine(setup, in_process, cluster)
    result = BatchResult()
    try:
        engine.start()
        slides = _collect(inputs, settings)
        try:
            model = engine.ready(stop)
        except Interrupted as interrupted:
            result.interrupted = str(interrupted)
            return result
        _run(setup, engine, model, slides, progress, stop, result)
    finally:
        engine.close()
        from wsi_cam.batch.fetching import clear_fetched

        clear_fetched(setup.output)
        clear_locks(setup.output)
    return result


def _engine(setup: BatchSetup, in_process: bool, cluster: str | None) -> Engine:
    if cluster:
        from wsi_cam.batch.cluster import ClusterEngine

        return ClusterEngine(setup, cluster)
    return InProcessEngine(setup) if in_process else IsolatedEngine(setup)


def plan_batch(
    inputs: Sequence[str | Path], output: Path, settings: RunSettings, *, in_process: bool = False
) -> list[tuple[SlideTask, SlideState]]:
    """What :func:`run_batch` would find of each slide. Loads the model, and writes nothing.

    Raises a WsiCamError where nothing could start.
    """
    setup = BatchSetup(Path(output).absolute(), settings)
    engine = _engine(setup, in_process, None)
    try:
        engine.start()
        slides = _collect(inputs, settings)
        from wsi_cam.batch.examine import examine
        from wsi_cam.batch.records import RunRecords
        from wsi_cam.process_list import read_process_list

        folder = RunFolder(setup.output)
        rows = read_process_list(folder.process_list)
        tasks = RunRecords(folder).tasks(slides)
        model = engine.ready(Stop())
        return [(task, examine(folder, task, model, settings, rows.get(task.sample_id))) for task in tasks]
    finally:
        engine.close()


def _run(
    setup: BatchSetup,
    engine: Engine,
    model: ModelFacts,
    slides: list[SlideInput],
    progress: Progress,
    stop: Stop,
    result: BatchResult,
) -> None:
    """All slides that are wanted through the engine, each into the records as it ends."""
    from wsi_cam.batch.records import RunRecords

    folder = RunFolder(setup.output)
    folder.prepare()
    records, started = RunRecords(folder), datetime.now(UTC)
    tasks, rows = records.enter_all(slides)

    # Thousands that are done already are entered at once, not each with the whole list read and written.
    as_they_were: list[SlideOutcome] = []

    def ended(task: SlideTask, outcome: SlideOutcome) -> None:
        result.outcomes.append(outcome)
        progress.slide_ended(task, outcome)

    def wanted() -> Iterator[SlideTask]:
        from wsi_cam.batch.examine import examine, settled

        for task in tasks:
            if stop.requested:
                result.interrupted = "stopped between two slides"
                return
            state = examine(folder, task, model, setup.settings, rows.get(task.sample_id))
            if not state.is_wanted(setup.redo):
                state = settled(folder, task, model, setup.settings, state)
            if state.is_wanted(setup.redo):
                yield task
            else:
                as_they_were.append(state.outcome(task))
                ended(task, as_they_were[-1])

    if rounded := _rounded_overlap(setup.settings, model):
        progress.note(rounded)
    try:
        for task, outcome in engine.run(wanted(), progress, stop):
            records.enter([*as_they_were, outcome])
            as_they_were.clear()
            ended(task, outcome)
    except Interrupted as interrupted:
        result.interrupted = str(interrupted)
    records.enter(as_they_were)
    records.end(setup.settings, model, started, {o.row.sample_id: o.kind for o in result.outcomes})


def _rounded_overlap(settings: RunSettings, model: ModelFacts) -> str:
    """What to tell who asks for an overlap that this model cannot have; empty where it can."""
    if settings.overlap is None:
        return ""
    overlap = effective_overlap(model.patch_px, model.cell_px, settings.overlap)
    if abs(overlap - settings.overlap) < 0.005:
        return ""
    return (
        f"overlap {settings.overlap:g} becomes {overlap:.3g}: this model's patches of {model.patch_px} px "
        f"lie whole cells of {model.cell_px} px apart"
    )


def _collect(inputs: Sequence[str | Path], settings: RunSettings) -> list[SlideInput]:
    """The slides; imports what the end of the run needs, too, while the worker process loads."""
    from wsi_cam.batch.fetching import require_protocol
    from wsi_cam.inputs import collect_inputs

    slides = collect_inputs(inputs)
    for url in {s.path.protocol: s.path for s in slides if isinstance(s.path, SlideUrl)}.values():
        require_protocol(url)
    if settings.tissue and sum(slide.mask_path is None for slide in slides) > 1:
        raise SettingsError(
            f"{settings.tissue}: one region for {len(slides)} slides; give each its own in a manifest, "
            "in the column mask_path"
        )
    import_module("wsi_cam.batch.records")
    if "qupath" in settings.export:
        import_module("wsi_cam.export.qupath_project")
    return slides
