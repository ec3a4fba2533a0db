"""Which reader opens a file, and what can be one.

A new kind of file is one new module, one line in :data:`READERS` and one subclass of the contract in
``tests/slides/contract.py``.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from wsi_cam.errors import SlideError, SpacingError
from wsi_cam.geometry import Mpp
from wsi_cam.slides.dicom_series import series_in_folder, series_uid
from wsi_cam.slides.slide import PLAUSIBLE_MPP, Slide, is_plausible

#: What a search of folders takes for a slide, by the end of its name in lower case.
SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm"}
)


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
    if spacing is not None and not (is_plausible(spacing.x) and is_plausible(spacing.y)):
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
