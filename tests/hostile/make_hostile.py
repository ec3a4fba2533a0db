"""A folder of files that no lab wants among its slides: cut, damaged, lying, enormous, strangely named."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Picture

from tests.make_slides import (
    Image,
    encode_jpeg,
    encode_jpeg2000,
    tissue_image,
    write_generic_tiff,
    write_ome_tiff,
    write_svs,
)

_TILE = 64
_CUTS = (1, 3, 4, 7, 8, 9, 15, 16, 100, 500)
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999)
_ODD_NAMES = (
    "with space", "'single' \"double\"", "two\nlines", "tab\tinside", "two..dots", "..ends in dots..", "-o",
    "$(touch gone)", "%s %d", "a;b&c|d", "back\\slash", "CON", "UPPER", "upper", "Größe_日本語_🔬", "e\u0301",
    "n" * 246,
)  # fmt: skip
"""Stems; the longest has 250 characters with its suffix."""
_NOT_READ = "can be read|cannot be (read|decoded)|no reader can open|cannot open"


@dataclass(frozen=True)
class Hostile:
    """A path, and a pattern of what must be said of it; None where it is to be done in spite of all."""

    path: Path
    reason: str | None


def small_image(seed: int = 3) -> Image:
    """256 x 256 px with tissue on most of it: a handful of patches at 0.5 um/px."""
    return tissue_image(256, 256, [(10, 10, 230, 230)], seed=seed)


def write_good_slides(folder: Path, count: int = 3) -> list[Path]:
    return [
        write_svs(folder / f"good_{n}.svs", small_image(seed=n), tile=_TILE, levels=(1, 2))
        for n in range(count)
    ]


def make_hostile(folder: Path) -> list[Hostile]:
    """Everything of this module, written into ``folder`` (about 3 MB; some files are sparse)."""
    makers: tuple[Callable[[Path], Iterator[Hostile]], ...] = (
        truncated, no_slides, damaged_headers, damaged_directories, damaged_tiles, enormous, odd_spacings,
        not_files, odd_names,
    )  # fmt: skip
    return [hostile for maker in makers for hostile in maker(folder)]


def truncated(folder: Path) -> Iterator[Hostile]:
    whole = _svs(folder / "base.svs", levels=(1, 2)).read_bytes()
    (folder / "base.svs").unlink()
    for length in (*_CUTS, *(int(share * len(whole)) for share in _SHARES), len(whole) - 1):
        path = folder / f"cut_at_{length}.svs"
        path.write_bytes(whole[:length])
        yield Hostile(path, "not a TIFF|truncated or damaged|cannot|no reader")
    others = {
        "cut.ome.tif": write_ome_tiff(folder / "cut.ome.tif", small_image(), tile=_TILE),
        "cut.tif": write_generic_tiff(folder / "cut.tif", small_image(), tile=_TILE),
        "cut_j2k.svs": write_svs(
            folder / "cut_j2k.svs", small_image(), tile=_TILE, levels=(1,), compression="jpeg2000"
        ),
    }
    for path in others.values():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        yield Hostile(path, "truncated or damaged")


def no_slides(folder: Path) -> Iterator[Hostile]:
    """Other things under the name of a slide."""
    contents = {
        "empty.svs": (b"", "empty"),
        "text.svs": (b"this is no slide\n" * 50, "not a TIFF"),
        "page.ndpi": (b"<!DOCTYPE html><title>404 Not Found</title>", "no reader|not a TIFF"),
        "zeros.tif": (bytes(5000), "not a TIFF"),
        "noise.scn": (np.random.default_rng(1).bytes(5000), "not a TIFF"),
        "text.dcm": (b"DICM is not here", "cannot open|no reader|not a TIFF"),
        "cut.dcm": (bytes(128) + b"DICM\x02\x00\x00\x00UL\x04", "cannot open|no reader|not a TIFF|DICOM"),
        "no_folder_beside.mrxs": (b"", "empty"),
        "no_folder_beside_2.mrxs": (b"\xff\xd8\xff\xe0", "no reader|not a TIFF|cannot"),
    }
    for name, (content, reason) in contents.items():
        (folder / name).write_bytes(content)
        yield Hostile(folder / name, reason)
    picture = Picture.fromarray(small_image())
    picture.save(folder / "picture.svs", "PNG")
    yield Hostile(folder / "picture.svs", "not a TIFF")
    picture.save(folder / "photo.tif", "JPEG")
    yield Hostile(folder / "photo.tif", "not a TIFF")
    with zipfile.ZipFile(folder / "archive.tiff", "w") as archive:
        archive.writestr("slide.svs", b"inside")
    yield Hostile(folder / "archive.tiff", "not a TIFF")
    tifffile.imwrite(folder / "depth.tif", np.zeros((5, 64, 64), np.uint16), photometric="minisblack")
    yield Hostile(folder / "depth.tif", "16 bits|no reader")
    svs = _svs(folder / "really_svs.scn")
    yield Hostile(svs, None)  # the content counts, not the suffix


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
        path = _svs(folder / f"{name}.svs")
        _overwrite(path, position, content)
        yield Hostile(path, "not a TIFF|truncated or damaged|no reader")
    path = _svs(folder / "chain_is_a_loop.svs")
    with tifffile.TiffFile(path) as tiff:
        first, link = tiff.pages.first.offset, tiff.pages.next_page_offset
        assert link is None or link
        last = tiff.pages[-1].offset
    count = struct.unpack_from("<H", path.read_bytes(), last)[0]
    _overwrite(path, last + 2 + 12 * count, struct.pack("<I", first))
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
        path = _svs(folder / f"{name}.svs")
        with tifffile.TiffFile(path) as tiff:
            position = tiff.pages.first.tags[tag].offset
        _overwrite(path, position + 2, entry)
        yield Hostile(path, f"truncated or damaged|photometric|{_NOT_READ}")


def damaged_tiles(folder: Path) -> Iterator[Hostile]:
    noise = np.random.default_rng(2)
    for name, every in {"all_tiles_are_noise": 1, "one_tile_in_16_is_noise": 16}.items():
        path = _svs(folder / f"{name}.svs")
        for offset, count in _tiles(path)[::every]:
            _overwrite(path, offset, noise.bytes(count))
        yield Hostile(path, _NOT_READ)
    path = write_generic_tiff(folder / "one_bit_in_each_tile.tif", small_image(), tile=_TILE)
    _set_spacing(path)
    for offset, count in _tiles(path):
        _overwrite(path, offset + count // 2, bytes([path.read_bytes()[offset + count // 2] ^ 16]))
    yield Hostile(path, _NOT_READ)
    path = _svs(folder / "tiles_cut_and_closed.svs")
    for offset, count in _tiles(path):
        content = path.read_bytes()[offset : offset + count]
        start = content.index(b"\xff\xda")
        half = start + 14 + (count - start) // 2
        _overwrite(path, offset + half, b"\xff\xd9")
        _overwrite(path, offset + half + 2, bytes(count - half - 2))
    yield Hostile(path, _NOT_READ)
    path = _svs(folder / "tiles_past_the_end.svs")
    _set_tag(path, "TileOffsets", tuple(2**31 + 64 * n for n in range(16)))
    yield Hostile(path, "past the file's end")
    path = _svs(folder / "a_tile_was_never_written.svs")
    with tifffile.TiffFile(path) as tiff:
        counts = tiff.pages.first.tags["TileByteCounts"].value
    _set_tag(path, "TileByteCounts", (*counts[:5], 0, *counts[6:]))
    yield Hostile(path, None)  # scanners leave tiles out on purpose: they are white


def enormous(folder: Path) -> Iterator[Hostile]:
    """Small files that speak of gigabytes."""
    for name, tag, value in (
        ("width_of_4e9", "ImageWidth", 2**32 - 1),
        ("height_of_2e9", "ImageLength", 2**31),
        ("tile_of_4e6", "TileWidth", 2**22),
    ):
        path = _svs(folder / f"{name}.svs", bigtiff=True)
        _set_tag(path, name=tag, value=value)
        yield Hostile(path, "needs .* tiles|256 MiB|truncated or damaged|no reader")
    yield Hostile(write_four_billion_tiles(folder / "tiles_4e9.tif"), "tiles|table|truncated or damaged")
    yield Hostile(_claiming_tiles(folder / "jpeg_bomb.svs", 7, _huge_jpeg()), _NOT_READ)
    yield Hostile(_claiming_tiles(folder / "j2k_bomb.svs", 33005, _huge_jpeg2000()), _NOT_READ)
    yield Hostile(_deflate_bomb(folder / "deflate_bomb.tif"), None)
    path = folder / "description_bomb.ome.tif"
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "laugh"}">' for n in range(12))
    text = f'<?xml version="1.0"?><!DOCTYPE OME [{entities}]><OME xmlns="http://www.openmicroscopy.org/'
    text += 'Schemas/OME/2016-06">&e11;</OME>'
    tifffile.imwrite(
        path, small_image(), tile=(_TILE, _TILE), photometric="rgb", description=text, metadata=None
    )
    yield Hostile(path, "truncated or damaged|no reader|cannot|spacing")


def odd_spacings(folder: Path) -> Iterator[Hostile]:
    for text in ("", "0", "-0.5", "1e9", "nan", "inf", "half"):
        path = folder / f"mpp_{text or 'missing'}.svs"
        write_svs(path, small_image(), mpp=None, tile=_TILE, levels=(1,))
        description = f"|AppMag = 20|MPP = {text}" if text else "|AppMag = 20"
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tag = tiff.pages.first.tags["ImageDescription"]
            tag.overwrite(tag.value.split("|")[0] + description)
        yield Hostile(path, "--mpp")


def not_files(folder: Path) -> Iterator[Hostile]:
    (folder / "folder.svs").mkdir()
    yield Hostile(folder / "folder.svs", "folder")
    (folder / "link_to_nothing.svs").symlink_to(folder / "nothing.svs")
    yield Hostile(folder / "link_to_nothing.svs", "no such file")
    (folder / "link_to_itself.svs").symlink_to(folder / "link_to_itself.svs")
    yield Hostile(folder / "link_to_itself.svs", "levels of symbolic links|cannot be read")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "and_back").symlink_to(folder, target_is_directory=True)
    (folder / "deeper" / "ring_a.svs").symlink_to(folder / "deeper" / "ring_b.svs")
    (folder / "deeper" / "ring_b.svs").symlink_to(folder / "deeper" / "ring_a.svs")
    for name in ("ring_a.svs", "ring_b.svs"):
        yield Hostile(folder / "deeper" / name, "levels of symbolic links|cannot be read")
    if hasattr(os, "mkfifo"):
        for name in ("pipe.svs", "pipe.dcm"):  # opening one waits for ever for somebody who writes
            os.mkfifo(folder / name)
            yield Hostile(folder / name, "no ordinary file")


def odd_names(folder: Path) -> Iterator[Hostile]:
    for stem in _ODD_NAMES:
        yield Hostile(_svs(folder / f"{stem}.svs"), None)
    undecodable = os.fsdecode(b"not \xff\xfe utf-8.svs")
    yield Hostile(_svs(folder / undecodable), None)
    for name in ("cut\nwith 'quotes', and\r\nlines.svs", os.fsdecode(b"cut \xe9t\xe9.svs")):
        path = _svs(folder / name)
        path.write_bytes(path.read_bytes()[:2000])
        yield Hostile(path, "truncated or damaged")


def _svs(path: Path, levels: tuple[int, ...] = (1,), bigtiff: bool = False) -> Path:
    # Written under a plain name: not every library below the writer takes every name.
    plain = path.with_name("being_written.svs")
    write_svs(plain, small_image(), tile=_TILE, levels=levels, bigtiff=bigtiff)
    return plain.replace(path)


def _overwrite(path: Path, position: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(position)
        stream.write(content)


def _set_tag(path: Path, name: str, value: object) -> None:
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags[name].overwrite(value)


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


def _corners() -> list[tuple[int, int]]:
    return [(y, x) for y in range(0, 256, _TILE) for x in range(0, 256, _TILE)]


def _huge_jpeg() -> bytes:
    stream = bytearray(encode_jpeg(small_image()[:_TILE, :_TILE], 90, "444"))
    frame = stream.index(b"\xff\xc0")
    stream[frame + 5 : frame + 9] = b"\xff\xf0\xff\xf0"
    return bytes(stream)


def _huge_jpeg2000() -> bytes:
    stream = bytearray(encode_jpeg2000(small_image()[:_TILE, :_TILE]))
    struct.pack_into(">II", stream, 8, 2**31 - 1, 2**31 - 1)
    return bytes(stream)


def _claiming_tiles(path: Path, compression: int, tile: bytes) -> Path:
    """A slide all of whose tiles are ``tile``."""
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter([tile] * 16), shape=(256, 256, 3), dtype="uint8", tile=(_TILE, _TILE), metadata=None,
            photometric="ycbcr" if compression == 7 else "rgb", subsampling=(1, 1), compression=compression,
            description="Aperio Image Library v11.2.1 \r\n256x256|AppMag = 20|MPP = 0.5",
        )  # fmt: skip
    return path


def _deflate_bomb(path: Path) -> Path:
    """One of its tiles, of 64 px and some kilobytes, inflates to a gigabyte; a tile's worth is taken."""
    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    image = small_image()
    tiles = [zlib.compress(image[y : y + _TILE, x : x + _TILE].tobytes()) for y, x in _corners()]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter([bomb, *tiles[1:]]), shape=(256, 256, 3),
            dtype="uint8", tile=(_TILE, _TILE), metadata=None, photometric="rgb", compression="deflate",
            resolution=(20000, 20000), resolutionunit=3,
        )  # fmt: skip
    return path


def write_four_billion_tiles(path: Path) -> Path:
    """A BigTIFF whose tables have 2^32 entries each, all of them there: 64 GiB of holes on the disk."""
    count, tables = 2**32, 4096
    side = 2**16 * _TILE
    entries = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
        (322, 4, 1, _TILE), (323, 4, 1, _TILE), (324, 16, count, tables), (325, 4, count, tables + 8 * count),
    ]  # fmt: skip
    directory = struct.pack("<Q", len(entries))
    directory += b"".join(struct.pack("<HHQQ", *entry) for entry in entries) + bytes(8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + directory)
        stream.truncate(tables + 12 * count)
    return path
