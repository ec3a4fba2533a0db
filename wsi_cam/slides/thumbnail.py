"""A small picture of a whole slide, in memory that does not grow with the slide."""

from __future__ import annotations

import logging
import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Affine, Level0, Mpp, Thumbnail
from wsi_cam.slides.slide import Slide

log = logging.getLogger(__name__)

#: Side of the blocks that are read at a time: 3 MiB of RGB, and some ten times that while it is averaged.
_BLOCK_SIDE = 1024
#: A damaged block is not cut into smaller ones than this.
_SMALLEST_BLOCK = 128


def read_thumbnail(
    slide: Slide, mpp_um: Mpp, target_mpp_um: float = 8.0, max_side: int = 4096
) -> tuple[NDArray[np.uint8], Affine[Thumbnail, Level0]]:
    """RGB (h, w, 3) of the whole level 0 at about ``target_mpp_um``, and where its pixels lie.

    ``mpp_um`` is the spacing of level 0. The picture is never finer than level 0, and no side is
    longer than ``max_side``. Each pixel is the mean of the area it covers on the coarsest level that
    is at least as fine, read block by block. Its last row and column may reach past the slide's
    edge; they average what lies on the slide. What cannot be read is white, with a warning; SlideError
    is raised where nothing can.
    """
    size = slide.info.size
    step_x, step_y = (max(1.0, target_mpp_um / mpp) for mpp in (mpp_um.x, mpp_um.y))
    shrink = max(1.0, size.width / step_x / max_side, size.height / step_y / max_side)
    # A hair more, so that rounding up does not end in max_side + 1.
    shrink *= 1 + 1e-9 if shrink > 1 else 1
    to_level0 = Affine[Thumbnail, Level0](step_x * shrink, step_y * shrink)
    number = slide.info.level_for(to_level0)
    width = max(1, math.ceil(size.width / to_level0.scale_x - 1e-6))
    height = max(1, math.ceil(size.height / to_level0.scale_y - 1e-6))
    return _average(slide, number, to_level0, width, height), to_level0


def _average(
    slide: Slide, number: int, to_level0: Affine[Thumbnail, Level0], width: int, height: int
) -> NDArray[np.uint8]:
    """Area means of a level, block by block: whole thumbnail pixels wide, each level pixel read once."""
    level = slide.info.levels[number]
    edges_x = _edges(width, to_level0.scale_x / level.to_level0.scale_x, level.size.width)
    edges_y = _edges(height, to_level0.scale_y / level.to_level0.scale_y, level.size.height)
    picture = np.empty((height, width, 3), np.uint8)
    any_read, damaged = False, list[str]()
    for left, right, x0, x1 in _cut(edges_x, level.size.width):
        for top, bottom, y0, y1 in _cut(edges_y, level.size.height):
            block = _block_or_none(slide, number, (x0, y0, x1 - x0, y1 - y0), damaged)
            if block is None:
                picture[top:bottom, left:right] = 255
                continue
            any_read = True
            rows = _interval_means(block, edges_y[top : bottom + 1] - y0)
            means = _interval_means(rows.swapaxes(0, 1), edges_x[left : right + 1] - x0).swapaxes(0, 1)
            picture[top:bottom, left:right] = means.round().clip(0, 255)
    if not any_read:
        path = slide.info.path
        cause = damaged[0].removeprefix(f"{path}: ")
        raise SlideError(f"{path}: nothing of level {number} can be read ({cause}); copy the file again")
    if damaged:
        more = f" (and {len(damaged) - 1} places more)" if len(damaged) > 1 else ""
        log.warning("%s%s; white on the small picture of the slide", damaged[0], more)
    return picture


def _block_or_none(
    slide: Slide, number: int, box: tuple[int, int, int, int], damaged: list[str]
) -> NDArray[np.uint8] | None:
    """A block's pixels, white where it is damaged, or None where nothing of it can be read.

    One bad tile must not cost a slide: a block is read again in quarters, down to the size of a tile; what
    is wrong with them is added to ``damaged``.
    """
    try:
        return slide.read_region(number, box)
    except SlideError as error:
        x, y, width, height = box
        if max(width, height) <= _SMALLEST_BLOCK:
            damaged.append(str(error))
            return None
    pixels = np.full((height, width, 3), 255, np.uint8)
    halves_x, halves_y = ((0, width // 2, width), (0, height // 2, height))
    found = False
    for x0, x1 in pairwise(halves_x):
        for y0, y1 in pairwise(halves_y):
            if x1 > x0 and y1 > y0:
                part = _block_or_none(slide, number, (x + x0, y + y0, x1 - x0, y1 - y0), damaged)
                if part is not None:
                    pixels[y0:y1, x0:x1], found = part, True
    return pixels if found else None


def _edges(count: int, step: float, end: int) -> NDArray[np.float64]:
    """Borders (count + 1,) of thumbnail pixels in level pixels, none past the level's end."""
    edges: NDArray[np.float64] = np.minimum(np.arange(count + 1) * step, end)
    edges[-1] = end
    return edges


def _cut(edges: NDArray[np.float64], end: int) -> list[tuple[int, int, int, int]]:
    """Runs of thumbnail pixels of about one block: first, last + 1, and the level pixels they need."""
    runs, first = [], 0
    while first < len(edges) - 1:
        last = int(np.searchsorted(edges, edges[first] + _BLOCK_SIDE, side="right")) - 1
        last = min(max(last, first + 1), len(edges) - 1)
        start = min(math.floor(edges[first]), end - 1)
        runs.append((first, last, start, max(math.ceil(edges[last]), start + 1)))
        first = last
    return runs


def _interval_means(
    values: NDArray[np.uint8] | NDArray[np.float32], edges: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Means (n, ...) of ``values`` (m, ...) between neighbouring ``edges`` (n + 1,); parts of a pixel count.

    An interval of next to no length (a level that lost its last pixels) has the value at its place.
    """
    first = np.minimum(np.floor(edges).astype(np.int64), len(values) - 1)
    sums = _sums_between(values, first)
    as_columns = (-1, *[1] * (values.ndim - 1))
    at_edges = values[first].astype(np.float32)
    at_edges *= (edges - first).astype(np.float32).reshape(as_columns)
    sums += at_edges[1:]
    sums -= at_edges[:-1]
    lengths = np.diff(edges).astype(np.float32)
    sums /= np.maximum(lengths, 1e-2).reshape(as_columns)
    empty = lengths < 1e-2
    sums[empty] = values[first[:-1][empty]]
    return sums


def _sums_between(
    values: NDArray[np.uint8] | NDArray[np.float32], first: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Sums (n, ...) of the whole values from ``first[k]`` to ``first[k + 1]``; ``first`` is (n + 1,)."""
    if values.dtype != np.uint8:
        sums: NDArray[np.float32] = np.add.reduceat(values, first, axis=0)[:-1]
        # Where two edges fall into one pixel reduceat gives that pixel; nothing whole lies between them.
        sums[first[:-1] == first[1:]] = 0
        return sums
    # A block's rows as they lie in memory: a twentieth of reduceat's time. Sums of bytes are exact.
    sums = np.empty((len(first) - 1, *values.shape[1:]), np.float32)
    for interval, (start, stop) in enumerate(pairwise(first.tolist())):
        np.add.reduce(values[start:stop], axis=0, dtype=np.float32, out=sums[interval])
    return sums
