"""What is known of slides beforehand: ``labels.csv``, and which of its words mean that a class is there."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from wsi_cam.errors import SettingsError

#: Names of the column that says which slide a row is about; the first one that is there counts.
NAME_COLUMNS = ("sample_id", "image_path", "slide", "image", "name")
POSITIVE = ("1", "true", "yes", "positive", "pos", "tumour", "tumor", "cancer", "malignant", "metastasis",
            "itc", "micro", "macro")  # fmt: skip
NEGATIVE = ("0", "false", "no", "negative", "neg", "normal", "benign", "healthy", "none")


def read_labels(path: Path) -> dict[str, str]:
    """Labels by the name of the slide as the file gives it: an id, a file name, or a path.

    Columns: ``label`` and ``sample_id`` (or one of NAME_COLUMNS); rows without a label are left out.
    Raises SettingsError, with the line, for a file that says something else.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = {name.strip().lower(): name for name in reader.fieldnames or []}
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path}: the labels cannot be read ({error})") from error
    named = next((columns[name] for name in NAME_COLUMNS if name in columns), None)
    if named is None or "label" not in columns:
        raise SettingsError(
            f"{path}: a header with sample_id and label is wanted, it has {', '.join(columns)}"
        )
    labels: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        name, label = ((row[column] or "").strip() for column in (named, columns["label"]))
        if not name:
            raise SettingsError(f"{path}, line {line}: no name of a slide")
        if label and labels.setdefault(name, label) != label:
            raise SettingsError(f"{path}, line {line}: {name} is called {labels[name]} and {label}")
    return labels


def slide_names(sample_id: str, image_path: str) -> tuple[str, ...]:
    """What a table may call a slide: its id, its path, its file's name, and that without its endings."""
    file_name = Path(image_path).name
    return sample_id, image_path, file_name, Path(file_name).stem, file_name.split(".")[0]


def label_of(labels: Mapping[str, str], sample_id: str, image_path: str) -> str | None:
    """The label of a slide by the first of its names that has one."""
    return next((labels[name] for name in slide_names(sample_id, image_path) if labels.get(name)), None)


def is_positive(label: str, class_name: str) -> bool:
    """Whether a label says that ``class_name`` is there: one of POSITIVE, or the class itself, in any case.

    Raises SettingsError for a word that is in neither list.
    """
    word = label.strip().lower()
    if word in POSITIVE or word == class_name.lower():
        return True
    if word in NEGATIVE:
        return False
    raise SettingsError(
        f"label {label!r}: does it mean that {class_name} is there? Known are {', '.join(POSITIVE)} "
        f"and the class itself, against {', '.join(NEGATIVE)}"
    )
