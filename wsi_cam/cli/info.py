"""``wsi-cam info``: what a slide file says of itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "info",
        help="size, levels, spacing and reader of a slide",
        description="Show what a slide says of itself and which reader takes it.",
    )
    parser.add_argument("slide", metavar="SLIDE", type=Path, help="a slide's file")
    parser.add_argument("--reader", metavar="NAME", default="auto", help="auto (default), tiff or openslide")
    parser.add_argument("--series", metavar="N", type=int, help="image of a file that holds several")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from wsi_cam.slides.opening import open_slide

    with open_slide(args.slide, reader=args.reader, series=args.series) as slide:
        info = slide.info
    if args.json:
        print(json.dumps(info.as_dict(), indent=2, allow_nan=False))
        return 0
    mpp = f"{info.mpp.x:g} x {info.mpp.y:g} um/px ({info.mpp_source})" if info.mpp else "unknown; give --mpp"
    box = info.bounds
    rows = {
        "slide": str(info.path),
        "reader": f"{info.reader} (vendor {info.vendor})",
        "size": f"{info.size.width} x {info.size.height} px",
        "spacing": mpp,
        "objective": f"{info.objective_power:g}x" if info.objective_power else "unknown",
        "bounds": f"{box.x:g}, {box.y:g}, {box.width:g} x {box.height:g} px" if box else "whole image",
        "associated": ", ".join(info.associated_images) or "none",
        "ICC profile": "yes" if info.has_icc_profile else "no",
    }
    for name, value in rows.items():
        print(f"{name:12} {value}")
    for number, level in enumerate(info.levels):
        tile = f", tiles {level.tile_size.width} x {level.tile_size.height}" if level.tile_size else ""
        print(
            f"{f'level {number}':12} {level.size.width} x {level.size.height} px,"
            f" downsample {level.to_level0.scale_x:g}{tile}"
        )
    return 0
