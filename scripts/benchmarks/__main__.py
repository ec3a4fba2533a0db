"""Run parts of the benchmark and keep what they measured.

    scripts/benchmark                    every part (about half an hour on 2 cores)
    scripts/benchmark run scaling        some parts
    scripts/benchmark --quick run        small sizes, to see that it works; nothing is kept

A part alternates what it compares, takes medians, and reports ratios; seconds are there to read, not to
compare between machines. Results go to scripts/benchmarks/results/<name>.json, a part at a time, and from
there into docs/benchmark.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
from pathlib import Path

from scripts.benchmarks.machine import machine
from scripts.benchmarks.report import write_report

PARTS = {
    "start": "start_up",
    "reading": "reading",
    "model": "model",
    "stitching": "stitching",
    "exports": "exports",
    "run": "whole_run",
    "peers": "peers",
    "scaling": "scaling",
    "gpu": "gpu",
    "cohort": "cohort",
    "viewer": "viewer",
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes; results are printed, not kept")
    parser.add_argument(
        "--name", default=f"cpu-{os.cpu_count()}-cores", help="of the results file (default: %(default)s)"
    )
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    path = RESULTS / f"{args.name}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept = {part: kept[part] for part in PARTS if part in kept}  # none of a part that is no more
    for part in args.parts or PARTS:
        module = importlib.import_module(f"scripts.benchmarks.{PARTS[part]}")
        print(f"== {part}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        with tempfile.TemporaryDirectory(prefix="wsi_cam-benchmark-") as work:
            measured = module.measure(Path(work), args.quick)
        if not measured:  # it said why
            continue
        print(json.dumps(measured, indent=2), flush=True)
        kept[part] = {"machine": machine(), **measured}
        if not args.quick:
            RESULTS.mkdir(exist_ok=True)
            path.write_text(json.dumps(kept, indent=2) + "\n")
            write_report(kept, PARTS)


if __name__ == "__main__":
    main()
