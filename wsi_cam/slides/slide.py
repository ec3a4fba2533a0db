"""What a slide is, whatever file it came from, and who can read it.

A new kind of file is one new module, one line in :data:`READERS` and one subclass of the contract in
``tests/slides/contract.py``.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import SlideError, SpacingError
from wsi_cam.geometry import Affine, Box, Level, Level0, Mpp, S, Size
from wsi_cam.slides.dicom_series import series_in_folder, series_uid

#: Spacings outside of this range (um/px) are no spacings of a slide scanner but mistakes of a header.
PLAUSIBLE_MPP = (0.05, 20.0)

#: Bounds of what one call may ask for, so that an absurd header ends in an error and not in swap.
LARGEST_REGION_BYTES = 2**30
LARGEST_TILE_BYTES = 2**28

#: What a search of folders takes for a slide, by the end of its name in lower case.
SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm"}
)

PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class LevelInfo:
    """One level of a slide's pyramid. ``tile_size``: its storage block, None where unknown."""

    size: Size
    to_level0: Affine[Level, Level0]
    tile_size: Size | None = None


@dataclass(frozen=True)
class SlideInfo:
    """Facts of a slide, known when it is opened.

    ``mpp`` is what the file claims, plausible or not (:func:`require_mpp` decides); ``mpp_source``
    says where it came from, "" where there is none. ``bounds`` is the scanned part of level 0 where
    the file states one.
    """

    path: Path
    reader: str
    vendor: str
    levels: tuple[LevelInfo, ...]
    mpp: Mpp | None = None
    mpp_source: str = ""
    bounds: Box[Level0] | None = None
    associated_images: tuple[str, ...] = ()
    has_icc_profile: bool = False
    objective_power: float | None = None
    series: int = 0

    @property
    def size(self) -> Size:
        """Of level 0."""
        return self.levels[0].size

    def level_for(self, to_level0: Affine[S, Level0]) -> int:
        """The coarsest level that is at least as fine as pixels of this transform; level 0 where none is."""
        fine = [
            number
            for number, level in enumerate(self.levels)
            if level.to_level0.scale_x <= to_level0.scale_x * 1.001
            and level.to_level0.scale_y <= to_level0.scale_y * 1.001
        ]
        return max(fine, key=lambda number: self.levels[number].to_level0.scale_x, default=0)

    def as_dict(self) -> dict[str, Any]:
        """The same facts as JSON takes them."""
        facts = asdict(self)
        return {**facts, "path": str(self.path), "levels": list(facts["levels"]), "size": asdict(self.size)}


class Slide(Protocol):
    """A slide that is open for reading, from any number of threads.

    It can be pickled; a copy in another process opens the file for itself at its first read.
    """

    @property
    def info(self) -> SlideInfo: ...

    def read_region(self, level: int, box: PixelBox) -> NDArray[np.uint8]:
        """RGB (height, width, 3) of a box (x, y, width, height) in whole pixels of ``level``.

        What lies outside of the slide, was never scanned or is transparent is white. Raises
        SlideError naming file, level, box and cause.
        """
        ...

    def read_associated_image(self, name: str) -> NDArray[np.uint8]:
        """RGB (height, width, 3) of one of ``info.associated_images``; raises SlideError."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _open_with_openslide(path: Path, series: int | None, mpp: Mpp | None) -> Slide:
    from wsi_cam.slides.openslide_reader import OpenSlideReader

    return OpenSlideReader(path, series, mpp)


def _open_with_tifffile(path: Path, series: int | None, mpp: Mpp | None) -> Slide:
    from wsi_cam.slides.tiff_reader import TiffReader

    return TiffReader(path, series, mpp)


#: Readers by name. Each opens (path, series, spacing to use in place of the file's) or raises SlideError.
READERS: dict[str, Callable[[Path, int | None, Mpp | None], Slide]] = {
    "tiff": _open_with_tifffile,
    "openslide": _open_with_openslide,
}

#: Formats, as OpenSlide names them, whose pixels the TIFF reader takes from the file one to one.
_TIFF_READER_KNOWS = {"aperio", "generic-tiff", "philips"}


def open_slide(
    path: str | Path, reader: str = "auto", mpp: float | Mpp | None = None, series: int | None = None
) -> Slide:
    """Opens a slide: a file, or a folder that holds the files of one DICOM series.

    ``reader``: a name in :data:`READERS`, or "auto": the TIFF reader where it gives exactly what
    OpenSlide gives (or where OpenSlide gives nothing, as for pyramids of OME-TIFF), else OpenSlide.
    ``mpp``: spacing in um/px that replaces the file's. ``series``: which image of a file that holds
    several. Raises SlideError naming the file, the cause, and what each reader said.
    """
    path = Path(path)
    spacing = mpp if isinstance(mpp, Mpp) or mpp is None else Mpp(mpp, mpp)
    if spacing is not None and not (_is_plausible(spacing.x) and _is_plausible(spacing.y)):
        low, high = PLAUSIBLE_MPP
        raise SpacingError(
            f"{path}: {spacing.x:g} x {spacing.y:g} um/px is no spacing of a slide; "
            f"give one between {low:g} and {high:g}"
        )
    if reader != "auto" and reader not in READERS:
        raise SlideError(f"{path}: there is no reader {reader!r}; choose auto, {', '.join(READERS)}")
    check_path(path)
    if reader == "auto":
        return _open_with_the_best(path, series, spacing)
    return READERS[reader](path, series, spacing)


def is_slide(path: Path) -> bool:
    """Whether a search of folders should take this path for one slide; the file is opened for DICOM only.

    A folder is a slide where its DICOM files are of one series. Where they are of several, the first
    file of each series stands for it. What has the name of a slide and cannot be one (a link to nothing, a
    pipe) is taken too: opening it says what is wrong, leaving it out would say nothing.
    """
    if path.is_dir():
        return path.suffix.lower() not in SLIDE_SUFFIXES and len(series_in_folder(path)) == 1
    if path.suffix.lower() == ".dcm" and path.is_file():
        uid = series_uid(path)
        return uid is not None and series_in_folder(path.parent)[uid][0].name == path.name
    return path.suffix.lower() in SLIDE_SUFFIXES


def check_path(path: Path) -> None:
    """The plain mistakes, each in its own words: raises SlideError for what is no file that can be read."""
    try:
        status = path.stat()
        is_folder, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
        if is_file:  # opening a pipe would wait for somebody who writes into it
            with path.open("rb"):
                pass
    except FileNotFoundError as error:
        raise SlideError(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise SlideError(
            f"{path}: cannot be read ({error.strerror or error}); check its permissions"
        ) from error
    if not (is_folder or is_file):
        raise SlideError(f"{path}: this is no ordinary file but a pipe or a device; name a slide's file")
    if is_file and status.st_size == 0:
        raise SlideError(f"{path}: the file is empty; copy it again from its source")


def _open_with_the_best(path: Path, series: int | None, mpp: Mpp | None) -> Slide:
    """The TIFF reader where it is exact, else OpenSlide; what both said where neither can."""
    from wsi_cam.slides.openslide_reader import OpenSlideReader, detect_vendor
    from wsi_cam.slides.tiff_checks import NotForThisReaderError
    from wsi_cam.slides.tiff_reader import TiffReader

    vendor = detect_vendor(path)
    said: list[str] = []
    if not path.is_dir() and (vendor is None or vendor in _TIFF_READER_KNOWS):
        try:
            return TiffReader(path, series, mpp, like_openslide=vendor is not None)
        except NotForThisReaderError as error:
            said.append(f"TIFF reader: {error.reason}")
    try:
        return OpenSlideReader(path, series, mpp)
    except SlideError as error:
        if not said:
            raise
        said.append(f"OpenSlide: {str(error).removeprefix(f'{path}: ').partition(';')[0]}")
        raise SlideError(
            f"{path}: no reader can open this file ({'; '.join(said)}); "
            "check that it is a slide and was copied completely"
        ) from error


def with_given_mpp(info: SlideInfo, mpp: Mpp | None) -> SlideInfo:
    """The same facts with the caller's spacing in place of the file's, if there is one."""
    return info if mpp is None else replace(info, mpp=mpp, mpp_source="given")


def require_mpp(info: SlideInfo) -> Mpp:
    """The spacing of level 0, or a SpacingError that says what to do where it is missing or implausible."""
    if info.mpp is None:
        raise SpacingError(
            f"{info.path}: the file does not say its pixel spacing; give it with --mpp (um/px of level 0)"
        )
    if not (_is_plausible(info.mpp.x) and _is_plausible(info.mpp.y)):
        raise SpacingError(
            f"{info.path}: a spacing of {info.mpp.x:g} x {info.mpp.y:g} um/px (from {info.mpp_source}) is "
            "implausible; give the right one with --mpp (um/px of level 0)"
        )
    return info.mpp


def plausible_mpp(x: float | None, y: float | None) -> Mpp | None:
    """Both as a spacing in um/px where they can be one; one stands for both where the other is missing."""
    x, y = (y if x is None else x), (x if y is None else y)
    return Mpp(x, y) if x and y and _is_plausible(x) and _is_plausible(y) else None


def _is_plausible(um_per_px: float) -> bool:
    return PLAUSIBLE_MPP[0] <= um_per_px <= PLAUSIBLE_MPP[1]
