"""Which slides a run is about: slides, folders and manifests become one list with safe, unique ids."""

from __future__ import annotations

import csv
import glob
import hashlib
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_cam.errors import SettingsError
from wsi_cam.slide_url import SlideUrl, folder_name, located
from wsi_cam.slides.opening import SLIDE_SUFFIXES, is_slide

log = logging.getLogger(__name__)

#: Other names under which the field's manifests keep the same columns.
_COLUMN_NAMES = {
    "wsi": "image_path",
    "slide": "image_path",
    "spacing_at_level_0": "mpp",
    "tissue": "mask_path",
    "tissue_mask_path": "mask_path",
}
#: Windows gives these names to devices.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))}
_LONGEST_ID = 120


@dataclass(frozen=True)
class SlideInput:
    """One slide of a run, and what a manifest said of it."""

    path: Path | SlideUrl
    sample_id: str | None = None
    mpp: float | None = None
    mask_path: Path | None = None
    patient_id: str | None = None
    label: str | None = None


def collect_inputs(inputs: Sequence[str | Path]) -> list[SlideInput]:
    """Slides as given, patterns, folders searched in sorted order, ``.csv`` files read as manifests.

    A text may be the URL of a slide: nothing is asked of it here. A pattern (``slides/**/*.svs``) is one
    that the shell has left as it was. No slide comes twice; what a manifest says of it goes before a mere
    path. The results of runs that lie in a folder that is searched are no slides. What is named like a
    slide and is none stays in the list: opening it says why.

    Raises SettingsError for a path that does not exist, a pattern or folder without slides, a URL that
    names no file or may hold a secret, and a manifest that cannot be understood or names a slide twice.
    """
    found: list[SlideInput] = []
    for path in _with_patterns_filled_in(located(i) if isinstance(i, str) else i for i in inputs):
        if isinstance(path, SlideUrl):
            found.append(SlideInput(path))
        elif path.suffix.lower() == ".csv":
            found += read_manifest(path)
        elif path.is_dir() and not is_slide(path):
            slides = [SlideInput(p) for p in _search(path)]
            if not slides:
                raise SettingsError(f"{path}: no slide in this folder; name the files, or another folder")
            found += slides
        elif path.exists() or path.is_symlink():
            found.append(SlideInput(path))
        else:
            raise SettingsError(f"{path}: no such file or folder; check the path")
    unique: dict[str, SlideInput] = {}
    for entry in found:
        key = path_key(entry.path)
        if key not in unique or unique[key] == SlideInput(unique[key].path):
            unique[key] = entry
    return list(unique.values())


def _with_patterns_filled_in(inputs: Iterable[Path | SlideUrl]) -> Iterator[Path | SlideUrl]:
    for path in inputs:
        # A file may be called a[1].svs.
        if isinstance(path, SlideUrl) or path.exists() or path.is_symlink() or not glob.has_magic(str(path)):
            yield path
            continue
        matches = map(Path, sorted(glob.glob(str(path), recursive=True)))
        slides = [match for match in matches if not _holds_results(match.parent)]
        if not slides:
            raise SettingsError(f"{path}: no file matches this pattern; check it")
        yield from slides


def path_key(path: Path | SlideUrl) -> str:
    """The text by which a run recognises a slide's path again."""
    if isinstance(path, SlideUrl):
        return str(path)
    whole = path.absolute()
    # The same from every working directory. A link to a slide keeps its own name.
    return os.path.join(os.path.realpath(whole.parent), whole.name) if ".." in whole.parts else str(whole)


def _search(folder: Path) -> list[Path]:
    """Slides below a folder, hidden names left out; links to folders are not followed (they may loop).

    A folder that may not be looked into is left out with a warning.
    """
    slides: list[Path] = []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        log.warning("%s: cannot be searched for slides (%s)", folder, error.strerror or error)
        return []
    for entry in entries:
        if entry.name.startswith(".") or _holds_results(entry):
            continue
        if is_slide(entry):
            slides.append(entry)
        elif entry.is_dir():
            # A folder that is named like a slide and holds none is taken for one: opening it says why not.
            named_like_one = [entry] if entry.suffix.lower() in SLIDE_SUFFIXES else []
            slides += (not entry.is_symlink() and _search(entry)) or named_like_one
    return slides


def _holds_results(folder: Path) -> bool:
    """Whether a folder is the result of one slide. That of a run may be the slides' own folder."""
    return (folder / "slide.json").is_file()


def read_manifest(path: Path) -> list[SlideInput]:
    """Rows of a manifest: ``image_path`` and, if there, sample_id, mpp, mask_path, patient_id, label.

    Relative paths are relative to the manifest's folder; an image_path may be a URL. Raises
    SettingsError naming the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path}: the manifest cannot be read ({error})") from error
    if not rows:
        raise SettingsError(
            f"{path}: the manifest has no rows; it needs a header with image_path and a row per slide"
        )
    slides: list[SlideInput] = []
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        values = {
            _COLUMN_NAMES.get(name.strip().lower(), name.strip().lower()): (value or "").strip()
            for name, value in row.items()
            if isinstance(name, str) and not isinstance(value, list)
        }
        if "image_path" not in values:
            raise SettingsError(
                f"{path}: no image_path among its columns {', '.join(values)}; each row of a manifest names "
                "a slide"
            )
        if not values["image_path"]:
            raise SettingsError(
                f"{path}, line {number}: no image_path; every row of a manifest names a slide"
            )
        slide_path = _slide_of_row(path.parent, values["image_path"], f"{path}, line {number}")
        before = lines.setdefault(path_key(slide_path), number)
        if before != number:
            raise SettingsError(
                f"{path}, line {number}: {values['image_path']} stands in line {before} already; "
                "a slide has one row"
            )
        slides.append(
            SlideInput(
                path=slide_path,
                sample_id=values.get("sample_id") or None,
                mpp=_positive(values.get("mpp"), f"{path}, line {number}: mpp"),
                mask_path=path.parent / values["mask_path"] if values.get("mask_path") else None,
                patient_id=values.get("patient_id") or None,
                label=values.get("label") or None,
            )
        )
    return slides


def _slide_of_row(folder: Path, text: str, where: str) -> Path | SlideUrl:
    try:
        location = located(text)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error
    return location if isinstance(location, SlideUrl) else folder / location


def _positive(text: str | None, what: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise SettingsError(f"{what} is {text!r}; a positive number of um/px is wanted, or nothing")
    return number


def safe_name(text: str) -> str:
    """A file name that every system takes and that stays in its folder; letters of any script are kept."""
    name = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", text)).strip("._-") or "slide"
    if name.lower().split(".")[0] in _RESERVED:
        name = f"slide_{name}"
    if len(name.encode()) > _LONGEST_ID:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = name.encode()[: _LONGEST_ID - 9].decode(errors="ignore") + "-" + digest
    return name


def assign_sample_ids(slides: Iterable[SlideInput], known: Mapping[str, str]) -> list[tuple[str, SlideInput]]:
    """Each slide with its id, in order.

    ``known`` maps path keys to ids that the run folder gave before; these are kept. Others get
    the manifest's id or the file's stem, made safe. Where two want one name (upper and lower case
    count as equal) each gets its folder's name behind it, or a hash of its path where that is not enough.
    """
    slides = list(slides)
    wanted = [safe_name(s.sample_id or s.path.stem) for s in slides]
    taken = {sample_id.lower() for sample_id in known.values()}
    crowd = Counter(
        name.lower() for name, s in zip(wanted, slides, strict=True) if path_key(s.path) not in known
    )
    assigned = []
    for name, slide in zip(wanted, slides, strict=True):
        key = path_key(slide.path)
        if key in known:
            assigned.append((known[key], slide))
            continue
        if crowd[name.lower()] > 1 or name.lower() in taken:
            name = safe_name(f"{name}-{folder_name(slide.path)}")
        if name.lower() in taken:
            name = safe_name(
                f"{name[:100]}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
            )
        taken.add(name.lower())
        assigned.append((name, slide))
    return assigned
