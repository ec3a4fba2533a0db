"""A CSV of annotated slides: which slide, whose annotations, what belongs together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsi_cam.errors import DataError
from wsi_cam.training.patches import SPLIT_WORDS, read_rows

_SLIDE_COLUMNS = ("image_path", "wsi", "slide")
_ANNOTATION_COLUMNS = ("annotations", "annotation_path")
_GROUP_COLUMNS = ("group", "patient_id", "sample_id")


@dataclass(frozen=True)
class AnnotatedSlide:
    """One row of the manifest. ``group`` is what must stay together: the slide where none is given."""

    image_path: Path
    annotations: Path
    mpp: float | None
    group: str
    split: str | None


def is_slide_manifest(path: Path) -> bool:
    """Whether a file is a CSV whose header names slides and annotations."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = {name.strip() for name in file.readline().split(",")}
    return any(name in header for name in _SLIDE_COLUMNS) and any(
        name in header for name in _ANNOTATION_COLUMNS
    )


def read_slide_manifest(path: Path) -> list[AnnotatedSlide]:
    """The rows of ``image_path,annotations[,mpp][,group][,split]``, paths relative to the manifest.

    Raises DataError for empty cells and files that are not there.
    """
    rows = read_rows(path, required=())
    header = set(rows[0]) if rows else set()
    slide_column = next((c for c in _SLIDE_COLUMNS if c in header), None)
    annotation_column = next((c for c in _ANNOTATION_COLUMNS if c in header), None)
    if slide_column is None or annotation_column is None:
        raise DataError(f"{path}: no rows; expected image_path,annotations[,mpp][,group][,split]")
    group_column = next((c for c in _GROUP_COLUMNS if c in header), None)
    slides = []
    for number, row in enumerate(rows, start=2):
        for column in (slide_column, annotation_column, group_column, "split" if "split" in header else None):
            if column is not None and not row[column]:
                raise DataError(f"{path}, line {number}: empty {column}; fill it")
        for column in (slide_column, annotation_column):
            if not (path.parent / row[column]).exists():
                raise DataError(f"{path}, line {number}: {row[column]} is not there; correct the path")
        if row.get("split", "train") not in SPLIT_WORDS:
            raise DataError(f"{path}, line {number}: split {row['split']!r}; one of {', '.join(SPLIT_WORDS)}")
        slides.append(
            AnnotatedSlide(
                image_path=path.parent / row[slide_column],
                annotations=path.parent / row[annotation_column],
                mpp=_spacing(row.get("mpp", ""), path, number),
                group=row[group_column] if group_column else row[slide_column],
                split=row.get("split"),
            )
        )
    return slides


def _spacing(text: str, path: Path, line: int) -> float | None:
    if not text:
        return None
    try:
        spacing = float(text)
    except ValueError:
        spacing = 0.0
    if not 0 < spacing < float("inf"):
        raise DataError(f"{path}, line {line}: mpp {text!r}; give um per pixel, or leave it empty")
    return spacing
