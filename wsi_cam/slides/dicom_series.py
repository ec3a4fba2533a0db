"""Which DICOM files belong together: a slide is a series, one file for each of its levels and pictures.

Only the few elements before the pixel data are read, by the layout of DICOM PS3.5 chapter 7 and the
file header of PS3.10 chapter 7; pixels are OpenSlide's affair.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from wsi_cam.errors import SlideError

_TRANSFER_SYNTAX = (0x0002, 0x0010)
_SERIES_UID = (0x0020, 0x000E)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_UNDEFINED = 0xFFFFFFFF
_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_NOT_READ_HERE = {"1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}  # big endian, deflated
_LONG_KINDS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


def series_uid(path: Path) -> str | None:
    """SeriesInstanceUID of a DICOM file; None for anything else, unreadable files included."""
    try:
        with path.open("rb") as stream:
            header = stream.read(132)
            return _read_series_uid(stream) if header[128:] == b"DICM" else None
    except (OSError, struct.error, RecursionError):
        return None


def series_in_folder(folder: Path) -> dict[str, list[Path]]:
    """The ``.dcm`` files directly in a folder by SeriesInstanceUID, sorted by name; {} for none."""
    found: dict[str, list[Path]] = {}
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".dcm" and p.is_file())
    except OSError:
        return {}
    for path in files:
        uid = series_uid(path)
        if uid is not None:
            found.setdefault(uid, []).append(path)
    return found


def files_of_series(path: Path) -> list[Path]:
    """The files of the series that a folder holds, or that a file belongs to, sorted by name.

    Raises SlideError for a folder without DICOM files or with several series.
    """
    if not path.is_dir():
        uid = series_uid(path)
        return [path] if uid is None else series_in_folder(path.parent).get(uid, [path])
    series = series_in_folder(path)
    if not series:
        raise SlideError(
            f"{path}: this is a folder, not a slide, and holds no DICOM series; name a file in it"
        )
    if len(series) > 1:
        first = ", ".join(files[0].name for files in series.values())
        raise SlideError(
            f"{path}: the folder holds {len(series)} DICOM series; name one file, such as {first}"
        )
    return next(iter(series.values()))


def _read_series_uid(stream: BinaryIO) -> str | None:
    explicit, syntax = True, ""
    while True:
        start = stream.tell()
        tag = struct.unpack("<HH", stream.read(4))
        if tag[0] != 2 and syntax:  # the file header is over: from here on its transfer syntax rules
            if syntax in _NOT_READ_HERE:
                return None
            explicit, syntax = syntax != _IMPLICIT_LITTLE_ENDIAN, ""
        if tag > _SERIES_UID:
            return None
        kind, length = _read_length(stream, explicit)
        if tag in (_TRANSFER_SYNTAX, _SERIES_UID) and length <= 64:
            text = stream.read(length).rstrip(b"\0 ").decode("ascii", "replace")
            if tag == _SERIES_UID:
                return text or None
            syntax = text
        else:
            _skip(stream, kind, length, explicit)
        if stream.tell() <= start:
            return None


def _read_length(stream: BinaryIO, explicit: bool) -> tuple[bytes, int]:
    """Value representation (empty where implicit) and length of the element whose tag was just read."""
    if not explicit:
        return b"", struct.unpack("<I", stream.read(4))[0]
    kind = stream.read(2)
    if kind in _LONG_KINDS:
        return kind, struct.unpack("<2xI", stream.read(6))[0]
    return kind, struct.unpack("<H", stream.read(2))[0]


def _skip(stream: BinaryIO, kind: bytes, length: int, explicit: bool) -> None:
    """Passes over a value, through the items of a sequence whose length is not stated."""
    if length != _UNDEFINED:
        stream.seek(length, 1)
        return
    explicit = explicit and kind != b"UN"  # PS3.5 6.2.2: such a sequence is written implicitly
    while True:
        tag = struct.unpack("<HH", stream.read(4))
        (item_length,) = struct.unpack("<I", stream.read(4))
        if tag != _ITEM:
            return
        if item_length != _UNDEFINED:
            stream.seek(item_length, 1)
            continue
        while (tag := struct.unpack("<HH", stream.read(4))) not in (_ITEM_END, _SEQUENCE_END):
            inner_kind, inner_length = _read_length(stream, explicit)
            _skip(stream, inner_kind, inner_length, explicit)
        stream.seek(4, 1)
