"""``process_list.csv``: every slide that a run folder knows, what became of it, and why."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from wsi_cam.errors import OutputError
from wsi_cam.publishing import RUN_AGAIN, published


@dataclass(frozen=True)
class ProcessRow:
    """A line of ``process_list.csv``. Status is ``pending``, ``done`` or ``failed``."""

    sample_id: str
    image_path: str
    status: str
    error: str = ""
    seconds: float = 0.0
    patches: int = 0
    unread: int = 0
    patient_id: str = ""
    """As the manifest names the patient; empty where it does not."""
    label: str = ""
    """As the manifest labels the slide; empty where it does not."""


def read_process_list(path: Path) -> dict[str, ProcessRow]:
    """Rows by sample id; empty where there is no list. Raises OutputError for a damaged one."""
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [
                ProcessRow(
                    sample_id=row["sample_id"],
                    image_path=row["image_path"],
                    status=row["status"],
                    error=row["error"],
                    seconds=float(row["seconds"]),
                    patches=int(row["patches"]),
                    unread=int(row["unread"]),
                    # Lists of older versions have no such columns.
                    patient_id=row.get("patient_id") or "",
                    label=row.get("label") or "",
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{path}: not a process list of wsi_cam ({error!r}); move it away or choose another -o"
        ) from error
    return {row.sample_id: row for row in rows}


def write_process_list(path: Path, rows: Mapping[str, ProcessRow]) -> None:
    """Write the list; it changes as a whole or not at all. Raises OutputError."""
    with (
        published(path, RUN_AGAIN, make_parents=False) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(ProcessRow)])
        writer.writerows(asdict(row).values() for row in rows.values())
