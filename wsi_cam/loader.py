"""The patches of a plan as batches of pixels, read ahead of the network.

The plan's patches lie on one lattice of model pixels. A block of neighbouring patches is read from
its level as one region, resampled once onto that lattice, and cut: a storage tile is decoded
about once, and overlapping patches share the resampling.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Affine, Level, Level0
from wsi_cam.slides.resampling import halved, resized
from wsi_cam.tiling.patch_plan import PatchPlan

log = logging.getLogger(__name__)


class RegionReader(Protocol):
    """What is needed of a slide here."""

    def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class PatchBatch:
    """Patches ``start`` to ``start + n`` of a plan.

    ``images`` is uint8 (n, s, s, 3) RGB at the model's size and spacing; ``readable`` is bool
    (n,), and where it is False the image is white and means nothing. ``reasons`` say why, one for
    each block that failed and was not heard of before this batch.
    """

    start: int
    images: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """Neighbouring patches that were read together; ``reason`` says why not all of them could be.

    ``images`` are parts (s, s, 3) of one region, which overlapping patches share: copied out here they
    would take many times its memory. ``began`` and ``ended`` are seconds on the clock of
    ``time.perf_counter``.
    """

    images: list[NDArray[np.uint8]]
    readable: list[bool]
    reason: str
    began: float
    ended: float


class PatchReader:
    """Reads patches of one plan from one slide."""

    def __init__(self, slide: RegionReader, plan: PatchPlan, level_to_level0: Affine[Level, Level0]) -> None:
        self._slide = slide
        self._plan = plan
        to_level = level_to_level0.inverse()
        # Level pixels per model pixel, along each axis.
        self._scale_x = plan.heatmap_to_level0.scale_x / plan.cell_px * to_level.scale_x
        self._scale_y = plan.heatmap_to_level0.scale_y / plan.cell_px * to_level.scale_y

    def read(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Patches (s, s, 3) at ``indices`` of the plan, which should lie close together; parts of one region.

        Raises SlideError where any part of the region that holds them cannot be read.
        """
        size, cell = self._plan.size_px, self._plan.cell_px
        model_xy = self._plan.cell_xy[indices] * cell
        left, top = (int(v) for v in model_xy.min(axis=0))
        right, bottom = (int(v) + size for v in model_xy.max(axis=0))
        region = self._read_lattice(left, top, right - left, bottom - top)
        return [region[y : y + size, x : x + size] for x, y in (model_xy - [left, top]).tolist()]

    def _read_lattice(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle of the model-pixel lattice: area-preserving triangle filter, exact position.

        The filter sees the pixels around the rectangle too, so that how patches are grouped into
        blocks changes few values, and none by more than two grey levels (weights are rounded, in two passes).
        """
        level, read = self._plan.level, self._slide.read_region
        furthest = left + width, top + height
        if self._is_scaled_by(1, furthest):
            return read(level, (left, top, width, height))
        if self._is_scaled_by(2, furthest):
            return halved(read(level, (2 * left - 1, 2 * top - 1, 2 * width + 2, 2 * height + 2)))
        x0, x1, level_x, level_width = _span(left, width, self._scale_x)
        y0, y1, level_y, level_height = _span(top, height, self._scale_y)
        region = read(level, (level_x, level_y, level_width, level_height))
        return resized(region, (x0, y0, x1, y1), (width, height))

    def _is_scaled_by(self, whole: int, furthest: tuple[int, int]) -> bool:
        """Whether model pixels are ``whole`` level pixels, from the slide's corner to ``furthest``."""
        scales = (self._scale_x, self._scale_y)
        return all(abs(scale - whole) * px < 1e-3 for scale, px in zip(scales, furthest, strict=True))


def _span(start: int, length: int, scale: float) -> tuple[float, float, int, int]:
    """Where model pixels ``start`` to ``start + length`` lie along one axis of the level.

    Returns their two ends relative to the first level pixel to be read, that pixel, and how many to
    read, with a margin as wide as the filter.
    """
    first, last = start * scale, (start + length) * scale
    margin = math.ceil(max(scale, 1.0)) + 1
    from_px, to_px = math.floor(first) - margin, math.ceil(last) + margin
    return first - from_px, last - from_px, from_px, to_px - from_px


def default_workers() -> int:
    """Reading threads where nobody asked for a number: half of the cores, the network has the rest."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))


class ReadAhead:
    """The blocks of a plan in its order, read by threads ahead of whoever takes them.

    Reading begins at once, one block for each of the ``num_workers`` threads; when the first is asked for it
    runs ahead by two blocks for each. So what is read beforehand takes half the memory of reading in full
    swing. With 0 threads a block is read when it is asked for, by who asks.

    ``start`` is the first patch that is wanted. Its block is read whole and cut, so that every patch
    has the pixels that it has when the plan is read from its beginning.
    """

    def __init__(self, reader: PatchReader, plan: PatchPlan, num_workers: int, start: int = 0) -> None:
        self.start = start
        self.waited = 0.0
        """Seconds that whoever takes the blocks had to wait for one."""
        self._reader, self._plan, self._num_workers = reader, plan, num_workers
        self._to_read = (block for block in plan.blocks() if block.stop > start)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[Future[Block]] = deque()
        self._began = self._ended = time.perf_counter()
        self._busy = 0.0
        if num_workers:
            self._pool = ThreadPoolExecutor(num_workers, thread_name_prefix="wsi_cam-read")
            self._run_ahead(num_workers)

    def __iter__(self) -> Iterator[Block]:
        """To be gone through once."""
        if self._pool is None:
            for block in self._to_read:
                yield self._noted(_read_block(self._reader, self._plan, block, self.start))
            return
        while self._run_ahead(2 * self._num_workers):
            yield self._noted(self._ahead.popleft())

    @property
    def reading_waited(self) -> float:
        """Seconds that threads had nothing to do because nobody took what they had read, all added up."""
        return max(0.0, self._num_workers * (self._ended - self._began) - self._busy)

    def close(self) -> None:
        """Wait for the blocks that are being read, and forget all others. Calling it again does nothing."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run_ahead(self, blocks: int) -> bool:
        """Have ``blocks`` blocks in reading, or as many as there are; False where none is left."""
        assert self._pool is not None
        for block in islice(self._to_read, blocks - len(self._ahead)):
            self._ahead.append(self._pool.submit(_read_block, self._reader, self._plan, block, self.start))
        return bool(self._ahead)

    def _noted(self, coming: Block | Future[Block]) -> Block:
        """The block once it is there, its times entered."""
        if isinstance(coming, Block):
            block = coming
            self.waited += block.ended - block.began
        else:
            asked = time.perf_counter()
            block = coming.result()
            self.waited += time.perf_counter() - asked
        self._busy += block.ended - block.began
        self._ended = max(self._ended, block.ended)
        return block


def _read_block(reader: PatchReader, plan: PatchPlan, block: slice, start: int) -> Block:
    """The patches of a block from ``start`` on; patch by patch where it cannot be read in one."""
    began = time.perf_counter()
    indices = np.arange(block.start, block.stop)
    unwanted, reason = max(0, start - block.start), ""
    try:
        images = reader.read(indices)[unwanted:]
        readable = [True] * len(images)
    except SlideError as error:
        log.debug("block at patch %d: %s; reading its patches one by one", block.start, error)
        reason = str(error)
        images, readable = _read_one_by_one(reader, plan, indices[unwanted:])
    return Block(images, readable, reason, began, time.perf_counter())


def _read_one_by_one(
    reader: PatchReader, plan: PatchPlan, indices: NDArray[np.int64]
) -> tuple[list[NDArray[np.uint8]], list[bool]]:
    white = np.full((plan.size_px, plan.size_px, 3), 255, np.uint8)
    images, readable = [], []
    for i in range(len(indices)):
        try:
            images += reader.read(indices[i : i + 1])
            readable.append(True)
        except SlideError as error:
            log.debug("patch %d: %s", indices[i], error)
            images.append(white)
            readable.append(False)
    return images, readable


def read_batches(blocks: ReadAhead, batch_size: int) -> Iterator[PatchBatch]:
    """The patches of all blocks, ``batch_size`` at a time (the last batch may be shorter).

    A block that cannot be read is read again patch by patch, so that only the patches on the damaged place
    are lost.
    """
    images: deque[NDArray[np.uint8]] = deque()
    readable: deque[bool] = deque()
    reasons: list[str] = []
    start = blocks.start

    def batch() -> PatchBatch:
        n = min(batch_size, len(images))
        # Taken out as they are copied, so that a region goes when its last patch does.
        pixels = np.stack([images.popleft() for _ in range(n)])
        could_be_read = np.array([readable.popleft() for _ in range(n)])
        why = tuple(reasons)
        reasons.clear()
        return PatchBatch(start, pixels, could_be_read, why)

    for block in blocks:
        images += block.images
        readable += block.readable
        reasons += [block.reason] if block.reason else []
        del block  # it would hold its region while the next one is waited for
        while len(images) >= batch_size:
            yield batch()
            start += batch_size
    if images:
        yield batch()
