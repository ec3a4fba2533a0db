"""What every reader has to do, whatever file stands behind it. Subclass it for a new reader."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.make_slides import Image
from wsi_cam.errors import SlideError
from wsi_cam.geometry import Size
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import PixelBox, Slide

HEIGHT, WIDTH = 203, 317


def padded(image: Image, box: PixelBox) -> Image:
    """The obvious way to read a region: an image in a sea of white."""
    x, y, width, height = box
    out = np.full((height, width, 3), 255, np.uint8)
    for row in range(max(y, 0), min(y + height, image.shape[0])):
        for column in range(max(x, 0), min(x + width, image.shape[1])):
            out[row - y, column - x] = image[row, column]
    return out


def read_in_child(pickled: bytes, box: PixelBox) -> Image:
    slide: Slide = pickle.loads(pickled)
    with slide:
        return slide.read_region(0, box)


class SlideContract:
    """Subclasses set ``reader`` and give ``path``: a slide of ``image``, stored without loss."""

    reader = "auto"

    @pytest.fixture
    def path(self, tmp_path: Path, image: Image) -> Path:
        raise NotImplementedError

    @pytest.fixture
    def slide(self, path: Path):  # type: ignore[no-untyped-def]
        with open_slide(path, self.reader) as slide:
            yield slide

    def test_its_facts_are_those_of_the_file(self, slide: Slide, path: Path) -> None:
        info = slide.info
        assert (info.path, info.reader) == (path, self.reader)
        assert info.size == Size(WIDTH, HEIGHT)
        assert info.levels[0].to_level0.scale_x == info.levels[0].to_level0.scale_y == 1
        assert info.as_dict()["size"] == {"width": WIDTH, "height": HEIGHT}

    @pytest.mark.parametrize(
        "box",
        [
            (0, 0, WIDTH, HEIGHT),
            (64, 64, 64, 64),
            (50, 3, 101, 97),
            (-9, -7, 30, 20),
            (WIDTH - 10, HEIGHT - 8, 40, 50),
            (-5, -5, WIDTH + 10, HEIGHT + 10),
            (5000, 5000, 3, 2),
            (-100, 10, 20, 20),
            (7, 11, 1, 1),
        ],
    )
    def test_a_region_is_what_was_written_and_white_outside(
        self, slide: Slide, image: Image, box: PixelBox
    ) -> None:
        region = slide.read_region(0, box)
        assert region.dtype == np.uint8
        np.testing.assert_array_equal(region, padded(image, box))

    def test_an_empty_box_is_an_empty_picture(self, slide: Slide) -> None:
        assert slide.read_region(0, (3, 3, 0, 5)).shape == (5, 0, 3)

    def test_what_is_returned_belongs_to_the_caller(self, slide: Slide, image: Image) -> None:
        box = (64, 64, 64, 64)
        slide.read_region(0, box)[:] = 0
        slide.read_region(0, (60, 60, 70, 70))[:] = 0
        np.testing.assert_array_equal(slide.read_region(0, box), padded(image, box))

    def test_threads_read_what_one_thread_reads(self, slide: Slide, image: Image) -> None:
        generator = np.random.default_rng(1)
        boxes = [(int(x), int(y), 40, 30) for x, y in generator.integers(-20, 300, (60, 2))]
        with ThreadPoolExecutor(4) as pool:
            regions = list(pool.map(lambda box: slide.read_region(0, box), boxes))
        for box, region in zip(boxes, regions, strict=True):
            np.testing.assert_array_equal(region, padded(image, box))

    def test_a_copy_that_was_pickled_reads_the_same(self, slide: Slide, image: Image) -> None:
        with pickle.loads(pickle.dumps(slide)) as copy:
            assert copy.info == slide.info
            np.testing.assert_array_equal(copy.read_region(0, (1, 2, 30, 40)), image[2:42, 1:31])

    def test_a_box_that_cannot_be_meant_is_an_error_with_all_names(self, slide: Slide, path: Path) -> None:
        for level, box, cause in [
            (9, (0, 0, 1, 1), "levels"),
            (-1, (0, 0, 1, 1), "levels"),
            (0, (0, 0, -1, 5), "negative"),
            (0, (0, 0, 100_000, 100_000), "1 GiB"),
        ]:
            with pytest.raises(SlideError, match=cause) as caught:
                slide.read_region(level, box)
            assert str(path) in str(caught.value)
            assert f"level {level}" in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_a_closed_slide_says_so(self, path: Path) -> None:
        slide = open_slide(path, self.reader)
        slide.close()
        slide.close()
        with pytest.raises(SlideError, match="closed"):
            slide.read_region(0, (0, 0, 5, 5))

    def test_an_unknown_associated_image_is_an_error(self, slide: Slide) -> None:
        with pytest.raises(SlideError, match="no associated image 'selfie'"):
            slide.read_associated_image("selfie")

    def test_a_series_that_is_not_there_is_an_error(self, path: Path) -> None:
        with pytest.raises(SlideError, match="series"):
            open_slide(path, self.reader, series=7)


def read_in_spawned_process(slide: Slide, box: PixelBox) -> Image:
    """By a fresh interpreter, as on Windows and macOS, and wherever torch's workers are spawned."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(read_in_child, (pickle.dumps(slide), box))
