"""``wsi-cam export``: other files of slides that a run has finished, without the model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wsi_cam.export.formats import FORMATS

_DESCRIPTION = """\
Write more files of slides that are done, from the heatmaps and tables that a run stored in OUT.
The model is not needed; the slide only for pictures of it.

"""

_EPILOG = """\
  wsi-cam export results --format asap figure
  wsi-cam export results --format overlay --sample case_7 --mpp 4
  wsi-cam export results --format qupath --class tumour --threshold 0.7 --min-area-mm2 0.05 --force

exit status: 0 all written, 1 something could not be (the rest was), 2 nothing could start
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "export",
        help="QuPath, OME-TIFF, ASAP, tables and figures of slides that are done",
        description=_DESCRIPTION + "\n".join(f"  {name:9} {about}" for name, about in FORMATS.items()),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run_folder", metavar="OUT", type=Path, help="the results folder of a run")
    add(
        "--format",
        metavar="FORMAT",
        nargs="+",
        required=True,
        choices=FORMATS,
        help="one or more of the above",
    )
    add("--sample", metavar="ID", nargs="+", help="slides by their names in OUT/slides (default: all)")
    add(
        "--class",
        metavar="NAME",
        dest="class_name",
        help="class of regions and pictures (default: the run's)",
    )
    add("--threshold", metavar="F", type=float, help="least probability of a region (default 0.5)")
    add("--min-area-mm2", metavar="F", type=float, help="leave out smaller regions (default 0)")
    add(
        "--origin",
        choices=("qupath", "level0"),
        help="where coordinates and rasters begin: at the slide's bounds, as QuPath shows it (default), "
        "or at level 0, for a QuPath that does not crop",
    )
    add("--width", metavar="PX", type=int, help="width of the overview (default 1800)")
    add("--mpp", metavar="F", type=float, help="pixel spacing of the overlay in um (default 2)")
    add("--force", action="store_true", help="replace files that are there already")
    add("-v", "--verbose", action="count", default=0, help="say more (twice: everything)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 where a format of a slide could not be written."""
    from tqdm import tqdm

    from wsi_cam.cli.stage_progress import StageProgress
    from wsi_cam.errors import OutputError, WsiCamError, one_line
    from wsi_cam.export.exporters import existing_files, export
    from wsi_cam.export.optional_packages import require_packages
    from wsi_cam.export.qupath_project import write_qupath_project
    from wsi_cam.export.source import ExportOptions, export_source, finished_samples
    from wsi_cam.run_folder import RunFolder

    folder = RunFolder(args.run_folder)
    names = ("class_name", "threshold", "min_area_mm2", "origin", "width", "mpp")
    given = {name: getattr(args, name) for name in names}
    options = ExportOptions(**{name: value for name, value in given.items() if value is not None})
    sources = [export_source(folder, sample) for sample in args.sample or finished_samples(folder)]
    if not sources:
        raise OutputError(f"{folder.path}: no slide is done; see {folder.process_list.name}")
    # What would stop every slide is said before the first file is written.
    require_packages(args.format)
    for source in sources:
        source.class_name(options)
    present = [path for s in sources for name in args.format for path in existing_files(s, name)]
    if present and not args.force:
        more = f" and {len(present) - 1} more" if len(present) > 1 else ""
        raise OutputError(f"{present[0]}{more}: there already; --force writes anew")
    failed, written, projected = 0, 0, []
    wanted = [(source, name) for source in sources for name in args.format]
    with StageProgress() as progress:
        for number, (source, name) in enumerate(wanted, start=1):
            progress("exporting", number, len(wanted), None)
            try:
                written += len(export(source, name, options, args.force))
            except WsiCamError as error:
                failed += 1
                tqdm.write(f"wsi-cam: {source.sample_id}, {name}: {one_line(error)}", file=sys.stderr)
            else:
                projected += [source] if name == "qupath" else []
    if projected:
        print(f"QuPath project: {write_qupath_project(folder, projected)}")
    missing = f", {failed} could not be written" if failed else ""
    files, slides = "file" if written == 1 else "files", "slide" if len(sources) == 1 else "slides"
    print(f"{written} {files} of {len(sources)} {slides}{missing}; results in {folder.path / 'slides'}")
    return 1 if failed else 0
