"""Tiled TIFF slides, decoded straight from the file: the pixels of OpenSlide, several times faster.

Bytes are read at their position without a shared file pointer and decoded in the thread that asks for
them, so threads do not wait for each other.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Mpp, Size
from wsi_cam.slides.regions import part_on_level, region_error, require_associated_image
from wsi_cam.slides.slide import LevelInfo, PixelBox, SlideInfo, with_given_mpp
from wsi_cam.slides.tiff_checks import PARSING_ERRORS, NotForThisReaderError
from wsi_cam.slides.tiff_facts import read_picture
from wsi_cam.slides.tiff_file import TiffFile
from wsi_cam.slides.tiff_layout import TiffLayout, read_layout
from wsi_cam.slides.tile_decoding import DECODING_ERRORS, RGB


class TiffReader:
    """Aperio SVS, generic and Philips pyramids, and OME-TIFF with SubIFDs.

    The pixels of every level are those that the file stores, at their own places: pixel (x, y) of a level
    is the stored one. OpenSlide, asked for the same box at a level-0 position that is a whole multiple
    of the level's downsample, gives the same; in between it interpolates, this reader never does.
    Tiles that were never written are white. With ``like_openslide`` a file of which OpenSlide would
    make something else is refused with NotForThisReaderError.
    """

    def __init__(
        self, path: Path, series: int | None = None, mpp: Mpp | None = None, *, like_openslide: bool = False
    ) -> None:
        if path.is_dir():
            raise NotForThisReaderError(path, "a folder")
        self._path, self._series = path, series
        self._closed = False
        self._opening = threading.Lock()
        layout = read_layout(path, series)
        # Of an OME-TIFF OpenSlide knows the first level at most, and nothing of what its XML says.
        if like_openslide and not series and layout.facts.vendor != "ome-tiff":
            _refuse_what_openslide_shows_otherwise(path, layout)
        self._info = with_given_mpp(_read_info(path, layout, series or 0), mpp)
        self._pictures = dict(layout.facts.associated_images)
        self._open_file: TiffFile | None = TiffFile(path, layout)
        self._try_first_tiles(self._open_file)

    @property
    def info(self) -> SlideInfo:
        return self._info

    def read_region(self, level: int, box: PixelBox) -> NDArray[np.uint8]:
        """As :meth:`wsi_cam.slides.slide.Slide.read_region`."""
        part = part_on_level(self._info, level, box)
        opened = self._file()
        try:
            if part == box and _is_one_tile(box, opened.layout.levels[level].tile):
                return _whole_tile(opened, level, box)
            pixels = np.empty((box[3], box[2], 3), np.uint8)
            if part != box:
                pixels.fill(255)
            if part is not None:
                x, y, width, height = part[0] - box[0], part[1] - box[1], part[2], part[3]
                _paste_tiles(opened, level, part, pixels[y : y + height, x : x + width])
            return pixels
        except (OSError, *DECODING_ERRORS) as error:
            raise region_error(self._info, level, box, error) from error

    def read_associated_image(self, name: str) -> NDArray[np.uint8]:
        """As :meth:`wsi_cam.slides.slide.Slide.read_associated_image`."""
        require_associated_image(self._info, name)
        try:
            return read_picture(self._path, self._pictures[name])
        except (OSError, *PARSING_ERRORS) as error:
            raise SlideError(f"{self._path}: cannot read the image {name!r}: {error}") from error

    def close(self) -> None:
        """Lets go of the file; reading is over. A read under way in another thread ends as it should."""
        with self._opening:
            self._closed, self._open_file = True, None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_open_file", "_opening")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_file = None
        self._opening = threading.Lock()

    def _file(self) -> TiffFile:
        """The file as this process opened it, at its first read where that was not done here."""
        opened = self._open_file
        if opened is not None and opened.process == os.getpid():
            return opened
        with self._opening:
            if self._closed:
                raise SlideError(f"{self._path}: the slide was closed; open it again")
            opened = self._open_file
            if opened is None or opened.process != os.getpid():
                opened = self._open_file = TiffFile(self._path, read_layout(self._path, self._series))
            return opened

    def _try_first_tiles(self, opened: TiffFile) -> None:
        """One tile of each level, so that a kind of tile that cannot be decoded is known at once."""
        for level, image in enumerate(opened.layout.levels):
            there = np.flatnonzero((image.offsets[0] != 0) & (image.counts[0] != 0))
            if there.size:
                row, column = divmod(int(there[0]), image.columns)
                try:
                    opened.tile(level, column, row)
                except (OSError, *DECODING_ERRORS) as error:
                    cause = f"the first tile of level {level} cannot be decoded: {error}"
                    raise NotForThisReaderError(self._path, cause) from error


def _is_one_tile(box: PixelBox, tile: Size) -> bool:
    """Whether a box inside of a level is exactly one of its tiles."""
    x, y, width, height = box
    return (width, height) == (tile.width, tile.height) and x % width == 0 and y % height == 0


def _whole_tile(opened: TiffFile, level: int, box: PixelBox) -> NDArray[np.uint8]:
    pixels = opened.tile_used_up(level, box[0] // box[2], box[1] // box[3])
    return pixels if pixels.flags.writeable else pixels.copy()


def _paste_tiles(opened: TiffFile, level: int, box: PixelBox, pixels: NDArray[np.uint8]) -> None:
    """Fills ``pixels`` with a box that lies inside of the level."""
    tile = opened.layout.levels[level].tile
    left, top, width, height = box
    right, bottom = left + width, top + height
    for row in range(top // tile.height, -(-bottom // tile.height)):
        y0, y1 = max(row * tile.height, top), min((row + 1) * tile.height, bottom)
        for column in range(left // tile.width, -(-right // tile.width)):
            x0, x1 = max(column * tile.width, left), min((column + 1) * tile.width, right)
            covered = x1 - x0 == tile.width and y1 - y0 == tile.height
            stored = (opened.tile_used_up if covered else opened.tile)(level, column, row)
            pixels[y0 - top : y1 - top, x0 - left : x1 - left] = stored[
                y0 - row * tile.height : y1 - row * tile.height,
                x0 - column * tile.width : x1 - column * tile.width,
            ]


def _refuse_what_openslide_shows_otherwise(path: Path, layout: TiffLayout) -> None:
    for number, image in enumerate(layout.levels):
        if image.has_missing_tiles:
            raise NotForThisReaderError(path, f"level {number} has tiles that were never written")
        if image.coding.is_jfif and image.coding.photometric == RGB:
            raise NotForThisReaderError(
                path, f"level {number} calls its colours RGB in TIFF and YCbCr in JPEG"
            )


def _read_info(path: Path, layout: TiffLayout, series: int) -> SlideInfo:
    facts = layout.facts
    levels = tuple(
        LevelInfo(image.size, to_level0, image.tile)
        for image, to_level0 in zip(layout.levels, layout.to_level0, strict=True)
    )
    return SlideInfo(
        path=path,
        reader="tiff",
        vendor=facts.vendor,
        levels=levels,
        mpp=facts.mpp,
        mpp_source=facts.mpp_source,
        associated_images=tuple(sorted(facts.associated_images)),
        has_icc_profile=layout.has_icc_profile,
        objective_power=facts.objective_power,
        series=series,
    )
