"""The numbers of a cohort for other programs: ``cohort.csv``, ``cohort.parquet``, ``cohort_patients.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wsi_cam.cohort.gathering import Cohort, SlideSummary
from wsi_cam.export.optional_packages import optional_package
from wsi_cam.publishing import published

#: A value of a table; None is an empty field.
Value = str | int | float | bool | None

#: Columns of ``cohort.csv`` and what they hold; the units are in the names.
COLUMNS: dict[str, type] = {
    "rank": int,
    "sample_id": str,
    "patient_id": str,
    "label": str,
    "status": str,
    "reason": str,
    "slide_score": float,
    "score_threshold": float,
    "positive": bool,
    "class": str,
    "is_target": bool,
    "threshold": float,
    "prob_top10_mean": float,
    "area_mm2": float,
    "share_of_tissue": float,
    "tissue_mm2": float,
    "prob_max": float,
    "prob_p99": float,
    "patches_above": int,
    "foci": int,
    "foci_mm2": float,
    "largest_focus_mm2": float,
    "largest_focus_diameter_mm": float,
    "longest_diameter_mm": float,
    "size_class": str,
    "resolution_mm": float,
    "patches": int,
    "unread": int,
    "unread_share": float,
    "image_path": str,
}
PATIENT_COLUMNS: dict[str, type] = {
    "patient_id": str,
    "slides": int,
    "without_numbers": int,
    "worst_slide": str,
    "score": float,
    "rank": int,
    "positive_slides": int,
    "class": str,
    "area_mm2": float,
    "tissue_mm2": float,
    "share_of_tissue": float,
    "foci": int,
    "longest_diameter_mm": float,
    "size_class": str,
    "labels": str,
}


def write_tables(folder: Path, cohort: Cohort) -> list[Path]:
    """Write the tables into ``folder``; gives the files, each of which appears whole or not at all.

    The Parquet file is written where pyarrow is installed, that of patients where a manifest named some. What
    an earlier call left and this one does not write is removed. Raises OutputError.
    """
    rows = [row for slide in cohort.slides for row in class_rows(slide, cohort.threshold)]
    written = [_write_csv(folder / "cohort.csv", COLUMNS, rows)]
    parquet, patients = folder / "cohort.parquet", folder / "cohort_patients.csv"
    if find_spec("pyarrow"):
        written.append(_write_parquet(parquet, COLUMNS, rows))
    else:
        parquet.unlink(missing_ok=True)
    if by_patient := list(patient_rows(cohort)):
        written.append(_write_csv(patients, PATIENT_COLUMNS, by_patient))
    else:
        patients.unlink(missing_ok=True)
    return written


def class_rows(slide: SlideSummary, threshold: float) -> Iterator[dict[str, Value]]:
    """A row of ``cohort.csv`` per class, the target class first; one row for a slide without numbers."""
    of_slide: dict[str, Value] = {
        "rank": slide.rank,
        "sample_id": slide.sample_id,
        "patient_id": slide.patient_id,
        "label": slide.label,
        "status": slide.status,
        "reason": slide.reason,
        "slide_score": slide.score,
        "score_threshold": slide.score_threshold,
        "positive": slide.positive,
        "image_path": slide.image_path,
    }
    numbers = slide.numbers
    if numbers is None:
        yield of_slide
        return
    of_slide |= {
        "tissue_mm2": numbers.tissue_mm2,
        "resolution_mm": numbers.resolution_mm,
        "patches": numbers.patches,
        "unread": numbers.unread,
        "unread_share": numbers.unread_share,
    }
    for name in sorted(numbers.classes, key=lambda name: name != slide.target_class):
        of_class, foci = numbers.classes[name], numbers.classes[name].foci
        yield {
            **of_slide,
            "class": name,
            "is_target": name == slide.target_class,
            "threshold": threshold,
            "prob_top10_mean": of_class.score,
            "area_mm2": of_class.area_mm2,
            "share_of_tissue": numbers.share_of_tissue(name),
            "prob_max": of_class.probability_max,
            "prob_p99": of_class.probability_p99,
            "patches_above": of_class.patches_above,
            "foci": foci.count,
            "foci_mm2": foci.area_mm2,
            "largest_focus_mm2": foci.largest[0].area_mm2 if foci.count else None,
            "largest_focus_diameter_mm": foci.largest[0].diameter_mm if foci.count else None,
            "longest_diameter_mm": foci.longest_diameter_mm if foci.count else None,
            "size_class": slide.size_class if name == slide.target_class else "",
        }


def patient_rows(cohort: Cohort) -> Iterator[dict[str, Value]]:
    """A row per patient that the manifest named and per target class of its slides; worst patients first.

    Areas of different classes are never added up. Slides without numbers count in each row of their patient.
    Patients whose slides all failed come last, with one row.
    """
    patients: dict[str, list[SlideSummary]] = {}
    for slide in cohort.slides:  # in the order of ranks, so the first slide of a patient is its worst
        if slide.patient_id:
            patients.setdefault(slide.patient_id, []).append(slide)
    for slides in patients.values():
        for class_name in dict.fromkeys(s.target_class for s in slides if s.numbers is not None) or ("",):
            yield _patient_row([s for s in slides if s.numbers is None or s.target_class == class_name])


def _patient_row(slides: Sequence[SlideSummary]) -> dict[str, Value]:
    """The worst of a patient's slides and sums over all; those with numbers are of one class, and first."""
    worst = slides[0]
    targets = [(s.target, s.numbers) for s in slides if s.target is not None and s.numbers is not None]
    row: dict[str, Value] = {
        "patient_id": worst.patient_id,
        "slides": len(slides),
        "without_numbers": len(slides) - len(targets),
        "labels": "; ".join(sorted({s.label for s in slides if s.label})),
    }
    if not targets:
        return row
    area = math.fsum(target.area_mm2 for target, _ in targets)
    tissue = math.fsum(numbers.tissue_mm2 for _, numbers in targets)
    longest = max((s for s in slides if s.target is not None), key=_longest_diameter_mm)
    return row | {
        "worst_slide": worst.sample_id,
        "score": worst.score,
        "rank": worst.rank,
        "positive_slides": sum(s.positive is True for s in slides),
        "class": worst.target_class,
        "area_mm2": area,
        "tissue_mm2": tissue,
        "share_of_tissue": min(1.0, area / tissue),
        "foci": sum(target.foci.count for target, _ in targets),
        "longest_diameter_mm": _longest_diameter_mm(longest) or None,
        "size_class": longest.size_class,
    }


def _longest_diameter_mm(slide: SlideSummary) -> float:
    return slide.target.foci.longest_diameter_mm if slide.target else 0.0


def _write_csv(path: Path, columns: dict[str, type], rows: Sequence[dict[str, Value]]) -> Path:
    # Names of files need not be text that UTF-8 can say; they come back as they were.
    with (
        published(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(row.get(name)) for name in columns] for row in rows)
    return path


def _text(value: Value) -> str:
    """Six digits are more than any of these numbers has."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write_parquet(path: Path, columns: dict[str, type], rows: Sequence[dict[str, Value]]) -> Path:
    arrow = optional_package("pyarrow", "parquet")
    writer = optional_package("pyarrow.parquet", "parquet")
    kinds: dict[type, Any] = {
        str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(),
    }  # fmt: skip

    def value(row: dict[str, Value], name: str) -> Value:
        content = row.get(name)
        # Arrow's text is UTF-8 without exception.
        return content.encode("utf-8", "replace").decode() if isinstance(content, str) else content

    arrays = {
        name: arrow.array([value(row, name) for row in rows], type=kinds[kind])
        for name, kind in columns.items()
    }
    with published(path) as partial:
        writer.write_table(arrow.table(arrays), partial, compression="zstd")
    return path
