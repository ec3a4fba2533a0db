"""All slides of a run folder with what is known of them, measured one by one.

What does not work out is counted, not dropped: a slide with the target that failed is a miss (its score is
below all others, its lesions are missed); a failed slide without the target is left out of the figures,
since nobody was misled by it. Either is listed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from shapely import MultiPolygon

from wsi_cam.cohort.gathering import differences_within
from wsi_cam.cohort.labels import assign_to_slides
from wsi_cam.errors import DataError, OutputError, SettingsError, WsiCamError, one_line
from wsi_cam.evaluation.lesions import Hits, find_lesions
from wsi_cam.evaluation.slide_measures import MeasuringSettings, SlideMeasures, measure_slide
from wsi_cam.evaluation.truth import DrawnTruth, Truth, TruthClasses, read_truth
from wsi_cam.evaluation.truth_files import SlideTruth, find_truth
from wsi_cam.export.source import ExportSource, export_source, finished_samples
from wsi_cam.geometry import Mpp, Size
from wsi_cam.process_list import read_process_list
from wsi_cam.run_folder import RunFolder

OnSlide = Callable[[int, int], None]


@dataclass(frozen=True)
class TruthSettings:
    """``path``: a folder or labels.csv; names are those that annotations give to the target, to other tissue
    and to holes in the target, beside the model's own class names."""

    path: Path
    target_names: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    hole_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class EvaluatedSlide:
    """A slide with known truth. ``score`` is None where it failed; ``reason`` says why."""

    sample_id: str
    unit: str
    """What is resampled: the patient where the process list names one for every slide, else the slide."""
    positive: bool
    score: float | None
    reason: str = ""
    measures: SlideMeasures | None = None
    """None where only the slide's label is known, or the slide failed."""
    hits: Hits | None = None
    """Of detections; a failed slide's lesions are missed. None where only the label is known."""


@dataclass(frozen=True, eq=False)
class EvaluatedCohort:
    """What there is to make figures of. Names are sample ids, or those of truth files."""

    class_name: str
    slides: tuple[EvaluatedSlide, ...]
    without_truth: tuple[str, ...]
    truth_without_slide: tuple[str, ...]
    units: str
    """``slides`` or ``patients``."""
    settings: MeasuringSettings
    remarks: tuple[str, ...] = ()
    """What a reader of the figures should know: in what the slides were made differently."""


def evaluate_cohort(
    run: RunFolder,
    truth: TruthSettings,
    class_name: str | None = None,
    settings: MeasuringSettings | None = None,
    on_slide: OnSlide | None = None,
) -> EvaluatedCohort:
    """Measure every slide of a run whose truth is known.

    ``class_name`` is the target (None: the class that the run looked for). Raises DataError for truth that
    cannot be used, SettingsError for a class that the model of a slide does not know, OutputError where
    nothing is finished.
    """
    rows = read_process_list(run.process_list)
    sources = _readable_sources(run)
    first = next(iter(sources.values()))
    asked = _asked(first, class_name, truth, settings or MeasuringSettings())
    images = {name: str(source.slide_path) for name, source in sources.items()}
    images |= {name: row.image_path for name, row in rows.items()}
    known, left = assign_to_slides(images.items(), find_truth(truth.path, asked.classes))
    if not known:
        raise DataError(
            f"{truth.path}: no truth here is named after a slide of {run.path}, as {first.sample_id}"
        )
    patients = all(name in rows and rows[name].patient_id for name in known)
    slides: list[EvaluatedSlide] = []
    for number, (name, said) in enumerate(sorted(known.items()), start=1):
        row = rows.get(name)
        slide = _evaluate(run, name, said, asked, row.error if row else "")
        slides.append(replace(slide, unit=rows[name].patient_id if patients else name))
        if on_slide is not None:
            on_slide(number, len(known))
    return EvaluatedCohort(
        asked.class_name,
        tuple(slides),
        without_truth=tuple(sorted(set(images) - set(known))),
        truth_without_slide=tuple(left),
        units="patients" if patients else "slides",
        settings=asked.settings,
        remarks=tuple(differences_within(sources[name].record for name in known if name in sources)),
    )


@dataclass(frozen=True)
class _Asked:
    """What is the same for all slides."""

    class_name: str
    classes: TruthClasses
    settings: MeasuringSettings
    fellow_mpp: Mpp
    """Spacing of a finished slide, for those that could not be opened."""


def _asked(
    source: ExportSource, class_name: str | None, truth: TruthSettings, settings: MeasuringSettings
) -> _Asked:
    target = class_name or str(source.record["score"]["class"])
    _demand_class(source, target)
    others = tuple(name for name in source.class_names if name != target)
    classes = TruthClasses((target, *truth.target_names), (*others, *truth.other_names), truth.hole_names)
    return _Asked(target, classes, settings, source.mpp)


def _demand_class(source: ExportSource, name: str) -> None:
    if name not in source.class_names:
        raise SettingsError(
            f"class {name!r}: the model of {source.sample_id} knows {', '.join(source.class_names)}; "
            "choose a --class, and truth of the slides of one model"
        )


def _readable_sources(run: RunFolder) -> dict[str, ExportSource]:
    """Finished slides whose record and heatmap open. Raises OutputError where there is none."""
    sources: dict[str, ExportSource] = {}
    reason = f"no slide is done; see {run.process_list.name}"
    for name in finished_samples(run):
        try:
            source = export_source(run, name)
            _ = source.probability
        except OutputError as error:
            reason = one_line(error)
        else:
            sources[name] = source
    if not sources:
        raise OutputError(f"{run.path}: {reason}")
    return sources


def _evaluate(run: RunFolder, name: str, said: SlideTruth, asked: _Asked, error: str) -> EvaluatedSlide:
    """``error`` is what the process list says of the slide."""
    if not run.is_done(name):
        return _failed(name, said, asked, error or "no result yet")
    try:
        source = export_source(run, name)
        _demand_class(source, asked.class_name)
        score = float(source.record["score"]["of_each_class"][asked.class_name])
        truth = _truth_of(source, said, asked.classes)
        measures = None if truth is None else measure_slide(source, truth, asked.class_name, asked.settings)
    except (DataError, SettingsError):
        raise  # the truth or the question is at fault, and who asks can mend it
    except (WsiCamError, KeyError, TypeError, ValueError) as cause:
        return _failed(name, said, asked, f"damaged result: {one_line(cause)}")
    positive = bool(said.label) if truth is None else _holds_target(name, said, truth)
    return EvaluatedSlide(name, name, positive, score, "", measures, measures.hits if measures else None)


def _truth_of(source: ExportSource, said: SlideTruth, classes: TruthClasses) -> Truth | None:
    """Where the target is on a finished slide; None where no more is known than that it is there."""
    if said.annotations is None:
        return None if said.label else DrawnTruth(MultiPolygon())
    size = Size(**source.record["slide"]["size"])
    return read_truth(said.annotations, classes, size, source.mpp, source.bounds)


def _holds_target(name: str, said: SlideTruth, truth: Truth) -> bool:
    positive = truth.box is not None
    if said.label is not None and said.label != positive:
        has = "areas of the target" if positive else "no area of the target"
        raise DataError(
            f"{said.annotations}: has {has}, but the label of {name} says otherwise; correct one of them"
        )
    return positive


def _failed(name: str, said: SlideTruth, asked: _Asked, reason: str) -> EvaluatedSlide:
    """A slide without a result: its lesions, if it has any, are missed."""
    hits = None
    positive = bool(said.label)
    if said.annotations is not None:
        # The spacing of a slide that could not be opened is unknown: a fellow's stands in.
        truth = read_truth(said.annotations, asked.classes, None, asked.fellow_mpp, None)
        positive = _holds_target(name, said, truth)
        isolated = find_lesions(truth, asked.fellow_mpp).isolated
        missed = np.zeros(int((~isolated).sum()), np.float32)
        hits = Hits(np.empty(0, np.float32), missed, int(isolated.sum()))
    return EvaluatedSlide(name, name, positive, None, reason, None, hits if positive else None)
