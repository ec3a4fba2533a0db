"""``wsi-cam evaluate-slides``: the slides of a run against what is known of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wsi_cam.evaluation.cohort import EvaluatedCohort
    from wsi_cam.evaluation.figures import CohortFigures

_DESCRIPTION = """\
Measure the slides that a run has finished against truth: slide AUROC, sensitivity at a fixed specificity
and at a cross-validated threshold, patch and pixel AUROC and average precision, Dice and IoU, FROC by
CAMELYON16's rules, calibration. Each figure has a 95 % bootstrap interval over slides (over patients,
where the process list names one for every slide).

TRUTH is a folder of annotations named after the slides (QuPath GeoJSON, ASAP XML, mask TIFF), with a
labels.csv (sample_id,label) in it for slides that have none; or such a labels.csv alone, which gives
slide figures only. A slide with the target that failed counts as missed.

  wsi-cam evaluate-slides results --truth annotations/
  wsi-cam evaluate-slides results --truth camelyon/ --target-name _0 _1 --hole-name _2
  wsi-cam evaluate-slides results --truth labels.csv --json figures.json
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "evaluate-slides",
        help="measure a run's slides against annotations or labels",
        description=_DESCRIPTION,
        epilog="writes OUT/evaluation/: figures.json, slides.csv, the curves as CSV and curves.png",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run_folder", metavar="OUT", type=Path, help="the results folder of a run")
    add("--truth", metavar="TRUTH", type=Path, required=True, help="folder of annotations, or labels.csv")
    add("--class", metavar="NAME", dest="class_name", help="the target (default: the run's)")
    add("--target-name", metavar="NAME", nargs="+", default=[],
        help="what annotations call the target, beside the class name")  # fmt: skip
    add(
        "--other-name",
        metavar="NAME",
        nargs="+",
        default=[],
        help="annotated classes that are not the target",
    )
    add("--hole-name", metavar="NAME", nargs="+", default=[],
        help="annotated classes that are taken out of the target")  # fmt: skip
    add("--threshold", metavar="F", type=float, default=0.5,
        help="probability from which a pixel is target, for Dice and IoU (default 0.5)")  # fmt: skip
    add("--specificity", metavar="F", type=float, default=0.9,
        help="of slides, at which sensitivity is read (default 0.9)")  # fmt: skip
    add("--slide-threshold", choices=("youden", "sensitivity"), default="youden",
        help="rule of the cross-validated threshold of the slide score (default youden)")  # fmt: skip
    add("--sensitivity", metavar="F", type=float, default=0.95,
        help="what --slide-threshold sensitivity must reach (default 0.95)")  # fmt: skip
    add("--nms-um", metavar="F", type=float,
        help="how far a detection clears its surroundings to each side (default 187)")  # fmt: skip
    add("--min-probability", metavar="F", type=float, help="least probability of a detection (default 0.5)")
    add("--json", metavar="FILE", type=Path, help="write the figures to FILE as well")
    add("-v", "--verbose", action="count", default=0, help="say more (twice: everything)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 where a slide with known truth has no result."""
    _check(args)
    from wsi_cam.cli.stage_progress import StageProgress
    from wsi_cam.evaluation.cohort import TruthSettings, evaluate_cohort
    from wsi_cam.evaluation.detections import LEAST_PROBABILITY, NMS_UM
    from wsi_cam.evaluation.figures import FigureSettings, cohort_figures
    from wsi_cam.evaluation.slide_measures import MeasuringSettings
    from wsi_cam.evaluation.writing import figures_as_dict, write_evaluation
    from wsi_cam.run_folder import RunFolder, write_json

    folder = RunFolder(args.run_folder)
    truth = TruthSettings(args.truth, tuple(args.target_name), tuple(args.other_name), tuple(args.hole_name))
    measuring = MeasuringSettings(
        threshold=args.threshold,
        nms_um=NMS_UM if args.nms_um is None else args.nms_um,
        least_probability=LEAST_PROBABILITY if args.min_probability is None else args.min_probability,
    )
    with StageProgress() as progress:
        cohort = evaluate_cohort(
            folder, truth, args.class_name, measuring, lambda done, n: progress("slides", done, n, None)
        )
    figures = cohort_figures(cohort, FigureSettings(args.specificity, args.slide_threshold, args.sensitivity))
    print("\n".join(table_of(cohort, figures)))
    write_evaluation(folder.path / "evaluation", cohort, figures)
    if args.json is not None:
        write_json(args.json, figures_as_dict(cohort, figures))
    print(f"curves and numbers of each slide in {folder.path / 'evaluation'}")
    return 1 if any(slide.score is None for slide in cohort.slides) else 0


def _check(args: argparse.Namespace) -> None:
    from wsi_cam.errors import SettingsError

    for name in ("threshold", "specificity", "sensitivity", "min_probability"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise SettingsError(f"--{name.replace('_', '-')} {value:g}: a number from 0 to 1 is wanted")
    if args.nms_um is not None and not 0 <= args.nms_um < float("inf"):
        raise SettingsError(f"--nms-um {args.nms_um:g}: a length in um is wanted, 0 or more")


def table_of(cohort: EvaluatedCohort, figures: CohortFigures) -> Iterable[str]:
    """The figures as lines of text."""
    yield f"{cohort.class_name}; 95 % bootstrap intervals, {cohort.units} resampled"
    for section in figures.sections:
        numbers = ", ".join(f"{count} {what}" for what, count in section.numbers.items())
        yield f"{section.name}: {numbers}"
        for name, measure in section.measures.items():
            yield f"  {name:44} {measure}"
        if section.note:
            yield f"  ({section.note})"
    if any(m.low == m.high in (0, 1) for section in figures.sections for m in section.measures.values()):
        yield "note: an interval without width is no certainty; resamples hold only what these slides hold"
    for remark in filter(None, (figures.warning, *cohort.remarks)):
        yield f"note: {remark}"
    for slide in cohort.slides:
        if slide.score is None:
            how = "counted as missed" if slide.positive else "left out, it has no target"
            yield f"no result: {slide.sample_id} ({how}): {slide.reason}"
    for names, what in (
        (cohort.without_truth, "slides left out, nothing is known of them"),
        (cohort.truth_without_slide, "truth of what is no slide of this run"),
    ):
        if names:
            some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            yield f"{what} ({len(names)}): {some}"
