"""``wsi-cam run``: slides in, a results folder out."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_cam.export.formats import FORMATS

if TYPE_CHECKING:
    from wsi_cam.batch import BatchResult
    from wsi_cam.settings import RunSettings

_DESCRIPTION = """\
Tile each slide, classify its tissue patches, keep Grad-CAM for every patch and class, and write
heatmaps, tables and QuPath files into OUT/slides/<sample_id>/.

INPUT is a slide (.svs, .ndpi, .mrxs, .tif, .dcm ...), a folder that is searched for slides, a
pattern such as 'slides/**/*.svs', or a manifest: a .csv with the column image_path and, where known,
sample_id, mpp, mask_path, patient_id, label. A slide may be a URL (https://host/a.svs, s3://bucket/b.tif),
here and in a manifest: it is copied into OUT for as long as it is worked on (pip install 'wsi-cam[remote]').

A slide that fails is recorded with its reason in OUT/process_list.csv, and the next one goes on: slides
are read in a process of their own, which may crash. Stopped (Ctrl-C) or killed at any moment, the same
command goes on where it was; several runs may share one OUT. Slides that are done are left alone. Where
they were made with another model, other settings or from another file they are stale: --update computes
those again.

  wsi-cam run slide.svs -o results
  wsi-cam run slides/ -o results --model my_bundle --overlap 0.5
  wsi-cam run scan.tif -o results --mpp 0.25 --tissue regions.geojson
"""

_EPILOG = """\
exit status: 0 all slides are done; 1 some failed or are stale (see OUT/process_list.csv), or results
could be written no longer (disk full, permission lost); 2 nothing could start; 130 stopped by Ctrl-C,
143 by SIGTERM
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run",
        help="heatmaps for slides, folders of slides or a manifest",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="slide, folder, pattern, URL or manifest.csv"
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="results folder")
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that ``demo`` takes as well. None means: what the configuration file or the default says."""
    add = parser.add_argument
    add(
        "--model",
        metavar="BUNDLE",
        type=Path,
        help="model bundle folder (default: the bundled lymph-node model)",
    )
    add("--mpp", metavar="F", type=float, help="spacing of level 0 in um/px, in place of what the slides say")
    add(
        "--overlap",
        metavar="F",
        type=float,
        help="fraction of a patch shared with its neighbour, 0 to <1, rounded up to whole heatmap cells "
        "(default: the model's; a third for the bundled one)",
    )
    add(
        "--tissue",
        metavar="FILE",
        type=Path,
        help="in place of the tissue finder: GeoJSON polygons in px from the corner of level 0, or a mask "
        "of the whole slide as PNG or TIFF",
    )
    add("--min-tissue", metavar="F", type=float, help="least tissue share of a patch (default 0.1)")
    add("--target-layer", metavar="NAME", help="layer that Grad-CAM explains (default layer4)")
    add("--target-class", metavar="NAME", help="class of slide score and overview (default: the model's)")
    add(
        "--heatmap-mpp",
        metavar="F",
        type=float,
        help="pixel spacing of the heatmap (default: the layer's cells)",
    )
    add("--batch-size", metavar="N", type=int, help="patches per pass (default: by device)")
    add(
        "--num-workers",
        metavar="N",
        type=int,
        help="reading threads; 0 reads between passes (default: by cores)",
    )
    add("--device", metavar="NAME", help="auto (default), cuda, cuda:1, mps or cpu")
    add("--reader", metavar="NAME", help="auto (default), tiff or openslide")
    add("--series", metavar="N", type=int, help="image of a file that holds several")
    add("--ngff", metavar="V", choices=("0.4", "0.5"), help="OME-Zarr version: 0.4 (default; QuPath) or 0.5")
    add("--top-patches", metavar="N", type=int, help="pictures of the N top patches per class (default 3)")
    add(
        "--export",
        metavar="FORMAT",
        nargs="+",
        choices=FORMATS,
        help=f"files beside the heatmaps, of {', '.join(FORMATS)} (default: qupath ome-tiff png csv)",
    )
    add(
        "--config",
        metavar="FILE",
        type=Path,
        help="TOML file with any of these settings (docs/inputs.md); options win over it",
    )
    add(
        "--max-unread",
        metavar="F",
        type=float,
        help="share of unreadable patches above which a slide fails (default 0.1)",
    )
    _add_batch_options(parser)
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="count", default=0, help="say more (twice: everything)")
    volume.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def _add_batch_options(parser: argparse.ArgumentParser) -> None:
    """How the slides of a run are gone through; nothing of this changes a result."""
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--update", action="store_true", help="compute slides again that are stale")
    again.add_argument("--force", action="store_true", help="compute all slides again")
    again.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add = parser.add_argument
    add(
        "--stall-timeout",
        metavar="TIME",
        type=duration_s,
        default=600.0,
        help="give up a slide when nothing happens for so long: 90s, 10m, 2h, or none (default 10m)",
    )
    add(
        "--slide-timeout",
        metavar="TIME",
        type=duration_s,
        help="give up a slide that takes longer (default none)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--in-process",
        action="store_true",
        help="read slides in this process, for a debugger: a crash then ends the run",
    )
    where.add_argument(
        "--cluster",
        metavar="WHERE",
        help="workers of Dask: local:N, tcp://host:port or a scheduler file (see docs/cluster.md)",
    )


def duration_s(text: str) -> float | None:
    """Seconds of ``90``, ``90s``, ``10m`` or ``2h``; None of ``none``."""
    if text == "none":
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give 90s, 10m, 2h or none")
    return seconds


_NOT_SETTINGS = {
    "inputs", "output", "config", "update", "force", "dry_run", "stall_timeout", "slide_timeout",
    "in_process", "cluster", "verbose", "quiet", "run", "slide",
}  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Exit status as the help says."""
    from wsi_cam.settings import read_settings

    given = {name: value for name, value in vars(args).items() if name not in _NOT_SETTINGS}
    if given.get("export"):
        given["export"] = tuple(given["export"])
    settings = read_settings(args.config, given)
    return _show_plan(args, settings) if args.dry_run else _run_batch(args, settings)


def _run_batch(args: argparse.Namespace, settings: RunSettings) -> int:
    from wsi_cam.batch import Stop, run_batch
    from wsi_cam.cli.progress import TerminalProgress
    from wsi_cam.cli.signals import stopped_by_signals
    from wsi_cam.errors import OutputError, one_line

    stop = Stop()
    with stopped_by_signals(stop) as signals, TerminalProgress(quiet=args.quiet) as progress:
        progress.waiting("loading the model")
        try:
            result = run_batch(
                args.inputs,
                args.output,
                settings,
                redo="all" if args.force else "stale" if args.update else "missing",
                stall_timeout_s=args.stall_timeout,
                slide_timeout_s=args.slide_timeout,
                in_process=args.in_process,
                cluster=args.cluster,
                progress=progress,
                stop=stop,
            )
        except OutputError as error:
            if not progress.any_started:
                raise
            print(f"wsi-cam: {one_line(error)}", file=sys.stderr)
            return 1
    if result.outcomes:
        progress.note(f"{_summary(result)}; results in {args.output}")
    if result.interrupted:
        where = result.interrupted.removesuffix("; the same command goes on from there")
        print(f"wsi-cam: {where}; the same command goes on from here", file=sys.stderr)
        return signals.exit_status
    return 0 if result.all_done else 1


def _summary(result: BatchResult) -> str:
    counts = result.counts
    said = [f"{counts['done']} done, {counts['failed']} failed"]
    if counts["stale"]:
        said.append(f", {counts['stale']} stale (--update computes them again)")
    if counts["skipped"]:
        said.append(f", {counts['skipped']} done before")
    device = sum(outcome.device_waited_s for outcome in result.outcomes)
    reading = sum(outcome.reading_waited_s for outcome in result.outcomes)
    if counts["done"]:
        said.append(
            f"; the network waited {device:.1f} s for reading, reading {reading:.1f} s for the network"
        )
    return "".join(said)


def _show_plan(args: argparse.Namespace, settings: RunSettings) -> int:
    """Print the state of each slide, and what a run would do. Exit status 0."""
    from wsi_cam.batch import plan_batch

    plan = plan_batch(args.inputs, args.output, settings, in_process=args.in_process)
    for task, state in plan:
        note = f": {state.note}" if state.note else ""
        text = " ".join(f"{task.sample_id}: {state.kind}{note}  ({task.path})".splitlines())
        print(text.encode("utf-8", "backslashreplace").decode())
    counts = Counter(state.kind for _, state in plan)
    n_wanted = sum(state.is_wanted("missing") for _, state in plan)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    updated = f", with --update on {n_wanted + counts['stale']}" if counts["stale"] else ""
    print(f"{kinds}; a run would work on {n_wanted}{updated}")
    return 0
