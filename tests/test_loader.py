"""Patches arrive in the plan's order, resampled exactly, and a damaged place costs only its own patches."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Affine, Level, Level0, Mpp, Size, Thumbnail
from wsi_cam.loader import PatchBatch, PatchReader, ReadAhead, read_batches
from wsi_cam.tiling.patch_plan import PatchPlan, plan_patches
from wsi_cam.tiling.tissue import TissueMask

WHOLE: Affine[Level, Level0] = Affine(1, 1)


class PictureSlide:
    """A slide of one level in memory; regions that touch ``damaged`` (x, y, width, height) cannot be read."""

    def __init__(self, image: NDArray[np.uint8], damaged: tuple[int, int, int, int] | None = None) -> None:
        self.image, self.damaged = image, damaged
        self.threads: set[int] = set()

    def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        assert level == 0
        self.threads.add(threading.get_ident())
        x, y, width, height = box
        if self.damaged:
            dx, dy, dw, dh = self.damaged
            if x < dx + dw and dx < x + width and y < dy + dh and dy < y + height:
                raise SlideError("picture: a tile is damaged")
        region = np.full((height, width, 3), 255, np.uint8)
        rows, columns = self.image.shape[:2]
        top, left, bottom, right = max(y, 0), max(x, 0), min(y + height, rows), min(x + width, columns)
        if top < bottom and left < right:
            region[top - y : bottom - y, left - x : right - x] = self.image[top:bottom, left:right]
        return region


def smooth_image(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    channels = [127 + 120 * np.sin(x / 23 + y / 31), 127 + 120 * np.cos(x / 17), 127 + 120 * np.sin(y / 19)]
    return np.stack(channels, axis=-1).astype(np.uint8)


SMOOTH = smooth_image(700, 9000)


def plan_for(
    size: Size, slide_mpp: Mpp, mpp_um: float = 1.0, overlap: float = 0.0, size_px: int = 96
) -> PatchPlan:
    everywhere = TissueMask(
        np.ones((8, 8), np.bool_), Affine[Thumbnail, Level0](size.width / 8, size.height / 8), "all"
    )
    return plan_patches(everywhere, size, slide_mpp, [WHOLE], size_px, mpp_um, overlap)


def all_images(
    slide: PictureSlide, plan: PatchPlan, batch_size: int = 7, num_workers: int = 2
) -> NDArray[np.uint8]:
    images, expected = [], 0
    with ReadAhead(PatchReader(slide, plan, WHOLE), plan, num_workers) as reading:
        for batch in read_batches(reading, batch_size):
            assert batch.start == expected
            assert batch.readable.all()
            expected += len(batch.images)
            images.append(batch.images)
    assert all(len(b) == batch_size for b in images[:-1]), "only the last batch may be short"
    return np.concatenate(images)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_at_the_models_own_spacing_patches_are_plain_cuts(num_workers: int) -> None:
    slide = PictureSlide(smooth_image(1000, 4500))
    plan = plan_for(Size(4500, 1000), Mpp(1, 1), overlap=0.4)
    images = all_images(slide, plan, num_workers=num_workers)
    assert len(images) == len(plan) > 100
    for image, (x, y) in zip(images, plan.level0_xy.astype(int), strict=True):
        np.testing.assert_array_equal(image, slide.read_region(0, (x, y, 96, 96)))
    assert (threading.get_ident() in slide.threads) or num_workers > 0


@pytest.mark.parametrize("slide_mpp", [Mpp(0.5, 0.5), Mpp(0.499, 0.499), Mpp(0.26, 0.41), Mpp(1.1, 1.05)])
def test_resampled_patches_show_the_picture_where_it_lies(slide_mpp: Mpp) -> None:
    # Oracle: the smooth picture's formula at the centre of each model pixel, in the same frame.
    slide = PictureSlide(smooth_image(900, 1100))
    plan = plan_for(Size(1100, 900), slide_mpp, size_px=64)
    reader = PatchReader(slide, plan, WHOLE)
    for i in range(len(plan)):
        (left, top), image = plan.level0_xy[i], reader.read(np.array([i]))[0].astype(float)
        x = left + (np.arange(64) + 0.5) / slide_mpp.x - 0.5
        y = top + (np.arange(64) + 0.5) / slide_mpp.y - 0.5
        inside = np.ix_((y > 3) & (y < 895), (x > 3) & (x < 1095))
        expected = 127 + 120 * np.sin(x[None] / 23 + y[:, None] / 31)
        # Half a level pixel of shift would change values by up to 2.6; rounding and filter stay below 2.
        if image[..., 0][inside].size:
            assert abs(image[..., 0] - expected)[inside].max() < 2.5
            assert abs((image[..., 0] - expected)[inside].mean()) < 0.8


@pytest.mark.parametrize("mpp_um", [0.37, 0.9504, 0.955, 0.97, 0.9804, 0.99, 0.999, 1.001, 1.04])
def test_a_patch_does_not_depend_on_the_block_it_was_read_with(mpp_um: float) -> None:
    # Near one a block with its margins may be as long in level pixels as it is in model pixels.
    slide = PictureSlide(smooth_image(700, 900))
    plan = plan_for(Size(900, 700), Mpp(mpp_um, mpp_um), overlap=0.5)
    reader = PatchReader(slide, plan, WHOLE)
    together = all_images(slide, plan)
    alone = np.stack([reader.read(np.array([i]))[0] for i in range(len(plan))])
    difference = abs(together.astype(int) - alone)
    assert difference.max() <= 2, "weights are rounded in each of the two passes, in both cases nearly alike"
    assert (difference > 0).mean() < 0.03


def test_the_resize_is_antialiased() -> None:
    # A chequerboard of single pixels, seen four times coarser, is grey; without a filter black or white.
    board = np.indices((800, 800)).sum(axis=0) % 2 * np.uint8(255)
    slide = PictureSlide(np.repeat(board[..., None], 3, axis=2))
    images = all_images(slide, plan_for(Size(800, 800), Mpp(0.25, 0.25)))
    # Without the first row and column, where the filter sees the white beyond the slide.
    assert abs(images[0, 1:, 1:].astype(int) - 127).max() <= 2


def test_it_is_the_antialiased_resize_of_a_well_kept_library() -> None:
    slide = PictureSlide(smooth_image(400, 400))
    image = PatchReader(slide, plan := plan_for(Size(400, 400), Mpp(0.5, 0.5)), WHOLE).read(np.array([0]))[0]
    peer = np.asarray(Image.fromarray(slide.image).resize((200, 200), Image.Resampling.BILINEAR))[:96, :96]
    assert plan.cell_xy[0].tolist() == [0, 0]
    # The first row and column differ: the peer's picture ends there, ours sees white beyond the slide. The
    # peer rounds after each of its two passes, where half the size is rounded once.
    assert abs(image[1:, 1:].astype(int) - peer[1:, 1:]).max() <= 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_place_costs_only_the_patches_on_it(num_workers: int) -> None:
    slide = PictureSlide(smooth_image(960, 960), damaged=(100, 100, 50, 50))
    plan = plan_for(Size(960, 960), Mpp(1, 1))
    with ReadAhead(PatchReader(slide, plan, WHOLE), plan, num_workers) as reading:
        batches = list(read_batches(reading, 16))
    readable = np.concatenate([batch.readable for batch in batches])
    lost = plan.level0_xy[~readable]
    assert lost.tolist() == [[96, 96]]
    assert [reason for batch in batches for reason in batch.reasons] == ["picture: a tile is damaged"]


def test_an_error_of_ours_in_a_reading_thread_reaches_the_caller() -> None:
    class Broken(PictureSlide):
        def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
            raise ZeroDivisionError

    plan = plan_for(Size(500, 500), Mpp(1, 1))
    broken = PatchReader(Broken(smooth_image(500, 500)), plan, WHOLE)
    with ReadAhead(broken, plan, 2) as reading, pytest.raises(ZeroDivisionError):
        list(read_batches(reading, 4))


def threads_that_read() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("wsi_cam-read")]


class CountingSlide(PictureSlide):
    """Counts the regions that were read."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        super().__init__(image)
        self.regions = 0

    def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        self.regions += 1
        return super().read_region(level, box)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_reading_begins_at_once_and_keeps_within_its_bounds(num_workers: int) -> None:
    slide = CountingSlide(smooth_image(300, 22_000))
    plan = plan_for(Size(22_000, 300), Mpp(1, 1))
    blocks = len(plan.block_starts)
    assert blocks > 4 * num_workers
    with ReadAhead(PatchReader(slide, plan, WHOLE), plan, num_workers) as reading:
        wait_for(lambda: slide.regions == num_workers)
        time.sleep(0.05)
        assert slide.regions == num_workers, "before anybody asks, one block for each thread"
        coming = iter(reading)
        next(coming)
        wait_for(lambda: slide.regions == 2 * num_workers)
        time.sleep(0.05)
        assert slide.regions == 2 * num_workers, "then two for each"
        next(coming)
        wait_for(lambda: slide.regions == 2 * num_workers + 1)
    assert not threads_that_read()


def test_a_region_is_let_go_with_its_last_patch() -> None:
    plan, alive, alive_at_a_read = plan_for(Size(9000, 700), Mpp(1, 1)), set[int](), list[int]()

    class Watched(PictureSlide):
        def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
            alive_at_a_read.append(len(alive))
            region = super().read_region(level, box)
            alive.add(len(alive_at_a_read))
            weakref.finalize(region, alive.discard, len(alive_at_a_read))
            return region

    with ReadAhead(PatchReader(Watched(SMOOTH), plan, WHOLE), plan, num_workers=0) as reading:
        for _ in read_batches(reading, batch_size=1):
            pass
    assert alive_at_a_read == [0] * len(plan.block_starts)


def test_what_was_begun_and_is_not_wanted_is_let_go() -> None:
    slide = PictureSlide(smooth_image(700, 9000))
    plan = plan_for(Size(9000, 700), Mpp(1, 1))
    reading = ReadAhead(PatchReader(slide, plan, WHOLE), plan, 2)
    reading.close()
    reading.close()
    assert not threads_that_read()


@pytest.mark.parametrize("num_workers", [0, 2])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_from_any_patch_on_the_pixels_are_those_of_reading_all(num_workers: int, data: st.DataObject) -> None:
    slide = PictureSlide(SMOOTH, damaged=(2500, 100, 50, 50))
    plan = plan_for(Size(4500, 700), Mpp(0.7, 0.7), overlap=0.3)
    start = data.draw(st.integers(0, len(plan)), label="first patch that is wanted")

    def read(start: int) -> list[PatchBatch]:
        with ReadAhead(PatchReader(slide, plan, WHOLE), plan, num_workers, start) as reading:
            return list(read_batches(reading, 16))

    everything, rest = read(0), read(start)
    assert sum(len(batch.images) for batch in rest) == len(plan) - start
    if start < len(plan):
        assert rest[0].start == start
        images, readable = (
            np.concatenate([getattr(batch, name) for batch in everything])[start:]
            for name in ("images", "readable")
        )
        np.testing.assert_array_equal(np.concatenate([batch.images for batch in rest]), images)
        np.testing.assert_array_equal(np.concatenate([batch.readable for batch in rest]), readable)


def test_it_is_known_who_waited_for_whom() -> None:
    plan = plan_for(Size(9000, 700), Mpp(1, 1))

    class Slow(PictureSlide):
        def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
            time.sleep(0.05)
            return super().read_region(level, box)

    with ReadAhead(PatchReader(Slow(SMOOTH), plan, WHOLE), plan, 1) as slow_reading:
        batches = len(list(read_batches(slow_reading, 16)))
    assert slow_reading.waited > 0.04 * (len(plan.block_starts) - 1)
    assert slow_reading.reading_waited < slow_reading.waited
    with ReadAhead(PatchReader(PictureSlide(SMOOTH), plan, WHOLE), plan, 1) as fast_reading:
        for _ in read_batches(fast_reading, 16):
            time.sleep(0.4 / batches)
    assert fast_reading.reading_waited > 0.05
    assert fast_reading.waited < fast_reading.reading_waited
