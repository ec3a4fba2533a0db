"""Whether two run folders hold the same to the byte, but for times."""

from __future__ import annotations

import csv
from pathlib import Path

#: Files that hold times, and so differ between equal runs.
_TIMES = {"timing.json", "run.json", "process_list.csv"}
#: Hidden files that belong to a result: metadata of Zarr v2.
_ZARR = {".zgroup", ".zattrs", ".zarray", ".zmetadata"}


def differences(undisturbed: Path, out: Path) -> list[str]:
    """How two run folders differ in more than times, and what is left in ``out`` that should not be."""
    expected, found = _files(undisturbed), _files(out)
    said = [f"{name}: not there" for name in sorted(expected.keys() - found.keys())]
    said += [f"{name}: should not be there" for name in sorted(found.keys() - expected.keys())]
    said += [
        f"{name}: other bytes"
        for name in sorted(expected.keys() & found.keys())
        if Path(name).name not in _TIMES and expected[name].read_bytes() != found[name].read_bytes()
    ]
    if _rows(undisturbed) != _rows(out):
        said.append("process_list.csv: other rows")
    hidden = sorted(str(path.relative_to(out)) for path in out.rglob(".*") if path.name not in _ZARR)
    return said + [f"{name}: left behind" for name in hidden]


def _files(folder: Path) -> dict[str, Path]:
    """Every file of a run but for its logs."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in files.items() if Path(name).parts[0] != "logs"}


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "process_list.csv").open(newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]
