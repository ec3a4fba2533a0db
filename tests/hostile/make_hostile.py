"""A folder of files that no lab wants among its slides: cut, damaged, lying, enormous, strangely named."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Picture

from tests.hostile.damaged import damaged_directories, damaged_headers, damaged_tiles
from tests.hostile.enormous import enormous
from tests.hostile.spoiling import TILE, Hostile, small_image, small_svs
from tests.make_slides import write_generic_tiff, write_ome_tiff, write_svs

_CUTS = (1, 3, 4, 7, 8, 9, 15, 16, 100, 500)
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999)
_ODD_NAMES = (
    "with space, 'single' and \"double\"", "two\nlines and\ta tab", "two..dots", "..hidden by dots", "-o",
    "$(touch gone);b&c|d %s {0}", "back\\slash", "CON", "UPPER", "upper", "Größe_日本語_🔬_e\u0301",
    "n" * 246,
)  # fmt: skip
"""Stems; the longest has 250 characters with its suffix."""


def make_hostile(folder: Path) -> list[Hostile]:
    """Everything of this module, written into ``folder`` (about 3 MB; some files are sparse)."""
    makers: tuple[Callable[[Path], Iterator[Hostile]], ...] = (
        truncated, no_slides, damaged_headers, damaged_directories, damaged_tiles, enormous, odd_spacings,
        not_files, odd_names,
    )  # fmt: skip
    return [hostile for maker in makers for hostile in maker(folder)]


def truncated(folder: Path) -> Iterator[Hostile]:
    whole = small_svs(folder / "base.svs", levels=(1, 2)).read_bytes()
    (folder / "base.svs").unlink()
    for length in (*_CUTS, *(int(share * len(whole)) for share in _SHARES), len(whole) - 1):
        path = folder / f"cut_at_{length}.svs"
        path.write_bytes(whole[:length])
        yield Hostile(path, "not a TIFF|truncated or damaged|cannot|no reader")
    others = {
        "cut.ome.tif": write_ome_tiff(folder / "cut.ome.tif", small_image(), tile=TILE),
        "cut.tif": write_generic_tiff(folder / "cut.tif", small_image(), tile=TILE),
        "cut_j2k.svs": write_svs(
            folder / "cut_j2k.svs", small_image(), tile=TILE, levels=(1,), compression="jpeg2000"
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
    svs = small_svs(folder / "really_svs.scn")
    yield Hostile(svs, None)  # the content counts, not the suffix


def odd_spacings(folder: Path) -> Iterator[Hostile]:
    for text in ("", "0", "-0.5", "1e9", "nan", "inf", "half"):
        path = folder / f"mpp_{text or 'missing'}.svs"
        write_svs(path, small_image(), mpp=None, tile=TILE, levels=(1,))
        description = f"|AppMag = 20|MPP = {text}" if text else "|AppMag = 20"
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tag = tiff.pages.first.tags["ImageDescription"]
            tag.overwrite(tag.value.split("|")[0] + description)
        yield Hostile(path, "--mpp")


def not_files(folder: Path) -> Iterator[Hostile]:
    (folder / "folder.svs").mkdir()
    yield Hostile(folder / "folder.svs", "folder")
    (folder / "link_to_nothing.svs").symlink_to(folder / "nothing.svs")
    yield Hostile(folder / "link_to_nothing.svs", "no such file|not there")
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
            yield Hostile(folder / name, "no ordinary file|a device or a pipe")


def odd_names(folder: Path) -> Iterator[Hostile]:
    for stem in _ODD_NAMES:
        yield Hostile(small_svs(folder / f"{stem}.svs"), None)
    undecodable = os.fsdecode(b"not \xff\xfe utf-8.svs")
    yield Hostile(small_svs(folder / undecodable), None)
    for name in ("cut\nwith 'quotes', and\r\nlines.svs", os.fsdecode(b"cut \xe9t\xe9.svs")):
        path = small_svs(folder / name)
        path.write_bytes(path.read_bytes()[:2000])
        yield Hostile(path, "truncated or damaged")
