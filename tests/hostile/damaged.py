"""Slides with damage in the header, in a directory, in the tiles."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from tests.hostile.spoiling import NOT_READ, TILE, Hostile, overwrite, set_tag, small_image, small_svs
from tests.make_slides import write_generic_tiff


def damaged_headers(folder: Path) -> Iterator[Hostile]:
    changes = {
        "order_of_bytes": (0, b"MM"),
        "other_magic": (2, b"\x99\x00"),
        "directory_at_0": (4, struct.pack("<I", 0)),
        "directory_past_end": (4, struct.pack("<I", 2**32 - 2)),
        "directory_in_header": (4, struct.pack("<I", 4)),
        "directory_in_pixels": (4, struct.pack("<I", 5000)),
    }
    for name, (position, content) in changes.items():
        path = small_svs(folder / f"{name}.svs")
        overwrite(path, position, content)
        yield Hostile(path, "not a TIFF|truncated or damaged|no reader")
    path = small_svs(folder / "chain_is_a_loop.svs")
    with tifffile.TiffFile(path) as tiff:
        first, link = tiff.pages.first.offset, tiff.pages.next_page_offset
        assert link is None or link
        last = tiff.pages[-1].offset
    count = struct.unpack_from("<H", path.read_bytes(), last)[0]
    overwrite(path, last + 2 + 12 * count, struct.pack("<I", first))
    yield Hostile(path, "truncated or damaged|no reader|cannot")
    path = folder / "chain_of_50000.tif"
    one = struct.calcsize("<H12sI")
    entry = struct.pack("<HHII", 256, 3, 1, 64)
    chain = b"".join(struct.pack("<H12sI", 1, entry, 8 + (n + 1) * one) for n in range(50_000))
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + chain)
    yield Hostile(path, "truncated or damaged|no reader|cannot")


def damaged_directories(folder: Path) -> Iterator[Hostile]:
    """One tag of level 0 changed: (tag, the new 12 bytes of its entry after the tag's number)."""
    changes: dict[str, tuple[int, bytes]] = {
        "type_of_tag": (256, struct.pack("<HII", 99, 1, 256)),
        "count_of_tag": (257, struct.pack("<HII", 4, 2**31, 8)),
        "compression": (259, struct.pack("<HII", 3, 1, 34925)),
        "bits": (258, struct.pack("<HII", 3, 1, 12)),
        "samples": (277, struct.pack("<HII", 3, 1, 60000)),
        "tile_of_0": (322, struct.pack("<HII", 4, 1, 0)),
        "tile_of_3": (323, struct.pack("<HII", 4, 1, 3)),
        "table_elsewhere": (324, struct.pack("<HII", 4, 16, 2**32 - 64)),
        "table_too_short": (324, struct.pack("<HII", 4, 3, 8)),
        "counts_are_text": (325, struct.pack("<HII", 2, 16, 8)),
        "planes_apart": (284, struct.pack("<HII", 3, 1, 2)),
    }
    for name, (tag, entry) in changes.items():
        path = small_svs(folder / f"{name}.svs")
        with tifffile.TiffFile(path) as tiff:
            position = tiff.pages.first.tags[tag].offset
        overwrite(path, position + 2, entry)
        yield Hostile(path, f"truncated or damaged|photometric|{NOT_READ}")


def damaged_tiles(folder: Path) -> Iterator[Hostile]:
    noise = np.random.default_rng(2)
    for name, every in {"all_tiles_are_noise": 1, "one_tile_in_16_is_noise": 16}.items():
        path = small_svs(folder / f"{name}.svs")
        for offset, count in _tiles(path)[::every]:
            overwrite(path, offset, noise.bytes(count))
        yield Hostile(path, NOT_READ)
    path = write_generic_tiff(folder / "one_bit_in_each_tile.tif", small_image(), tile=TILE)
    _set_spacing(path)
    for offset, count in _tiles(path):
        overwrite(path, offset + count // 2, bytes([path.read_bytes()[offset + count // 2] ^ 16]))
    yield Hostile(path, NOT_READ)
    path = small_svs(folder / "tiles_cut_and_closed.svs")
    for offset, count in _tiles(path):
        content = path.read_bytes()[offset : offset + count]
        start = content.index(b"\xff\xda")
        half = start + 14 + (count - start) // 2
        overwrite(path, offset + half, b"\xff\xd9")
        overwrite(path, offset + half + 2, bytes(count - half - 2))
    yield Hostile(path, NOT_READ)
    path = small_svs(folder / "tiles_past_the_end.svs")
    set_tag(path, "TileOffsets", tuple(2**31 + 64 * n for n in range(16)))
    yield Hostile(path, "past the file's end")
    path = small_svs(folder / "a_tile_was_never_written.svs")
    with tifffile.TiffFile(path) as tiff:
        counts = tiff.pages.first.tags["TileByteCounts"].value
    set_tag(path, "TileByteCounts", (*counts[:5], 0, *counts[6:]))
    yield Hostile(path, None)  # scanners leave tiles out on purpose: they are white


def _set_spacing(path: Path) -> None:
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            for name in ("XResolution", "YResolution"):
                page.tags[name].overwrite((20000, 1))
            page.tags["ResolutionUnit"].overwrite(3)


def _tiles(path: Path) -> list[tuple[int, int]]:
    """Offset and byte count of every tile of every tiled page."""
    with tifffile.TiffFile(path) as tiff:
        return [
            pair
            for page in tiff.pages
            if page.is_tiled
            for pair in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
