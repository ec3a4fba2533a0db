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
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Affine, Level, Level0
from wsi_cam.tiling.patch_plan import PatchPlan

log = logging.getLogger(__name__)


class RegionReader(Protocol):
    """What is needed of a slide here."""

    def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class PatchBatch:
    """Patches ``start`` to ``start + n`` of a plan.

    ``images`` is uint8 (n, s, s, 3) RGB at the model's size and spacing; ``readable`` is bool
    (n,), and where it is False the image is white and means nothing.
    """

    start: int
    images: NDArray[np.uint8]
    readable: NDArray[np.bool_]


@dataclass
class ReadingReport:
    """Seconds that the network waited for pixels."""

    waited: float = 0.0
    reasons: list[str] = field(default_factory=list)
    """Why patches could not be read, one line for each block that failed."""

    @property
    def distinct_reasons(self) -> list[str]:
        """The first few in a fixed order, whichever thread met them first."""
        return sorted(set(self.reasons))[:5]


class PatchReader:
    """Reads patches of one plan from one slide."""

    def __init__(self, slide: RegionReader, plan: PatchPlan, level_to_level0: Affine[Level, Level0]) -> None:
        self._slide = slide
        self._plan = plan
        to_level = level_to_level0.inverse()
        # Level pixels per model pixel, along each axis.
        self._scale_x = plan.heatmap_to_level0.scale_x / plan.cell_px * to_level.scale_x
        self._scale_y = plan.heatmap_to_level0.scale_y / plan.cell_px * to_level.scale_y

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Patches (n, s, s, 3) at ``indices`` of the plan, which should lie close together.

        Raises SlideError where any part of the region that holds them cannot be read.
        """
        size, cell = self._plan.size_px, self._plan.cell_px
        model_xy = self._plan.cell_xy[indices] * cell
        left, top = (int(v) for v in model_xy.min(axis=0))
        right, bottom = (int(v) + size for v in model_xy.max(axis=0))
        region = self._read_lattice(left, top, right - left, bottom - top)
        images = np.empty((len(indices), size, size, 3), np.uint8)
        for image, (x, y) in zip(images, model_xy - [left, top], strict=True):
            image[:] = region[y : y + size, x : x + size]
        return images

    def _read_lattice(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """A rectangle of the model-pixel lattice: area-preserving triangle filter, exact position.

        The filter sees the pixels around the rectangle too, so that how patches are grouped into
        blocks changes few values, and none by more than two grey levels (weights are rounded, in two passes).
        """
        right, bottom = left + width, top + height
        if _is_one(self._scale_x, right) and _is_one(self._scale_y, bottom):
            return self._slide.read_region(self._plan.level, (left, top, width, height))
        x0, x1, level_x, level_width = _span(left, width, self._scale_x)
        y0, y1, level_y, level_height = _span(top, height, self._scale_y)
        region = self._slide.read_region(self._plan.level, (level_x, level_y, level_width, level_height))
        picture = Image.fromarray(region)
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)))


def _is_one(scale: float, furthest: int) -> bool:
    """Whether model and level pixels coincide from the slide's corner to ``furthest``."""
    return abs(scale - 1) * furthest < 1e-3


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


def read_batches(
    reader: PatchReader,
    plan: PatchPlan,
    batch_size: int,
    num_workers: int,
    report: ReadingReport,
) -> Iterator[PatchBatch]:
    """All patches of the plan in its order, ``batch_size`` at a time (the last batch may be shorter).

    ``num_workers`` threads read ahead, by at most two blocks each; 0 reads in the calling
    thread. A block that cannot be read is read again patch by patch, so that
    only the patches on the damaged place are lost.
    """
    blocks = _read_ahead(_block_tasks(reader, plan, report), num_workers, report)
    images: list[NDArray[np.uint8]] = []
    readable: list[NDArray[np.bool_]] = []
    start = held = 0
    for block_images, block_readable in blocks:
        images.append(block_images)
        readable.append(block_readable)
        held += len(block_images)
        if held < batch_size:
            continue
        all_images, all_readable = np.concatenate(images), np.concatenate(readable)
        whole = held - held % batch_size
        for at in range(0, whole, batch_size):
            stop = at + batch_size
            yield PatchBatch(start + at, all_images[at:stop], all_readable[at:stop])
        images, readable = [all_images[whole:]], [all_readable[whole:]]
        start, held = start + whole, held - whole
    if held:
        yield PatchBatch(start, np.concatenate(images), np.concatenate(readable))


Block = tuple[NDArray[np.uint8], NDArray[np.bool_]]


def _block_tasks(
    reader: PatchReader, plan: PatchPlan, report: ReadingReport
) -> Iterator[Callable[[], Block]]:
    for block in plan.blocks():
        indices = np.arange(block.start, block.stop)

        def task(indices: NDArray[np.int64] = indices) -> Block:
            return _read_block(reader, plan, indices, report)

        yield task


def _read_block(
    reader: PatchReader, plan: PatchPlan, indices: NDArray[np.int64], report: ReadingReport
) -> Block:
    try:
        return reader.read(indices), np.ones(len(indices), np.bool_)
    except SlideError as error:
        log.debug("block at patch %d: %s; reading its patches one by one", indices[0], error)
        report.reasons.append(str(error))
    images = np.full((len(indices), plan.size_px, plan.size_px, 3), 255, np.uint8)
    readable = np.zeros(len(indices), np.bool_)
    for i in range(len(indices)):
        try:
            images[i] = reader.read(indices[i : i + 1])[0]
            readable[i] = True
        except SlideError as error:
            log.debug("patch %d: %s", indices[i], error)
    return images, readable


def _read_ahead(
    tasks: Iterator[Callable[[], Block]], num_workers: int, report: ReadingReport
) -> Iterator[Block]:
    """Results in the order of the tasks."""
    if num_workers == 0:
        for task in tasks:
            began = time.perf_counter()
            block = task()
            report.waited += time.perf_counter() - began
            yield block
        return
    with ThreadPoolExecutor(num_workers, thread_name_prefix="wsi_cam-read") as pool:
        ahead: deque[Future[Block]] = deque()
        try:
            for task in tasks:
                ahead.append(pool.submit(task))
                if len(ahead) >= 2 * num_workers:
                    yield _await(ahead.popleft(), report)
            while ahead:
                yield _await(ahead.popleft(), report)
        finally:
            # A consumer that stops early must not wait for blocks that nobody wants.
            for future in ahead:
                future.cancel()


def _await(future: Future[Block], report: ReadingReport) -> Block:
    began = time.perf_counter()
    block = future.result()
    report.waited += time.perf_counter() - began
    return block
