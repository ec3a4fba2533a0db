"""Masks that are pictures of the whole level 0: 0 where there is nothing, any other value where there is.

HistoQC, slide2vec, ASAP and others write them, from small PNGs to pyramids of the slide's own size.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from wsi_cam.errors import OutlineError, TissueError
from wsi_cam.geometry import Affine, Level0, Mpp, Size, Thumbnail
from wsi_cam.tiling.tissue import TissueMask

TIFF_SUFFIXES = (".tif", ".tiff")
MASK_SUFFIXES = (*TIFF_SUFFIXES, ".png")

Sampled = tuple[NDArray[np.bool_], Affine[Thumbnail, Level0]]
"""A mask (height, width), and where its pixels lie."""

#: A PNG is unpacked whole, at up to 4 bytes a pixel.
_MOST_PNG_PIXELS = 180_000_000
#: Of a TIFF a tile or strip at a time is.
_MOST_TILE_BYTES = 1 << 30
#: None, LZW, JPEG and deflate, by their two numbers.
_COMPRESSIONS = (1, 5, 7, 8, 32946)
#: What tifffile, Pillow and their decoders raise over damaged files, as mutated ones showed.
_UNREADABLE = (
    OSError, ValueError, LookupError, RuntimeError, ArithmeticError, TypeError, AttributeError, MemoryError,
    SyntaxError, struct.error,
)  # fmt: skip


def is_mask_picture(path: Path) -> bool:
    """Whether a file is taken for a mask picture, by the end of its name."""
    return path.suffix.lower() in MASK_SUFFIXES


def tissue_from_picture(path: Path, size: Size, mpp: Mpp, pixel_um: float) -> TissueMask:
    """A mask picture in place of the tissue that would be found, at about ``pixel_um``.

    ``size`` and ``mpp`` are those of level 0. Raises OutlineError as :func:`read_mask`, TissueError where the
    mask is empty.
    """
    mask, to_level0 = read_mask(path, size, mpp, pixel_um)
    if not mask.any():
        raise TissueError(f"{path}: the mask is empty, no pixel differs from 0; is it this slide's?")
    return TissueMask(mask, to_level0, str(path))


def require_mask_picture(path: Path) -> None:
    """Opens the file as far as its header. Raises OutlineError where it is no picture that can be a mask."""
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as tiff:
                _pages(path, tiff)
        else:
            with _open_png(path):
                pass
    except OutlineError:
        raise
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def read_mask(path: Path, size: Size | None, mpp: Mpp, pixel_um: float) -> Sampled:
    """A PNG or TIFF mask sampled at pixel centres, at about ``pixel_um`` or its own spacing if that is more.

    ``size`` and ``mpp`` are those of level 0, all of which the mask covers; without a size it is the mask's
    own. Of a pyramid the coarsest level that is fine enough is read, tile by tile. Raises OutlineError for a
    file that cannot be read, is no picture of one channel (PNGs may be RGB), or has not the slide's shape.
    """
    try:
        if path.suffix.lower() not in TIFF_SUFFIXES:
            return _read_png(path, size, mpp, pixel_um)
        with tifffile.TiffFile(path) as tiff:
            pages = _pages(path, tiff)
            size = size or Size(pages[0].imagewidth, pages[0].imagelength)
            _demand_same_shape(path, Size(pages[0].imagewidth, pages[0].imagelength), size)
            for page in pages:
                _demand_plain_coding(path, page)
            fine = [p for p in pages if size.width / p.imagewidth * mpp.x <= pixel_um] or pages[:1]
            fitting = [p for p in fine if _same_shape(Size(p.imagewidth, p.imagelength), size)]
            return _sampled_page(fitting[-1], size, mpp, pixel_um)
    except OutlineError:
        raise
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> OutlineError:
    if isinstance(error, FileNotFoundError):
        return OutlineError(f"{path}: no such file; give the mask's path")
    kind = "TIFF" if path.suffix.lower() in TIFF_SUFFIXES else "PNG"
    return OutlineError(f"{path}: no readable mask {kind} ({type(error).__name__}: {error}); write it again")


def _pages(path: Path, tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The pictures of one channel in the file, the largest first."""
    pages = [level.keyframe for series in tiff.series for level in series.levels]
    pages = sorted((p for p in pages if len(p.shape) == 2), key=lambda p: -p.imagewidth)
    if not pages:
        raise OutlineError(f"{path}: holds no picture of one channel; write the mask as one")
    return pages


def _demand_plain_coding(path: Path, page: tifffile.TiffPage) -> None:
    """Masks are written in few ways; decoders of other ones may crash where a damaged tag asks for them."""
    coding = int(page.compression), int(page.predictor), int(page.fillorder), page.bitspersample
    known = _COMPRESSIONS, (1, 2), (1,), (1, 8, 16, 32)
    if any(value not in values for value, values in zip(coding, known, strict=True)):
        raise OutlineError(
            f"{path}: a mask of compression {coding[0]}, predictor {coding[1]}, fill order {coding[2]} and "
            f"{coding[3]} bits is not read; write it with deflate, LZW or none"
        )
    tile_bytes = math.prod(page.chunks) * page.dtype.itemsize if page.dtype else 0
    if tile_bytes > _MOST_TILE_BYTES:
        raise OutlineError(
            f"{path}: a mask in tiles or strips of {tile_bytes >> 20} MiB is not read; write smaller ones"
        )


def _sampled_page(page: tifffile.TiffPage, size: Size, mpp: Mpp, pixel_um: float) -> Sampled:
    to_level0, x, y = _lattice(Size(page.imagewidth, page.imagelength), size, mpp, pixel_um)
    mask = np.zeros((len(y), len(x)), np.bool_)
    for segment, place, shape in page.segments():
        if segment is None:
            continue  # a tile that was not written is empty
        top, left = place[2], place[3]
        rows = slice(*np.searchsorted(y, [top, top + shape[1]]))
        columns = slice(*np.searchsorted(x, [left, left + shape[2]]))
        mask[rows, columns] = segment[0, :, :, 0][np.ix_(y[rows] - top, x[columns] - left)] != 0
    return mask, to_level0


def _open_png(path: Path) -> PngImageFile:
    """As far as its header. Not by ``Image.open``, which warns of large pictures and has its own limit."""
    picture = PngImageFile(path)
    if picture.width * picture.height > _MOST_PNG_PIXELS:
        picture.close()
        raise OutlineError(
            f"{path}: a PNG of {picture.width} x {picture.height} px is not read, since it would be unpacked "
            "whole; write the mask smaller, or as a tiled TIFF"
        )
    return picture


def _read_png(path: Path, size: Size | None, mpp: Mpp, pixel_um: float) -> Sampled:
    with _open_png(path) as picture:
        own = Size(*picture.size)
        size = size or own
        _demand_same_shape(path, own, size)
        to_level0, x, y = _lattice(own, size, mpp, pixel_um)
        mask = np.empty((len(y), len(x)), np.bool_)
        for top, sampled in zip(y.tolist(), mask, strict=True):  # a copy of all may weigh a gigabyte
            row = picture.crop((0, top, own.width, top + 1))
            # Opacity says nothing of what a mask means.
            plain = row if row.mode in ("1", "L", "P", "I", "I;16") else row.convert("RGB")
            values = np.asarray(plain)[0, x] != 0
            sampled[:] = values.any(axis=1) if values.ndim == 2 else values
    return mask, to_level0


def _lattice(
    picture: Size, size: Size, mpp: Mpp, pixel_um: float
) -> tuple[Affine[Thumbnail, Level0], NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of about ``pixel_um`` over level 0, and the picture's columns and rows at their centres."""
    picture_x, picture_y = size.width / picture.width, size.height / picture.height
    step_x, step_y = max(pixel_um / mpp.x, picture_x), max(pixel_um / mpp.y, picture_y)
    width, height = max(1, round(size.width / step_x)), max(1, round(size.height / step_y))
    to_level0 = Affine[Thumbnail, Level0](size.width / width, size.height / height)
    x = ((np.arange(width) + 0.5) * to_level0.scale_x / picture_x).astype(np.int64)
    y = ((np.arange(height) + 0.5) * to_level0.scale_y / picture_y).astype(np.int64)
    return to_level0, x, y


def _same_shape(mask: Size, slide: Size) -> bool:
    """To a hundredth, or to the pixel that a small level leaves out."""
    x, y = slide.width / mask.width, slide.height / mask.height
    return abs(x - y) <= max(x, y) * max(0.01, 1 / min(mask.width, mask.height))


def _demand_same_shape(path: Path, mask: Size, slide: Size) -> None:
    if not _same_shape(mask, slide):
        raise OutlineError(
            f"{path}: a mask of {mask.width} x {mask.height} px does not fit a slide of {slide.width} x "
            f"{slide.height} px; a mask covers the whole of level 0"
        )
