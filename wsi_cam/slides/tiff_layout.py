"""Where a TIFF keeps the tiles of its levels, and what it says about the slide.

tifffile reads the directories; from here on a level is a table of offsets and byte counts, and
the file is checked against it once: tables complete, every tile inside of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Affine, Level, Level0, Size
from wsi_cam.slides.level_maps import level_maps
from wsi_cam.slides.slide import LARGEST_TILE_BYTES
from wsi_cam.slides.tiff_checks import (
    PARSING_ERRORS,
    NotForThisReaderError,
    TagReader,
    begins_like_tiff,
    check_chain,
    check_tags,
    damaged,
)
from wsi_cam.slides.tiff_facts import (
    SlideFacts,
    aperio_facts,
    chain_of_pages,
    generic_facts,
    is_philips,
    ome_facts,
    philips_facts,
    tifffile_kept_quiet,
)
from wsi_cam.slides.tile_decoding import GREY, JPEG, RGB, YCBCR, TileCoding


@dataclass(frozen=True)
class StoredImage:
    """One page: tile k covers column ``k % columns`` and row ``k // columns``.

    ``offsets`` and ``counts`` (planes, rows * columns) are bytes in the file; a count or offset of 0
    means that the tile was never written. Strips are tiles as wide as the image.
    """

    size: Size
    tile: Size
    columns: int
    offsets: NDArray[np.uint64] = field(repr=False)
    counts: NDArray[np.uint64] = field(repr=False)
    coding: TileCoding = field(repr=False)
    is_tiled: bool = True

    @property
    def has_missing_tiles(self) -> bool:
        return bool(((self.offsets == 0) | (self.counts == 0)).any())


@dataclass(frozen=True)
class TiffLayout:
    """The levels of one image of a TIFF and the facts beside them.

    ``associated_images``: name -> index of the page in the file's chain.
    """

    levels: tuple[StoredImage, ...]
    to_level0: tuple[Affine[Level, Level0], ...]
    facts: SlideFacts
    has_icc_profile: bool


def read_layout(path: Path, series: int | None = None) -> TiffLayout:
    """Reads the directories of a TIFF.

    Raises NotForThisReaderError for what is no TIFF or of a kind that is read by others, and
    SlideError for a damaged one.
    """
    with tifffile_kept_quiet():
        try:
            with TagReader(path) as stream, tifffile.TiffFile(stream) as tiff:
                _refuse_what_others_read(path, tiff)
                check_chain(path, tiff)
                check_tags(path, tiff)
                return _read_layout(path, tiff, series)
        except tifffile.TiffFileError as error:
            if begins_like_tiff(path):
                raise damaged(path, str(error)) from error
            raise NotForThisReaderError(path, "not a TIFF file") from error
        except SlideError:
            raise
        except OSError as error:
            raise SlideError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
        except PARSING_ERRORS as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from error


def _refuse_what_others_read(path: Path, tiff: tifffile.TiffFile) -> None:
    for is_one, name in (
        (tiff.is_ndpi, "Hamamatsu NDPI"),
        (tiff.is_bif, "Ventana BIF"),
        (tiff.is_scn, "Leica SCN"),
    ):
        if is_one:
            raise NotForThisReaderError(path, f"{name} places its tiles by rules of its own")


def _read_layout(path: Path, tiff: tifffile.TiffFile, series: int | None) -> TiffLayout:
    if len(tiff.pages) == 0:
        raise damaged(path, "it has no pages")
    first = tiff.pages.first
    if tiff.is_ome:
        pages = _series_pages(path, tiff, series or 0)
        if len(pages) == 1 and pages[0] is first:  # some write the lower levels as pages of their own
            pages = _pyramid_pages(tiff)
        facts = ome_facts(tiff, series or 0)
    elif series:
        pages = _series_pages(path, tiff, series)
        facts = generic_facts(first) if pages[0] is first else SlideFacts("generic-tiff")
    elif first.description.startswith("Aperio"):
        pages = [page for page in chain_of_pages(tiff) if page.is_tiled]
        facts = aperio_facts(tiff)
    else:
        pages = _pyramid_pages(tiff)
        facts = philips_facts(tiff, len(pages)) or generic_facts(first)
    if not pages:
        raise NotForThisReaderError(path, "none of its pages is tiled")
    images = [_stored_image(path, tiff, page, number) for number, page in enumerate(pages)]
    images, maps = _as_levels(path, images, facts.level_factors)
    return TiffLayout(tuple(images), tuple(maps), facts, 34675 in pages[0].tags)


def _series_pages(path: Path, tiff: tifffile.TiffFile, number: int) -> list[tifffile.TiffPage]:
    """The levels of one image of a file that holds several, as tifffile groups them."""
    if not 0 <= number < len(tiff.series):
        raise SlideError(f"{path}: there is no series {number}; it holds series 0 to {len(tiff.series) - 1}")
    pages = []
    for level in tiff.series[number].levels:
        if len(level.pages) != 1 or level.keyframe.parent is not tiff:
            # An error for good: OpenSlide would show the first channel as if it were the slide.
            raise SlideError(
                f"{path}: series {number} has {len(level.pages)} planes ({level.axes}: channels, depths or "
                "times), which is no brightfield slide; export one RGB image, or choose another with --series"
            )
        pages.append(level.keyframe)
    return pages


def _pyramid_pages(tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The first page and the tiled pages that call themselves reduced images, largest first."""
    first = tiff.pages.first
    reduced = [
        page
        for page in chain_of_pages(tiff)[1:]
        if page.subfiletype & 1 and page.is_tiled and (is_philips(tiff) or _same_shape(first, page))
    ]
    return sorted([first, *reduced], key=lambda page: -page.imagewidth)


def _same_shape(first: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
    """Proportions agree to 5 % or one pixel: not a picture of the label among the levels."""
    wanted = page.imagewidth * first.imagelength / max(first.imagewidth, 1)
    return abs(wanted - page.imagelength) <= max(1.0, 0.05 * wanted)


def _as_levels(
    path: Path, images: Sequence[StoredImage], factors: Sequence[int]
) -> tuple[list[StoredImage], list[Affine[Level, Level0]]]:
    """Levels with where they lie; ``factors`` are the file's own, for levels padded to whole tiles."""
    for larger, smaller in pairwise(images):
        if smaller.size.width > larger.size.width or smaller.size == larger.size:
            raise NotForThisReaderError(path, "its pages are not a pyramid (depths, or not sorted by size)")
    if len(factors) != len(images):
        return list(images), level_maps([image.size for image in images])
    full = images[0].size
    clipped = []
    for image, factor in zip(images, factors, strict=True):
        size = Size(
            max(1, min(image.size.width, full.width // factor)),
            max(1, min(image.size.height, full.height // factor)),
        )
        clipped.append(
            StoredImage(size, image.tile, image.columns, image.offsets, image.counts, image.coding)
        )
    return clipped, [Affine(float(factor), float(factor)) for factor in factors]


def _stored_image(path: Path, tiff: tifffile.TiffFile, page: tifffile.TiffPage, number: int) -> StoredImage:
    size = Size(page.imagewidth, page.imagelength)
    tile = Size(page.tilewidth, page.tilelength) if page.is_tiled else Size(size.width, page.rowsperstrip)
    if min(size.width, size.height, tile.width, tile.height) < 1:
        raise damaged(path, f"level {number} has {size.width} x {size.height} px")
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    coding = _coding(path, page, number, planes)
    if tile.width * tile.height * page.samplesperpixel > LARGEST_TILE_BYTES:
        raise SlideError(
            f"{path}: a tile of level {number} has {tile.width} x {tile.height} px, more than 256 MiB; "
            "convert the slide to a tiled pyramid"
        )
    columns, rows = -(-size.width // tile.width), -(-size.height // tile.height)
    offsets, counts = _tile_tables(path, tiff, page, number, (planes, rows * columns))
    there = np.flatnonzero(offsets[0] * (counts[0] > 0))
    if coding.compression == JPEG and there.size:
        tiff.filehandle.seek(int(offsets[0, there[0]]))
        coding = replace(coding, is_jfif=b"JFIF" in tiff.filehandle.read(32))
    return StoredImage(size, tile, columns, offsets, counts, coding, page.is_tiled)


def _tile_tables(
    path: Path, tiff: tifffile.TiffFile, page: tifffile.TiffPage, number: int, shape: tuple[int, int]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Offsets and byte counts (planes, tiles), checked: complete, and inside of the file."""
    tables = [np.asarray(table, np.uint64) for table in (page.dataoffsets, page.databytecounts)]
    # The tuples of a gigapixel slide weigh 100 MB, and tifffile's cycles would keep them for a while.
    page.dataoffsets = page.databytecounts = ()
    for code in {273, 279, 324, 325} & set(page.tags.keys()):
        page.tags[code].value = ()
    needed = shape[0] * shape[1]
    if any(table.shape != (needed,) for table in tables):
        raise damaged(path, f"level {number} needs {needed} tiles and lists {min(t.size for t in tables)}")
    offsets, counts = (table.reshape(shape) for table in tables)
    end = tiff.filehandle.size
    # Compared so that no sum of two hostile numbers wraps around.
    outside = (offsets > end) | (counts > end - np.minimum(offsets, end))
    if (outside & (offsets != 0) & (counts != 0)).any():
        raise damaged(path, f"tiles of level {number} lie past the file's end at {end} bytes")
    if counts.max(initial=0) > LARGEST_TILE_BYTES:
        raise damaged(path, f"a tile of level {number} claims {int(counts.max())} bytes")
    return offsets, counts


def _coding(path: Path, page: tifffile.TiffPage, number: int, planes: int) -> TileCoding:
    """How the page's tiles are stored; NotForThisReaderError where it is no 8-bit RGB or grey image."""
    bits, samples, photometric = page.bitspersample, page.samplesperpixel, int(page.photometric)
    if bits != 8 or page.sampleformat != 1 or (samples, photometric) not in ((3, RGB), (3, YCBCR), (1, GREY)):
        raise NotForThisReaderError(
            path,
            f"level {number} has {samples} channel(s) of {bits} bits (photometric {photometric}), "
            "not 8-bit RGB of a brightfield slide",
        )
    orientation = page.tags.valueof(274, 1)
    if orientation not in (0, 1) or page.imagedepth != 1 or page.fillorder != 1:
        raise NotForThisReaderError(path, f"level {number} is turned, or a volume")
    coding = TileCoding(
        int(page.compression), photometric, samples // planes, int(page.predictor), page.jpegtables
    )
    if not coding.is_supported or (planes > 1 and photometric != RGB):
        raise NotForThisReaderError(path, f"level {number} has compression {coding.compression}")
    return coding
