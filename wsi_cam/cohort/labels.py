"""What is known of slides beforehand: ``labels.csv``, and which of its words mean that a class is there."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from wsi_cam.errors import SettingsError

#: Names of the column that says which slide a row is about; the first one that is there counts.
NAME_COLUMNS = ("sample_id", "image_path", "slide", "image", "name")
YES, NO = ("1", "true", "yes", "positive", "pos"), ("0", "false", "no", "negative", "neg", "none")
#: Words that say yes or no of a class that is a disease.
DISEASE = ("tumour", "tumor", "cancer", "malignant", "metastasis", "itc", "micro", "macro")
HEALTHY = ("normal", "benign", "healthy")

Known = TypeVar("Known")


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


def assign_to_slides(
    slides: Iterable[tuple[str, str]], known: Mapping[str, Known]
) -> tuple[dict[str, Known], list[str]]:
    """What is ``known`` by name, by sample id, for slides given as (sample id, image path); and left names.

    A name is a sample id before it is a file's name; a file's name that two slides share belongs to neither.
    """
    slides = list(slides)
    ids = {sample_id for sample_id, _ in slides}
    owners_of: dict[str, list[str]] = {}
    for sample_id, image_path in slides:
        for name in set(slide_names(sample_id, image_path)):
            owners_of.setdefault(name, []).append(sample_id)
    assigned: dict[str, Known] = {}
    left = []
    for name in sorted(known, key=lambda name: name not in ids):
        owners = [name] if name in ids else owners_of.get(name, [])
        if len(owners) == 1 and owners[0] not in assigned:
            assigned[owners[0]] = known[name]
        else:
            left.append(name)
    return assigned, sorted(left)


def is_positive(label: str, class_name: str, other_classes: Collection[str] = ()) -> bool:
    """Whether a label says that ``class_name`` is there: in any case of letters, the class itself, a word of
    YES, or one of DISEASE where the class is that.

    ``other_classes`` are those that the model also knows: as labels they say no. Words of DISEASE speak for
    a class among several only where it bears such a name, and against a class with a name of HEALTHY.
    Raises SettingsError for a word that could mean either.
    """
    word, name = label.strip().casefold(), class_name.casefold()
    others = {other.casefold() for other in other_classes} - {name}
    if word == name or word in YES:
        return True
    if word in others or word in NO:
        return False
    if name in HEALTHY and word in DISEASE:
        return False
    stands_for_disease = name in DISEASE or (len(others) <= 1 and not others.intersection(DISEASE))
    if name not in HEALTHY and stands_for_disease and word in (*DISEASE, *HEALTHY):
        return word in DISEASE
    raise SettingsError(
        f"label {label!r}: does it mean that {class_name} is there? Write {class_name}, or one of "
        f"{', '.join(YES)} against {', '.join(NO)}; of a disease also {', '.join(DISEASE)} against "
        f"{', '.join(HEALTHY)}"
    )
