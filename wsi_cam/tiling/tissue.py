"""From a small picture of the slide to the places where there is tissue.

Stained tissue is coloured and glass is not, so the measure is colour: the difference between the
largest and the smallest channel once the glass is white. Otsu's threshold on it (N. Otsu, IEEE Trans.
SMC 9, 1979) parts the two, within fixed limits, because a slide may be nearly all glass or nearly all
tissue, and then Otsu would part noise from noise or dark tissue from pale. Grey things (dust, black
borders, edges of the cover slip) have no colour and stay out. Coloured pen does not: it counts
as tissue.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from wsi_cam.errors import TissueError
from wsi_cam.geometry import Affine, Level0, Mpp, Thumbnail

# Pictures here have up to 4 096 px a side, and every array made of one weighs 16 MiB. NumPy turns what it
# counts and what it indexes with into 64 bit, eight times that: therefore rows and strips in places below.
_STRIP_ROWS = 64

log = logging.getLogger(__name__)

MIN_FRAGMENT_MM2 = 0.004
"""Smaller coloured spots are dropped: a square of 63 um, less than half of a patch of 93 um."""
MAX_HOLE_MM2 = 0.03
"""Smaller gaps are filled (alveoli, fat cells, small vessels and glands): a square of 173 um."""

# Grey levels of 8-bit pictures. The dark ones separate light that came through a slide from none.
_BLACK = 16
_DARK = 50
_LIT = 90
_NEARLY_WHITE = 200
_GLASS_LIT = 170
_GLASS_TINT = 20
_GLASS_SPREAD = 6
_BLUR_PX = 0.6
_COLOUR_LIMITS = (8, 25)
"""Least colour of tissue: above JPEG's noise on glass, below pale eosin, whatever Otsu says."""


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Where there is tissue: one bool per thumbnail pixel, each standing for its whole square."""

    mask: NDArray[np.bool_]
    """(height, width) bool; True is tissue."""
    to_level0: Affine[Thumbnail, Level0]
    source: str
    """Where the mask comes from, in words for messages and provenance: ``colour`` or a file's path."""

    def area_mm2(self, mpp: Mpp) -> float:
        """Area of the tissue in mm2; ``mpp`` is the spacing of level 0."""
        return float(np.count_nonzero(self.mask)) * pixel_mm2(self.to_level0, mpp)


def pixel_mm2(to_level0: Affine[Thumbnail, Level0], mpp: Mpp) -> float:
    """Area of one thumbnail pixel in mm2; ``mpp`` is the spacing of level 0."""
    return to_level0.scale_x * mpp.x * to_level0.scale_y * mpp.y * 1e-6


def find_tissue(
    thumbnail: NDArray[np.uint8],
    to_level0: Affine[Thumbnail, Level0],
    slide_mpp: Mpp,
    min_fragment_mm2: float = MIN_FRAGMENT_MM2,
    max_hole_mm2: float = MAX_HOLE_MM2,
) -> TissueMask:
    """Finds the tissue on ``thumbnail``, uint8 (height, width, 3) RGB, about 8 um per pixel.

    ``slide_mpp`` is the spacing of level 0; areas are in mm2 on the slide. Gaps smaller than
    ``max_hole_mm2`` are filled first, then fragments smaller than ``min_fragment_mm2`` are dropped.
    Raises TissueError, with the reason, where the picture is not that of a brightfield slide, and where
    no tissue is found.
    """
    if thumbnail.dtype != np.uint8 or thumbnail.ndim != 3 or thumbnail.shape[2] != 3 or not thumbnail.size:
        raise ValueError(f"a thumbnail is uint8 (height, width, 3), not {thumbnail.dtype} {thumbnail.shape}")
    # A touch of blur takes noise out of the glass; more would wash out the membranes of fat cells.
    planes = np.empty((3, *thumbnail.shape[:2]), np.uint8)
    for channel, plane in enumerate(planes):
        ndimage.gaussian_filter(thumbnail[..., channel], _BLUR_PX, output=plane, mode="nearest")
    reason = _why_not_brightfield(planes)
    if reason is not None:
        raise TissueError(
            f"not a brightfield slide: {reason}; if it is one, draw a region and give it with --tissue"
        )
    lit = np.empty(planes.shape[1:], np.bool_)
    for rows in _strips(planes):
        lit[rows] = planes[:, rows].max(axis=0) >= _DARK
    colour = _colour(planes)
    counts = _histogram(colour, lit)
    threshold = _colour_threshold(counts)
    mask = (colour >= threshold) & lit
    del planes, colour, lit  # what follows takes as much again
    coloured = int(np.count_nonzero(mask))
    pixel = pixel_mm2(to_level0, slide_mpp)
    smallest = min(min_fragment_mm2 / pixel, mask.size / 10)  # a crop may be smaller than a fragment
    np.logical_not(mask, out=mask)
    _drop_small(mask, max_hole_mm2 / pixel, smallest)
    np.logical_not(mask, out=mask)
    _drop_small(mask, smallest, smallest)
    log.debug("tissue: colour threshold %d, %d of %d pixels", threshold, mask.sum(), mask.size)
    if not mask.any():
        raise TissueError(_why_no_tissue(int(np.flatnonzero(counts)[-1]), coloured * pixel, min_fragment_mm2))
    return TissueMask(mask, to_level0, "colour")


def _why_not_brightfield(planes: NDArray[np.uint8]) -> str | None:
    """None for a brightfield slide: light comes through glass and through tissue, black is the rim.

    ``planes`` (3, height, width) are its red, green and blue.
    """
    n_dark = n_lit = n_seen = n_nearly_white = n_without_a_channel = 0
    for rows in _strips(planes):
        brightest, darkest = planes[:, rows].max(axis=0), planes[:, rows].min(axis=0)
        lit = brightest >= _LIT
        n_dark += int(np.count_nonzero(brightest < _DARK))
        n_lit += int(np.count_nonzero(lit))
        n_seen += int(np.count_nonzero(brightest >= _BLACK))
        n_nearly_white += int(np.count_nonzero(darkest >= _NEARLY_WHITE))
        n_without_a_channel += int(np.count_nonzero(lit & (darkest < brightest // 10)))
    n_pixels = planes[0].size
    dark = n_dark / n_pixels
    if n_lit < 0.5 * max(n_seen, 1):
        return f"{dark:.0%} of it is dark and most of the rest dim, as in fluorescence"
    if dark > 0.5 and n_nearly_white < 0.01 * n_pixels:
        return f"{dark:.0%} of it is dark and none of it glass, as in fluorescence"
    # A stain absorbs some of every colour; a channel that is not there at all was never exposed.
    if n_without_a_channel > 0.5 * n_lit:
        return "most of it holds only one or two colour channels, as in fluorescence"
    return None


def _strips(planes: NDArray[np.uint8]) -> Iterator[slice]:
    """Rows of ``planes`` (3, height, width), so few at a time that what is made of them weighs nothing."""
    for start in range(0, planes.shape[1], _STRIP_ROWS):
        yield slice(start, start + _STRIP_ROWS)


def _colour(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Largest minus smallest of the three ``planes`` (3, height, width), which it overwrites.

    First the colour of the glass, where there is any, is made white.
    """
    white = _colour_of_glass(planes)
    if white is not None:
        for plane, level in zip(planes, white, strict=True):
            to_white = np.minimum(np.rint(np.arange(256) * (255 / level)), 255).astype(np.uint8)
            for row in plane:
                row[:] = to_white[row]
    colour: NDArray[np.uint8] = planes.max(axis=0)
    colour -= planes.min(axis=0)
    return colour


def _colour_of_glass(planes: NDArray[np.uint8]) -> list[int] | None:
    """The red, green and blue of empty glass: bright, pale and everywhere the same; None where none is."""
    darkest, glass = planes.min(axis=0), np.empty(planes.shape[1:], np.bool_)
    for rows in _strips(planes):
        low = darkest[rows]
        glass[rows] = (low >= _GLASS_LIT) & (planes[:, rows].max(axis=0) - low < _GLASS_TINT)
        glass[rows] &= low < 255  # pure white is the area that was never scanned
    if np.count_nonzero(glass) < 0.001 * glass.size:
        return None
    glass &= darkest >= _median(_histogram(darkest, glass))
    white = [_median(_histogram(plane, glass)) for plane in planes]
    bright_half = np.count_nonzero(glass)
    for plane, level in zip(planes, white, strict=True):
        for rows in _strips(planes):
            part = plane[rows]
            glass[rows] &= (part >= level - _GLASS_SPREAD) & (part <= min(level + _GLASS_SPREAD, 255))
    # Pale tissue can be as bright as glass, but it has texture.
    return white if np.count_nonzero(glass) > 0.5 * bright_half else None


def _histogram(plane: NDArray[np.uint8], where: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How often each of the 256 values stands in ``plane``, where ``where`` is True."""
    counts = np.zeros(256, np.int64)
    for values, chosen in zip(plane, where, strict=True):
        counts += np.bincount(values[chosen], minlength=256)
    return counts


def _median(histogram: NDArray[np.int64]) -> int:
    return int(np.searchsorted(np.cumsum(histogram), histogram.sum() / 2))


def _colour_threshold(histogram: NDArray[np.int64]) -> int:
    """Otsu's threshold on the logarithm of colour, within limits, from the 256 counts of colour.

    The logarithm weighs pale tissue against glass as it weighs strongly stained tissue against pale.
    """
    present = np.flatnonzero(histogram)
    if len(present) < 2:
        return _COLOUR_LIMITS[1]  # one colour all over: nothing to part
    occupied = slice(present[0], present[-1] + 1)
    values = np.log1p(np.arange(256))
    last_of_glass = threshold_otsu(hist=(histogram[occupied], values[occupied]))  # type: ignore[no-untyped-call]
    return int(np.clip(np.searchsorted(values, last_of_glass) + 1, *_COLOUR_LIMITS))


def _drop_small(mask: NDArray[np.bool_], min_pixels: float, min_pixels_at_edge: float) -> None:
    """Takes the connected parts (over edges and corners) of fewer than ``min_pixels`` out of ``mask``.

    For parts that reach the picture's edge ``min_pixels_at_edge`` holds: the glass beside a tissue goes
    on there, it is no gap in it.
    """
    labels, parts = ndimage.label(mask, structure=np.ones((3, 3)))
    counts = np.zeros(parts + 1, np.int64)
    for row in labels:
        np.add.at(counts, row, 1)
    keep = counts >= min_pixels
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        keep[edge] = counts[edge] >= min_pixels_at_edge
    keep[0] = False
    for row, mask_row in zip(labels, mask, strict=True):
        mask_row[:] = keep[row]


def _why_no_tissue(strongest: int, found_mm2: float, min_fragment_mm2: float) -> str:
    if found_mm2 > 0:
        found = f"only specks below {min_fragment_mm2:g} mm2 ({found_mm2:.2g} mm2 together) are coloured"
    else:
        found = f"nothing is coloured (strongest {strongest} of 255, tissue begins at {_COLOUR_LIMITS[0]})"
    return f"no tissue found: {found}; draw a region and give it with --tissue"
