"""``wsi-cam evaluate``: a bundle against labelled pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsi_cam.training.metrics import Metrics

_DESCRIPTION = """\
Measure a model bundle on labelled pictures: accuracy, balanced accuracy, macro F1, AUROC of each class
against the rest, calibration error, each with a 95 % bootstrap interval, and the confusion matrix.

DATA is what "wsi-cam train" takes: class folders, a zip of them, or a CSV path,label[,group]. Where it
is the very data that the bundle was made with, its report part is measured, which is what the card's numbers
are from; --part all measures everything, pictures that were fitted on included.

  wsi-cam evaluate my_model valid.zip
  wsi-cam evaluate my_model other_hospital/ --json figures.json
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure a bundle on labelled patches",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument(
        "--groups", metavar="CSV", type=Path, help="path,group: resample groups for the intervals"
    )
    parser.add_argument("--part", choices=("auto", "all", "fit", "report"), default="auto",
                        help="of the bundle's own split (default auto, see above)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures to FILE as well")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto (default), cuda, mps or cpu")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0."""
    from wsi_cam.cli.stage_progress import StageProgress
    from wsi_cam.run_folder import write_json
    from wsi_cam.training.evaluating import evaluate_bundle

    with StageProgress() as progress:
        metrics, part = evaluate_bundle(args.bundle, args.data, args.groups, args.part, args.device, progress)
    print(table_of(metrics, part))
    if args.json is not None:
        write_json(args.json, {"measured_on": part, **metrics.as_dict()})
    return 0


def table_of(metrics: Metrics, part: str) -> str:
    """The figures as lines of text."""
    units = "groups" if metrics.n_units < metrics.n else "pictures"
    lines = [f"{metrics.n} pictures ({part}); 95 % intervals over {metrics.n_units} {units}"]
    lines += [f"  {name.replace('_', ' '):20} {value}" for name, value in metrics.measures.items()]
    if len(metrics.class_names) > 2:
        lines += [f"  {f'auroc {name}':20} {value}" for name, value in metrics.auroc_of.items()]
    width = max(8, *(len(name) for name in metrics.class_names)) + 1
    lines.append("  is \\ taken for".ljust(22) + "".join(name.rjust(width) for name in metrics.class_names))
    for name, row in zip(metrics.class_names, metrics.confusion, strict=True):
        lines.append(f"  {name:20}" + "".join(str(count).rjust(width) for count in row))
    return "\n".join(lines)
