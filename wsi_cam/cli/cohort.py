"""``wsi-cam cohort``: all slides of a run in one table and on one page, without model or slides."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_cam.cohort.presets import PRESETS

if TYPE_CHECKING:
    from wsi_cam.cohort.gathering import Cohort

DEFAULT_THRESHOLD = 0.5

_DESCRIPTION = """\
Say of every slide in OUT how much of a class it holds and which slides to look at first, from what a run
stored: neither the model nor the slides are needed.

Writes OUT/cohort.csv, a row for each slide and class (and cohort.parquet where pyarrow is installed):
areas in mm2, probabilities, foci with their diameters, the slide score and the rank; a slide that failed is
a row with the reason. Where a manifest named patients, OUT/cohort_patients.csv adds them up. With --report
also OUT/report.html, a page for any browser.
"""

_EPILOG = """\
  wsi-cam cohort results --report
  wsi-cam cohort results --preset lymph-node --score-threshold 0.95 --report
  wsi-cam cohort results --labels labels.csv --threshold auto --report

labels.csv has the columns sample_id and label; the slide's file name does as well as its id. For auto
a label is positive if it is the class, or 1, true, yes, positive, tumour, cancer, metastasis, itc,
micro, macro; negative if it is 0, false, no, negative, normal, benign, healthy, none.

What each column means: docs/cohort.md. Research use only; not a medical device.
exit status: 0 written, 2 nothing could be

Presets name foci by their longest diameter, and say "below resolution" where the run's patches are too
large to tell:
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "cohort",
        help="one table and one page of all slides of a run: areas, foci, scores, ranks",
        description=_DESCRIPTION,
        epilog=_EPILOG + "\n".join(f"  {preset}" for preset in PRESETS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run_folder", metavar="OUT", type=Path, help="the results folder of a run")
    add("--report", action="store_true", help="also write OUT/report.html")
    add(
        "--threshold",
        metavar="F",
        type=_threshold,
        default=DEFAULT_THRESHOLD,
        help="probability from which a patch or a place counts as the class (default 0.5); "
        "auto is 0.5 and --score-threshold auto",
    )
    add(
        "--score-threshold",
        metavar="F",
        type=_threshold,
        help="score from which a slide counts as positive (default: --threshold); auto: the one that "
        "separates the labels best, cross-validated",
    )
    add(
        "--labels",
        metavar="CSV",
        type=Path,
        help="what is known of the slides (default: the manifest's labels)",
    )
    add("--preset", choices=PRESETS, help="name foci by their size")
    add("--class", metavar="NAME", dest="class_name", help="class to rank by (default: the run's)")
    add("-v", "--verbose", action="count", default=0, help="say more (twice: everything)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0."""
    from wsi_cam.cli.stage_progress import StageProgress
    from wsi_cam.cohort.gathering import gather_cohort
    from wsi_cam.cohort.labels import read_labels
    from wsi_cam.cohort.tables import write_tables
    from wsi_cam.errors import SettingsError
    from wsi_cam.run_folder import RunFolder

    folder = RunFolder(args.run_folder)
    threshold, score_threshold = args.threshold, args.score_threshold
    if threshold == "auto":
        if score_threshold not in (None, "auto"):
            raise SettingsError("--threshold auto and --score-threshold F: give one of them")
        threshold, score_threshold = DEFAULT_THRESHOLD, "auto"
    preset = PRESETS[args.preset] if args.preset else None
    labels = read_labels(args.labels) if args.labels else None
    with StageProgress() as progress:
        cohort = gather_cohort(
            folder,
            threshold,
            score_threshold,
            labels,
            preset,
            args.class_name,
            progress=lambda done, total: progress("slides", done, total, None),
        )
        written = write_tables(folder.path, cohort)
        if args.report:
            from wsi_cam.cohort.report.page import write_report

            pictures = lambda done, total: progress("pictures", done, total, None)  # noqa: E731
            written.append(write_report(folder, cohort, progress=pictures))
    for remark in cohort.remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(_said(cohort))
    for path in written:
        print(path)
    return 0


def _said(cohort: Cohort) -> str:
    """The outcome in a few words."""
    measured, positive = cohort.measured, sum(slide.positive is True for slide in cohort.slides)
    text = f"{len(measured)} of {len(cohort.slides)} slides measured at a threshold of {cohort.threshold:.3g}"
    if cohort.choice is None:
        text += f"; the score of {positive} reaches {cohort.score_threshold:.3g}"
    else:
        text += (
            f"; for the scores of new slides the threshold is {cohort.score_threshold:.3g} "
            f"({cohort.choice.rule}); {positive} of these are positive, each labelled one by a threshold "
            f"that was chosen without it (sensitivity {cohort.choice.sensitivity:.2f}, specificity "
            f"{cohort.choice.specificity:.2f})"
        )
    if cohort.without_numbers:
        text += f"; {len(cohort.without_numbers)} without numbers, the table says why"
    return text


def _threshold(text: str) -> float | str:
    """A probability, or ``auto``."""
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability between 0 and 1, and not auto")
    return value
