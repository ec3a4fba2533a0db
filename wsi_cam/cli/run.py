"""``wsi-cam run``: slides in, a results folder out."""

from __future__ import annotations

import argparse
from pathlib import Path

from wsi_cam.export.formats import FORMATS

_DESCRIPTION = """\
Tile each slide, classify its tissue patches, keep Grad-CAM for every patch and class, and write
heatmaps, tables and QuPath files into OUT/slides/<sample_id>/.

INPUT is a slide (.svs, .ndpi, .mrxs, .tif, .dcm ...), a folder that is searched for slides, or a
manifest: a .csv with the column image_path and, where known, sample_id, mpp, mask_path.
Slides that OUT already holds are skipped; --force computes them again.

  wsi-cam run slide.svs -o results
  wsi-cam run slides/ -o results --model my_bundle --overlap 0.5
  wsi-cam run scan.tif -o results --mpp 0.25 --tissue regions.geojson
"""

_EPILOG = """\
exit status: 0 all slides done, 1 some failed (see OUT/process_list.csv), 2 nothing could start
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run",
        help="heatmaps for slides, folders of slides or a manifest",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", type=Path, help="slide, folder or manifest.csv")
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
    add("--overlap", metavar="F", type=float, help="fraction of a patch shared with its neighbour, 0 to <1")
    add(
        "--tissue",
        metavar="FILE",
        type=Path,
        help="GeoJSON polygons (level-0 px) in place of the tissue finder",
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
        help="TOML file with any of these settings; options win over it",
    )
    add("--force", action="store_true", help="compute slides again that are already done")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="count", default=0, help="say more (twice: everything)")
    volume.add_argument("-q", "--quiet", action="store_true", help="print errors only")


_NOT_SETTINGS = {"inputs", "output", "config", "force", "verbose", "quiet", "run", "slide"}


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 where a slide failed."""
    from wsi_cam.batch import run_batch
    from wsi_cam.cli.progress import TerminalProgress
    from wsi_cam.settings import read_settings

    given = {name: value for name, value in vars(args).items() if name not in _NOT_SETTINGS}
    if given.get("export"):
        given["export"] = tuple(given["export"])
    settings = read_settings(args.config, given)
    with TerminalProgress(quiet=args.quiet) as progress:
        rows = run_batch(args.inputs, args.output, settings, force=args.force, progress=progress)
    failed = sum(row.status == "failed" for row in rows)
    if not args.quiet:
        done = sum(row.status == "done" for row in rows)
        skipped = len(rows) - done - failed
        already = f", {skipped} done before (--force computes them again)" if skipped else ""
        print(f"{done} done, {failed} failed{already}; results in {args.output}")
    return 1 if failed else 0
