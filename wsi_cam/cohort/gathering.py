"""All slides of a run folder in one order: what each holds, or why nothing is known of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wsi_cam.cohort.labels import assign_to_slides, is_positive
from wsi_cam.cohort.presets import Preset
from wsi_cam.cohort.slide_numbers import ClassNumbers, SlideNumbers, slide_numbers
from wsi_cam.errors import OutputError, SettingsError, WsiCamError, one_line
from wsi_cam.export.source import export_source, finished_samples, is_slide_name
from wsi_cam.process_list import ProcessRow, read_process_list
from wsi_cam.run_folder import RunFolder

if TYPE_CHECKING:
    from wsi_cam.cohort.thresholds import ThresholdChoice

log = logging.getLogger(__name__)

#: Status of a slide whose results are there and cannot be read.
DAMAGED = "damaged"
#: Status of a slide that a run took up and did not come to, or not to the end of.
PENDING = "pending"


@dataclass(frozen=True)
class SlideSummary:
    """A row of the cohort: one slide, whether it could be done or not."""

    sample_id: str
    status: str
    """``done``, ``failed``, ``damaged``, ``pending``, or what else the process list says."""
    reason: str = ""
    """Why there are no numbers; or, with numbers, why the last run could not renew them."""
    image_path: str = ""
    patient_id: str = ""
    label: str = ""
    target_class: str = ""
    """The class that score, rank and size class speak of."""
    numbers: SlideNumbers | None = None
    size_class: str = ""
    """Of the longest focus of the target class, by the preset."""
    rank: int | None = None
    score_threshold: float | None = None
    """What the slide score was held against: chosen without this slide where labels chose it."""
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The content of ``slide.json``."""

    @property
    def target(self) -> ClassNumbers | None:
        """Numbers of the target class."""
        return None if self.numbers is None else self.numbers.classes[self.target_class]

    @property
    def score(self) -> float | None:
        return None if self.target is None else self.target.score

    @property
    def positive(self) -> bool | None:
        """Whether the slide score reaches its threshold."""
        if self.score is None or self.score_threshold is None:
            return None
        return self.score >= self.score_threshold


@dataclass(frozen=True)
class Cohort:
    """Slides by rank, those without a score behind them by name."""

    slides: tuple[SlideSummary, ...]
    threshold: float
    """Of patches and heatmap pixels."""
    score_threshold: float
    """Of slide scores; of slides that had no part in choosing it, where labels did."""
    preset: Preset | None
    choice: ThresholdChoice | None
    """How the threshold of slide scores was chosen, where labels did."""
    remarks: tuple[str, ...]
    """What a reader of the numbers should know: slides that were made differently, labels without a slide."""

    @property
    def measured(self) -> list[SlideSummary]:
        return [slide for slide in self.slides if slide.numbers is not None]

    @property
    def without_numbers(self) -> list[SlideSummary]:
        return [slide for slide in self.slides if slide.numbers is None]


def gather_cohort(
    run: RunFolder,
    threshold: float = 0.5,
    score_threshold: float | Literal["auto"] | None = None,
    labels: Mapping[str, str] | None = None,
    preset: Preset | None = None,
    class_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Cohort:
    """Measure every slide that the run folder knows.

    ``threshold`` is that of patches and heatmap pixels, ``score_threshold`` that of slide scores: the same
    one where None, with ``"auto"`` one that the labels choose by cross-validation. ``labels`` are those of a
    file, by slide name; they go before the manifest's. ``class_name`` is spoken of where given, else what
    each slide's run looked for. Raises SettingsError or DataError where that cannot be done, OutputError
    where the folder is no run's; a slide's damaged result is a row with the reason.
    """
    rows, done = read_process_list(run.process_list), set(finished_samples(run))
    ids = sorted(filter(is_slide_name, {*rows, *done}))
    if not ids:
        raise OutputError(f"{run.path}: no slide has been run yet; begin with wsi-cam run")
    slides = [_found(run, each, rows.get(each), each in done, class_name) for each in ids]
    said, without_slide = assign_to_slides([(s.sample_id, s.image_path) for s in slides], labels or {})
    slides = [replace(each, label=said.get(each.sample_id, each.label)) for each in slides]
    choice = _chosen(slides) if score_threshold == "auto" else None
    of_scores = threshold if score_threshold is None else score_threshold
    called_at = choice.threshold if choice else float(of_scores)
    measured = []
    for number, slide in enumerate(slides, start=1):
        measured.append(replace(_measured(run, slide, threshold, preset), score_threshold=called_at))
        if progress:
            progress(number, len(slides))
    if choice:
        labelled = (slide.sample_id for slide in _labelled(slides))
        judged = dict(zip(labelled, choice.out_of_fold.tolist(), strict=True))
        measured = [replace(each, score_threshold=judged.get(each.sample_id, called_at)) for each in measured]
    remarks = [
        *differences_within([each.record for each in measured if each.numbers]),
        *_labels_without_slide(without_slide, labels or {}, ids),
    ]
    remarks += [
        f"{run.process_list.name}: {each!r} is no name of a slide" for each in rows if each not in ids
    ]
    return Cohort(ranked(measured), threshold, called_at, preset, choice, tuple(remarks))


def ranked(slides: Iterable[SlideSummary]) -> tuple[SlideSummary, ...]:
    """Slides by score, the highest first, ranked from 1; those without a score come last and have no rank.

    Equal scores stand in the order of their names.
    """
    order = sorted(slides, key=lambda s: (s.score is None, -(s.score or 0.0), s.sample_id))
    return tuple(
        replace(slide, rank=None if slide.score is None else place)
        for place, slide in enumerate(order, start=1)
    )


def differences_within(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """In what the runs of slides differ that makes their numbers unlike, in words."""
    made = [_made_with(record) for record in records]
    said = []
    for name in made[0] if made else ():
        counts = Counter(facts[name] for facts in made)
        if len(counts) > 1:
            parts = ", ".join(f"{value} ({count} of {len(made)})" for value, count in counts.most_common())
            said.append(f"Slides were not made alike, {name}: {parts}. Their numbers do not compare.")
    return said


def _made_with(record: Mapping[str, Any]) -> dict[str, str]:
    """What of a slide's record has to be equal for its numbers to compare."""
    model, used = record.get("model", {}), record.get("settings", {})
    effective, requested = used.get("effective", {}), used.get("requested", {})
    settings = ("overlap", "target_layer", "method", "min_tissue")
    return {
        "model": f"{model.get('name', '')} {model.get('bundle_hash') or '':.8}".strip(),
        "class": str(record["score"]["class"]),
        **{name: _in_words(effective.get(name)) for name in settings},
        "heatmap_mpp": _in_words(requested.get("heatmap_mpp")),
    }


def _in_words(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _found(
    run: RunFolder,
    sample_id: str,
    row: ProcessRow | None,
    is_done: bool,
    class_name: str | None,
) -> SlideSummary:
    """A slide with its record, where it has one that can be read, and not yet with its numbers; its label is
    the manifest's.
    """
    row = row or ProcessRow(sample_id, "", "done")
    slide = SlideSummary(sample_id, row.status, row.error, row.image_path, row.patient_id, row.label)
    if not is_done:
        if row.status == "done":
            return replace(slide, status="failed", reason="its folder is gone from slides/; run it again")
        if row.status == PENDING and not row.error:
            return replace(slide, reason="not run to its end yet")
        return slide
    try:
        record = export_source(run, sample_id).record
        target_class = class_name or str(record["score"]["class"])
        known = tuple(record["score"]["of_each_class"])
        scores = [float(score) for score in record["score"]["of_each_class"].values()]
        if str(record["score"]["class"]) not in known or not all(0 <= score <= 1 for score in scores):
            raise ValueError(f"scores of {record['score']['of_each_class']} make no sense")
    except (OutputError, KeyError, TypeError, ValueError, AttributeError) as error:
        return replace(slide, status=DAMAGED, reason=_reason(error))
    if target_class not in known:
        raise SettingsError(f"class {target_class!r}: the model of {sample_id} knows {', '.join(known)}")
    older = f"the last run failed ({row.error}); these are older results" if row.status == "failed" else ""
    return replace(
        slide,
        status="done",
        reason=older,
        image_path=row.image_path or str(record["slide"]["path"]),
        target_class=target_class,
        record=record,
    )


def _measured(run: RunFolder, slide: SlideSummary, threshold: float, preset: Preset | None) -> SlideSummary:
    """The slide with its numbers; one whose results cannot be read is a row that says so."""
    if not slide.record:
        return slide
    try:
        numbers = slide_numbers(export_source(run, slide.sample_id), threshold)
        longest = numbers.classes[slide.target_class].foci.longest_diameter_mm
    except Exception as error:  # a damaged result must not end the cohort
        log.debug("%s", slide.sample_id, exc_info=True)
        return replace(slide, status=DAMAGED, reason=_reason(error), record={})
    size_class = preset.size_class(longest, numbers.resolution_mm) if preset else ""
    return replace(slide, numbers=numbers, size_class=size_class)


def _reason(error: Exception) -> str:
    if isinstance(error, WsiCamError):
        return one_line(error)
    return (
        f"slide.json or a file beside it is damaged ({type(error).__name__}: {one_line(error)}); run it again"
    )


def _labelled(slides: Iterable[SlideSummary]) -> list[SlideSummary]:
    return [slide for slide in slides if slide.label and slide.record]


def _chosen(slides: Iterable[SlideSummary]) -> ThresholdChoice:
    """The threshold that labels choose; slides of a patient stay together where all name theirs."""
    from wsi_cam.cohort.thresholds import choose_threshold  # scikit-learn takes a second to import

    labelled = _labelled(slides)
    scores = [float(s.record["score"]["of_each_class"][s.target_class]) for s in labelled]
    positive = [_says_yes(slide) for slide in labelled]
    patients = [s.patient_id for s in labelled]
    return choose_threshold(
        np.array(scores, np.float64), np.array(positive, np.bool_), groups=patients if all(patients) else None
    )


def _says_yes(slide: SlideSummary) -> bool:
    try:
        return is_positive(slide.label, slide.target_class, slide.record["score"]["of_each_class"])
    except SettingsError as error:
        raise SettingsError(f"{slide.sample_id}, {error}") from error


def _labels_without_slide(unused: Sequence[str], labels: Mapping[str, str], ids: Sequence[str]) -> list[str]:
    """Labels that belong to no slide are more often a wrong name than a slide left out: say so."""
    if not unused:
        return []
    if len(unused) == len(labels):
        raise SettingsError(f"no label belongs to a slide: {unused[0]!r} is none of {ids[0]!r} ...")
    some = ", ".join(unused[:5]) + (" ..." if len(unused) > 5 else "")
    return [f"{len(unused)} labels belong to no slide here, or to several: {some}"]
