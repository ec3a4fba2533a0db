"""Which truth belongs to which slide: a folder of annotations and masks, a table of labels, or both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsi_cam.cohort.labels import is_positive, read_labels
from wsi_cam.errors import DataError, SettingsError
from wsi_cam.evaluation.truth import MASK_SUFFIXES, TruthClasses

LABELS_CSV = "labels.csv"
_SUFFIXES = (".geojson.gz", ".geojson", ".json.gz", ".json", ".xml", *MASK_SUFFIXES)
#: Endings of file names that say what a file is, not whose.
_ENDINGS = ("_mask", "_annotations")


@dataclass(frozen=True)
class SlideTruth:
    """What is known of a slide: whether it holds the target (None: its annotations say), and where."""

    label: bool | None
    annotations: Path | None


def find_truth(path: Path, classes: TruthClasses) -> dict[str, SlideTruth]:
    """Truth by the slide's id or file stem, from a folder or a ``labels.csv``.

    A folder holds GeoJSON, ASAP XML or mask TIFFs named after their slides (``_mask`` and ``_annotations``
    behind the name are allowed) and may hold ``labels.csv``: ``sample_id,label``, a label being a class name
    or a word that :func:`is_positive` knows. Raises DataError for what is missing, twice or unknown.
    """
    if path.is_dir():
        files = _annotation_files(path)
        labels = _labels(path / LABELS_CSV, classes) if (path / LABELS_CSV).is_file() else {}
    elif path.suffix.lower() == ".csv" and path.exists():
        files, labels = {}, _labels(path, classes)
    else:
        fault = "neither a folder nor a .csv" if path.exists() else "no such folder or file"
        raise DataError(f"{path}: {fault}; give --truth a folder of annotations or a labels.csv")
    if not files and not labels:
        raise DataError(f"{path}: no truth in it; name annotations after their slides, as case_7.geojson")
    return {name: SlideTruth(labels.get(name), files.get(name)) for name in sorted(files | labels)}


def _annotation_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in _SUFFIXES if file.name.lower().endswith(suffix)), None)
        if suffix is None or file.name.startswith(".") or not file.is_file():
            continue
        stem = file.name[: -len(suffix)]
        for ending in _ENDINGS:
            stem = stem.removesuffix(ending)
        if stem in files:
            raise DataError(f"{file}: a second truth for {stem}, beside {files[stem].name}; keep one")
        files[stem] = file
    return files


def _labels(path: Path, classes: TruthClasses) -> dict[str, bool]:
    try:
        labels = read_labels(path)
    except SettingsError as error:
        raise DataError(str(error)) from error
    said = {}
    for name, text in labels.items():
        try:
            said[name] = _label(text, classes)
        except SettingsError as error:
            raise DataError(f"{path}: {name}, {error}") from error
    return said


def _label(text: str, classes: TruthClasses) -> bool:
    said = classes.known(text)
    return is_positive(text, classes.target[0], classes.others) if said is None else said
