"""Writes whole-slide images as DICOM series: a file per level, uncompressed RGB, explicit little endian."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.make_slides import Image, cut_tiles, downsampled

_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_WHOLE_SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_LONG_KINDS = {"OB", "OW", "SQ"}


def write_dicom_series(
    folder: Path, image: Image, mpp: float = 0.5, levels: Sequence[int] = (1, 4), tile: int = 64,
    series_uid: str = "1.2.3.4", prefix: str = "level", undefined_lengths: bool = False,
) -> list[Path]:  # fmt: skip
    """Files ``<prefix>0.dcm``, ... in ``folder``. ``undefined_lengths``: sequences end with a delimiter."""
    folder.mkdir(exist_ok=True, parents=True)
    files = []
    for number, factor in enumerate(levels):
        level = downsampled(image, factor) if factor > 1 else image
        instance = f"{series_uid}.{number + 1}"
        kind = "ORIGINAL\\PRIMARY\\VOLUME\\NONE" if number == 0 else "DERIVED\\PRIMARY\\VOLUME\\RESAMPLED"
        data = _data_set(level, mpp * factor, tile, series_uid, instance, kind, undefined_lengths)
        path = folder / f"{prefix}{number}.dcm"
        path.write_bytes(bytes(128) + b"DICM" + _file_meta(instance) + data)
        files.append(path)
    return files


def _data_set(
    image: Image, mpp: float, tile: int, series_uid: str, instance: str, kind: str, undefined: bool
) -> bytes:
    height, width = image.shape[:2]
    tiles = [part.tobytes() for part in cut_tiles(image, tile)]
    spacing = _element(0x0028, 0x0030, "DS", f"{mpp / 1000}\\{mpp / 1000}")
    measures = _sequence(0x0028, 0x9110, spacing, undefined)
    # A series that this one refers to: its UID comes first in the file and is not the one that counts.
    other = _element(0x0020, 0x000E, "UI", "9.9.9.9")
    return b"".join(
        [
            _element(0x0008, 0x0008, "CS", kind),
            _element(0x0008, 0x0016, "UI", _WHOLE_SLIDE_IMAGE),
            _element(0x0008, 0x0018, "UI", instance),
            _sequence(0x0008, 0x1115, other, undefined),
            _element(0x0020, 0x000D, "UI", "1.2.3"),
            _element(0x0020, 0x000E, "UI", series_uid),
            _element(0x0020, 0x9311, "CS", "TILED_FULL"),
            _element(0x0028, 0x0002, "US", 3),
            _element(0x0028, 0x0004, "CS", "RGB"),
            _element(0x0028, 0x0006, "US", 0),
            _element(0x0028, 0x0008, "IS", str(len(tiles))),
            _element(0x0028, 0x0010, "US", tile),
            _element(0x0028, 0x0011, "US", tile),
            _element(0x0028, 0x0100, "US", 8),
            _element(0x0028, 0x0101, "US", 8),
            _element(0x0028, 0x0102, "US", 7),
            _element(0x0028, 0x0103, "US", 0),
            _element(0x0048, 0x0006, "UL", width),
            _element(0x0048, 0x0007, "UL", height),
            _element(0x0048, 0x0303, "UL", 1),
            _sequence(0x5200, 0x9229, measures, undefined),
            _element(0x7FE0, 0x0010, "OB", b"".join(tiles)),
        ]
    )


def _file_meta(instance: str) -> bytes:
    elements = b"".join(
        [
            _element(0x0002, 0x0001, "OB", b"\0\1"),
            _element(0x0002, 0x0002, "UI", _WHOLE_SLIDE_IMAGE),
            _element(0x0002, 0x0003, "UI", instance),
            _element(0x0002, 0x0010, "UI", _EXPLICIT_LITTLE_ENDIAN),
            _element(0x0002, 0x0012, "UI", "1.2.3.4.5"),
        ]
    )
    return _element(0x0002, 0x0000, "UL", len(elements)) + elements


def _element(group: int, number: int, kind: str, value: str | int | bytes) -> bytes:
    if isinstance(value, int):
        data = struct.pack("<H" if kind == "US" else "<I", value)
    elif isinstance(value, str):
        data = value.encode("ascii")
        data += (b"\0" if kind == "UI" else b" ") * (len(data) % 2)
    else:
        data = value + b"\0" * (len(value) % 2)
    head = struct.pack("<HH", group, number) + kind.encode("ascii")
    length = struct.pack("<2xI", len(data)) if kind in _LONG_KINDS else struct.pack("<H", len(data))
    return head + length + data


def _sequence(group: int, number: int, item: bytes, undefined: bool) -> bytes:
    """A sequence of one item, its lengths stated or left open."""
    if not undefined:
        content = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
        return _element(group, number, "SQ", content)
    content = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + item + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    head = struct.pack("<HH", group, number) + b"SQ" + struct.pack("<2xI", 0xFFFFFFFF)
    return head + content + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
