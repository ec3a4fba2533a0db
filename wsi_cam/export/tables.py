"""What is known of every patch of a slide, and the table that any program opens.

``patches.csv`` begins with the columns of WSInfer (``minx,miny,width,height,prob_<Class>``, level-0
pixels); ours follow them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import OutputError
from wsi_cam.export.number_text import coordinate_texts, float_texts
from wsi_cam.publishing import published

#: Status of a patch that was read and classified; any other status says why it was not.
OK = "ok"

PROBABILITY = "prob_"
EVIDENCE_MAX = "evidence_max_"
EVIDENCE_MEAN = "evidence_mean_"
_PLACE_COLUMNS = ("minx", "miny", "width", "height")
_ROWS_AT_A_TIME = 8192


@dataclass(frozen=True, eq=False)
class PatchTable:
    """Patches of one slide in plan order; n patches, c classes.

    Numbers of patches that could not be read are NaN.
    """

    class_names: tuple[str, ...]
    level0_xy: NDArray[np.float64]
    """(n, 2): x and y of the upper left corners in level-0 pixels."""
    patch_level0: tuple[float, float]
    """Width and height of every patch in level-0 pixels."""
    probabilities: NDArray[np.float32]
    """(n, c), calibrated, 0 to 1."""
    evidence_max: NDArray[np.float32]
    """(n, c), the highest signed evidence in the patch, in logits."""
    evidence_mean: NDArray[np.float32]
    """(n, c), the mean signed evidence of the patch, in logits."""
    tissue_fraction: NDArray[np.float32]
    """(n,), 0 to 1."""
    status: NDArray[np.str_]
    """(n,), ``ok`` or the reason why the patch has no numbers (``unread``)."""

    def __post_init__(self) -> None:
        n, classes = len(self.level0_xy), len(self.class_names)
        expected = {
            "level0_xy": (n, 2),
            "probabilities": (n, classes),
            "evidence_max": (n, classes),
            "evidence_mean": (n, classes),
            "tissue_fraction": (n,),
            "status": (n,),
        }
        for name, shape in expected.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name} has shape {np.shape(getattr(self, name))}, {shape} was expected")

    def __len__(self) -> int:
        return len(self.level0_xy)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(n,): the patches that were read and classified."""
        result: NDArray[np.bool_] = np.asarray(self.status) == OK
        return result

    def columns(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Name and values (n,) of each number of the classifier, in the order of ``patches.csv``."""
        for prefix, values in (
            (PROBABILITY, self.probabilities),
            (EVIDENCE_MAX, self.evidence_max),
            (EVIDENCE_MEAN, self.evidence_mean),
        ):
            for index, class_name in enumerate(self.class_names):
                yield prefix + class_name, values[:, index]


def write_patches_csv(path: Path, table: PatchTable) -> Path:
    """Write ``table`` as CSV (RFC 4180 quoting, lines end in a line feed); gives ``path`` back.

    Columns: ``minx,miny,width,height`` in level-0 pixels (integers, or rounded to 0.01),
    ``prob_<Class>``..., ``status``, ``tissue_fraction``, ``evidence_max_<Class>``...,
    ``evidence_mean_<Class>``.... A missing number is an empty field; the others read back as the same
    float32. Raises OutputError where the file cannot be written.
    """
    numbers = dict(table.columns())
    names = list(numbers)
    probabilities = names[: len(table.class_names)]
    evidence = names[len(table.class_names) :]
    width, height = coordinate_texts(np.array(table.patch_level0))
    with published(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_PLACE_COLUMNS, *probabilities, "status", "tissue_fraction", *evidence])
        for start in range(0, len(table), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            count = len(table.level0_xy[rows])
            writer.writerows(
                zip(
                    coordinate_texts(table.level0_xy[rows, 0]),
                    coordinate_texts(table.level0_xy[rows, 1]),
                    [width] * count,
                    [height] * count,
                    *(float_texts(numbers[name][rows]) for name in probabilities),
                    table.status[rows].tolist(),
                    float_texts(table.tissue_fraction[rows]),
                    *(float_texts(numbers[name][rows]) for name in evidence),
                    strict=True,
                )
            )
    return path


def read_patches_csv(path: Path) -> PatchTable:
    """The table that ``write_patches_csv`` wrote; coordinates come back rounded to 0.01 px.

    A table without rows has patches of size (0, 0). Raises OutputError naming the file, and the line
    where there is one, if it cannot be read or is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            class_names = _class_names(header)
            numbers, status = _parsed(file.readlines(), header)
    except (OSError, ValueError, csv.Error) as error:
        raise OutputError(f"{path}: not a patch table of wsi_cam ({error}); run the slide again") from error

    def matrix(prefix: str) -> NDArray[np.float32]:
        wanted = [header.index(prefix + name) for name in class_names]
        return numbers[:, wanted].astype(np.float32)

    place = numbers[:, [header.index(name) for name in _PLACE_COLUMNS]]
    return PatchTable(
        class_names=class_names,
        level0_xy=place[:, :2],
        patch_level0=(float(place[0, 2]), float(place[0, 3])) if len(place) else (0.0, 0.0),
        probabilities=matrix(PROBABILITY),
        evidence_max=matrix(EVIDENCE_MAX),
        evidence_mean=matrix(EVIDENCE_MEAN),
        tissue_fraction=numbers[:, header.index("tissue_fraction")].astype(np.float32),
        status=status,
    )


def _class_names(header: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.removeprefix(PROBABILITY) for name in header if name.startswith(PROBABILITY))
    needed = {*_PLACE_COLUMNS, "status", "tissue_fraction"}
    needed |= {prefix + name for prefix in (EVIDENCE_MAX, EVIDENCE_MEAN) for name in names}
    missing = sorted(needed - set(header))
    if missing or not names:
        raise ValueError(f"columns are missing: {', '.join(missing or [PROBABILITY + '<Class>'])}")
    return names


def _parsed(lines: list[str], header: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """All fields as numbers (rows, columns), NaN where empty; and the statuses (rows,), kept apart."""
    at = header.index("status")
    others = [column for column in range(len(header)) if column != at]
    numbers = np.full((len(lines), len(header)), np.nan)
    if not lines:
        return numbers, np.empty(0, np.str_)
    try:
        # Five times as fast as row by row, but it knows no empty fields.
        columns = np.loadtxt(lines, delimiter=",", quotechar='"', comments=None, usecols=others, ndmin=2)
        status = np.loadtxt(
            lines, np.str_, delimiter=",", quotechar='"', comments=None, usecols=[at], ndmin=1
        )
    except ValueError:
        return _row_by_row(lines, header)
    numbers[:, others] = columns
    return numbers, status


def _row_by_row(lines: list[str], header: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """What :func:`_parsed` gives, where fields are empty, or an error that says which line is at fault."""
    at = header.index("status")
    status: list[str] = []
    blocks: list[NDArray[np.float64]] = []
    rows: list[list[float]] = []
    for line, row in enumerate(csv.reader(lines), start=2):
        if len(row) != len(header):
            raise ValueError(f"line {line} has {len(row)} fields, {len(header)} were expected")
        status.append(row[at])
        row[at] = ""
        try:
            rows.append([float(field) if field else np.nan for field in row])
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from error
        if len(rows) == _ROWS_AT_A_TIME:
            blocks.append(np.array(rows))
            rows = []
    blocks.append(np.array(rows, dtype=np.float64).reshape(len(rows), len(header)))
    return np.concatenate(blocks), np.array(status, dtype=np.str_)
