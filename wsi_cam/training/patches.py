"""Labelled patches on disk: which pictures there are, what they show, and which belong together.

Four kinds of data end as one :class:`PatchSet`: a folder of class folders, a zip of such a folder, a
CSV ``path,label[,group][,split]``, and annotated slides, whose patches are cut into a CSV first
(:mod:`wsi_cam.training.annotated_slides`). Nothing is decoded here.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import DataError
from wsi_cam.training.picture_source import FolderSource, PictureSource, ZipSource

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})

#: What a ``split`` column may say. ``valid`` is halved into ``fit`` and ``report``, ``test`` is ``report``.
SPLIT_WORDS = ("train", "valid", "fit", "report", "test")


@dataclass(frozen=True)
class PatchSet:
    """Pictures in a fixed order (sorted by name, or as the CSV has them), each with its class.

    ``labels`` (n,) int64 index ``class_names``. ``groups`` names for every picture what it was taken
    from (patient, slide, source image), ``splits`` where its owner wants it used; both may be missing.
    """

    path: Path
    source: PictureSource
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def counts(self) -> dict[str, int]:
        """Pictures per class."""
        counted = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counted.tolist(), strict=True))

    def subset(self, indices: Iterable[int]) -> PatchSet:
        """The same set with these pictures only, in the order of ``indices``."""
        chosen = [int(i) for i in indices]
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            labels=self.labels[chosen],
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen),
            splits=None if self.splits is None else tuple(self.splits[i] for i in chosen),
        )

    def content_digests(self) -> list[str]:
        """sha256 of every picture's file bytes: what makes two of them byte-identical."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda name: hashlib.sha256(self.source.read(name)).hexdigest(), self.names))


def read_patch_set(
    path: str | Path, class_names: Sequence[str] | None = None, groups: str | Path | None = None
) -> PatchSet:
    """The pictures of a folder of class folders, a zip of one, or a CSV.

    ``class_names`` fixes the classes and their order; without it they are the labels found, sorted.
    ``groups`` is a CSV ``path,group`` that covers every picture. Raises DataError where the data are missing,
    a class folder has no picture, a label is not a class, or the groups have gaps.
    """
    path = Path(path)
    if path.is_dir():
        patches = _from_class_folders(path, FolderSource(path), _list_folder(path), class_names)
    elif not path.exists():
        raise DataError(f"{path}: no such data; give a folder of class folders, its zip, or a CSV path,label")
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
        patches = _from_class_folders(path, ZipSource(path), entries, class_names)
    elif path.suffix.lower() == ".csv":
        patches = _from_csv(path, class_names)
    else:
        raise DataError(f"{path}: neither folder, zip nor CSV; give pictures in class folders, or path,label")
    return patches if groups is None else _with_groups(patches, Path(groups))


def require_trainable(patches: PatchSet) -> None:
    """Raises DataError unless there are two classes or more, each with a picture."""
    present = [name for name, count in patches.counts().items() if count]
    if len(present) < 2:
        raise DataError(
            f"{patches.path}: only one class ({', '.join(present) or 'none'}); it takes two or more "
            "folders or labels"
        )
    missing = [name for name, count in patches.counts().items() if not count]
    if missing:
        raise DataError(f"{patches.path}: no picture of class {missing[0]!r}; add some or drop the class")


def _list_folder(root: Path) -> list[str]:
    """Relative names below ``root`` as a zip lists them: folders end in '/'."""
    return [p.relative_to(root).as_posix() + ("/" if p.is_dir() else "") for p in root.rglob("*")]


def _from_class_folders(
    path: Path, source: PictureSource, entries: Sequence[str], class_names: Sequence[str] | None
) -> PatchSet:
    visible = [e for e in entries if not any(part.startswith((".", "__MACOSX")) for part in e.split("/"))]
    files = [e for e in visible if e[-1] != "/"]
    pictures = sorted(e for e in files if PurePosixPath(e).suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        known = ", ".join(sorted(PICTURE_SUFFIXES))
        raise DataError(f"{path}: no picture in it ({known}); expected CLASS/PICTURE")
    parents = {PurePosixPath(e).parts[:-1] if e[-1] != "/" else PurePosixPath(e).parts for e in visible}
    depth = _depth_of_classes(parents)
    found: dict[str, int] = {parts[depth]: 0 for parts in parents if len(parts) > depth}
    labels = []
    for name in pictures:
        parts = PurePosixPath(name).parts
        if len(parts) - 1 <= depth:
            raise DataError(
                f"{path}: {name} lies in no class folder; put every picture into that of its class"
            )
        labels.append(parts[depth])
        found[parts[depth]] += 1
    empty = [name for name, count in found.items() if not count]
    if empty:
        raise DataError(f"{path}: class folder {empty[0]!r} has no picture; fill it or remove it")
    return _labelled(path, source, pictures, labels, class_names)


def _depth_of_classes(folders: Iterable[tuple[str, ...]]) -> int:
    """How many folders enclose the class folders: those that all pictures have in common."""
    known = sorted(set(folders))
    depth = 0
    while True:
        below = {parts[depth] for parts in known if len(parts) > depth}
        deeper = any(len(parts) > depth + 1 for parts in known)
        if len(below) != 1 or not deeper:
            return depth
        depth += 1


def _from_csv(path: Path, class_names: Sequence[str] | None) -> PatchSet:
    rows = read_rows(path, required=("path", "label"))
    if not rows:
        raise DataError(f"{path}: no rows; expected path,label[,group][,split]")
    names, labels = [row["path"] for row in rows], [row["label"] for row in rows]
    for column, values in (("path", names), ("label", labels)):
        if "" in values:
            raise DataError(f"{path}, line {values.index('') + 2}: empty {column}; every picture needs one")
    twice = _first_repeated(names)
    if twice is not None:
        raise DataError(f"{path}: {twice} is listed twice; list every picture once")
    patches = _labelled(path, FolderSource(path.parent), names, labels, class_names)
    for column in ("group", "split"):
        if column in rows[0]:
            cells = tuple(row[column] for row in rows)
            if "" in cells:
                raise DataError(
                    f"{path}, line {cells.index('') + 2}: empty {column} ({cells.count('')} such rows); "
                    f"fill the column or leave it out"
                )
            patches = replace(patches, groups=cells) if column == "group" else replace(patches, splits=cells)
    strange = sorted(set(patches.splits or ()) - set(SPLIT_WORDS))
    if strange:
        raise DataError(f"{path}: split {strange[0]!r}; it must be one of {', '.join(SPLIT_WORDS)}")
    return patches


def _labelled(
    path: Path,
    source: PictureSource,
    names: Sequence[str],
    labels: Sequence[str],
    class_names: Sequence[str] | None,
) -> PatchSet:
    classes = tuple(class_names) if class_names is not None else tuple(sorted(set(labels)))
    index_of = {name: index for index, name in enumerate(classes)}
    for name, label in zip(names, labels, strict=True):
        if label not in index_of:
            known = ", ".join(classes)
            raise DataError(
                f"{path}: {name} is labelled {label!r}; the classes are {known}: rename or remove it"
            )
    indices = np.array([index_of[label] for label in labels], dtype=np.int64)
    return PatchSet(path, source, tuple(names), indices, classes)


def _with_groups(patches: PatchSet, path: Path) -> PatchSet:
    """The set with the groups of a CSV ``path,group[,label]``; its rows may be more than the pictures."""
    if patches.groups is not None:
        raise DataError(f"{patches.path}: has a group column already; leave {path} or the column out")
    rows = read_rows(path, required=("path", "group"))
    group_of = {row["path"]: row["group"] for row in rows}
    label_of = {row["path"]: row["label"] for row in rows if row.get("label")}
    missing = [name for name in patches.names if not group_of.get(name)]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(patches)} pictures have no group, first {missing[0]}; "
            f"give every picture of {patches.path.name} one, by the same path"
        )
    for name, label in zip(patches.names, patches.labels.tolist(), strict=True):
        if label_of.get(name, patches.class_names[label]) != patches.class_names[label]:
            raise DataError(
                f"{path}: {name} is labelled {label_of[name]!r} there and {patches.class_names[label]!r} "
                f"in {patches.path.name}; one of them is wrong"
            )
    return replace(patches, groups=tuple(group_of[name] for name in patches.names))


def read_rows(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV with a header; cells stripped, missing cells empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            absent = [name for name in required if name not in header]
            if absent:
                needed = ",".join(required)
                raise DataError(f"{path}: no column {absent[0]!r}; the first line must name {needed}")
            return [{name: (row.get(name) or "").strip() for name in header} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise DataError(f"{path}: not a readable CSV ({cause}); save it as UTF-8 with commas") from cause


def _first_repeated(values: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
