"""Whether a TIFF is all there: what is wrong with it is said before anybody trusts its numbers."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import tifffile

from wsi_cam.errors import SlideError
from wsi_cam.slides.tiff_facts import chain_of_pages

#: What tifffile was seen to raise over damaged and hostile files.
PARSING_ERRORS = (
    tifffile.TiffFileError, struct.error, ValueError, LookupError, TypeError, ArithmeticError, AttributeError,
    AssertionError, MemoryError, RecursionError, SyntaxError, RuntimeError,
)  # fmt: skip


#: Sizes, coding, tables, description, SubIFDs, JPEG tables: what a slide cannot be understood without.
_NEEDED_TAGS = {254, *range(256, 260), 262, 270, 273, *range(277, 280), 284, 317, *range(322, 326), 330, 347}


#: Of one tag: the tile offsets of a slide of a million pixels a side.
_LARGEST_TAG_BYTES = 2**27


class NotForThisReaderError(SlideError):
    """The file may be a good slide, but not one that the TIFF reader reads (exactly)."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; the TIFF reader cannot read it, try --reader openslide")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[NotForThisReaderError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


class TagReader(io.BufferedReader):
    """A TIFF opened for its tags: what is larger than the tags of any slide is refused before it is read.

    A sparse file holds 64 GiB of tile offsets at no cost, and tifffile reads them before it can be asked.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_TAG_BYTES:
            raise tifffile.TiffFileError(f"a tag claims {size} bytes")
        return super().read(size)


def check_chain(path: Path, tiff: tifffile.TiffFile) -> None:
    """A chain of directories has to end; tifffile stops without a word where it points past the file."""
    len(tiff.pages)
    position = tiff.pages.next_page_offset
    if position is None:
        return
    handle = tiff.filehandle
    handle.seek(position)
    link = handle.read(tiff.tiff.offsetsize)
    if len(link) < tiff.tiff.offsetsize or any(link):
        raise damaged(path, "its chain of directories is cut off")


def check_tags(path: Path, tiff: tifffile.TiffFile) -> None:
    """tifffile leaves out tags whose values lie past the file's end; without these the rest misleads."""
    kind, handle = tiff.tiff, tiff.filehandle
    for page in chain_of_pages(tiff):
        handle.seek(page.offset)
        (count,) = struct.unpack(kind.tagnoformat, handle.read(kind.tagnosize))
        entries = handle.read(count * kind.tagsize)
        codes = {
            struct.unpack_from(f"{kind.byteorder}H", entries, start)[0]
            for start in range(0, len(entries), kind.tagsize)
        }
        lost = codes & _NEEDED_TAGS - set(page.tags.keys())
        if lost:
            raise damaged(path, f"values of tag {min(lost)} are not in the file")


def damaged(path: Path, cause: str) -> SlideError:
    """The error for a file that cannot be whole."""
    cause = " ".join(cause.split())[:200]
    return SlideError(
        f"{path}: the TIFF is truncated or damaged ({cause}); copy the slide again from its source"
    )


def begins_like_tiff(path: Path) -> bool:
    """Whether the first bytes are those of a TIFF or BigTIFF of either byte order."""
    with path.open("rb") as stream:
        return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
