"""A small picture whose every pixel is the mean of what it covers."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.make_slides import Image, tissue_image, write_generic_tiff, write_sparse_svs
from wsi_cam.geometry import Mpp
from wsi_cam.slides import thumbnail
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.thumbnail import read_thumbnail


def covered(count: int, step: float, length: int) -> NDArray[np.float64]:
    """Weights (count, length): how much of each pixel lies in each interval of ``step``, summing to 1."""
    starts, pixels = np.arange(count)[:, None] * step, np.arange(length)[None]
    shares = np.minimum(pixels + 1, starts + step) - np.maximum(pixels, starts)
    weights: NDArray[np.float64] = shares.clip(0, 1).astype(np.float64)
    weights /= weights.sum(1, keepdims=True)
    return weights


def averaged(image: Image, step_x: float, step_y: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    rows, columns = covered(shape[0], step_y, image.shape[0]), covered(shape[1], step_x, image.shape[1])
    means: NDArray[np.float64] = np.einsum(
        "iy,yxc,jx->ijc", rows, image.astype(float), columns, optimize=True
    )
    return means


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(target=st.floats(0.3, 30), side=st.integers(10, 500), block=st.integers(1, 300))
def test_pixels_are_means_of_the_area_they_cover(
    tmp_path_factory: pytest.TempPathFactory, image: Image, target: float, side: int, block: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "thumbnail.tif"
    if not path.exists():
        write_generic_tiff(path, image, Mpp(0.5, 0.4), levels=(1,), tile=64)
    with open_slide(path) as slide, pytest.MonkeyPatch.context() as patch:
        patch.setattr(thumbnail, "_BLOCK_SIDE", block)
        picture, to_level0 = read_thumbnail(slide, Mpp(0.5, 0.4), target, side)
    height, width = picture.shape[:2]
    assert max(width, height) <= side
    assert width - 1 < 317 / to_level0.scale_x <= width + 1e-5
    assert height - 1 < 203 / to_level0.scale_y <= height + 1e-5
    assert to_level0.scale_x / to_level0.scale_y == pytest.approx(
        max(1, target / 0.5) / max(1, target / 0.4), rel=1e-9
    )
    expected = averaged(image, to_level0.scale_x, to_level0.scale_y, (height, width))
    np.testing.assert_allclose(picture, expected, atol=0.51)


def test_a_lower_level_serves_where_it_is_fine_enough(tmp_path: Path) -> None:
    image = tissue_image(512, 768, [(100, 100, 300, 300)])
    path = write_generic_tiff(tmp_path / "a.tif", image, Mpp(0.5, 0.5), levels=(1, 4, 16), tile=64)
    with open_slide(path) as slide:
        used = []
        read = slide.read_region
        slide.read_region = lambda level, box: used.append(level) or read(level, box)  # type: ignore
        picture, to_level0 = read_thumbnail(slide, Mpp(0.5, 0.5), 4.0)
    assert set(used) == {1}
    assert to_level0.scale_x == 8
    assert np.abs(picture - averaged(image, 8, 8, (64, 96))).max() <= 1.5  # the level was rounded once


def test_it_is_never_finer_than_the_slide(tmp_path: Path, image: Image) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", image, levels=(1,), tile=64)
    with open_slide(path) as slide:
        picture, to_level0 = read_thumbnail(slide, Mpp(10.0, 10.0), 8.0)
    assert (to_level0.scale_x, to_level0.scale_y) == (1, 1)
    np.testing.assert_array_equal(picture, image)


def test_pixels_that_a_level_lost_at_the_edge_do_not_turn_black(tmp_path: Path) -> None:
    image = tissue_image(203, 319, [])  # level 1 holds 4 * 79 = 316 of 319 columns
    path = write_generic_tiff(tmp_path / "a.tif", image, Mpp(0.5, 0.5), levels=(1, 4), tile=64)
    with open_slide(path) as slide:
        picture, _ = read_thumbnail(slide, Mpp(0.5, 0.5), 2.0)
    assert picture.shape == (51, 80, 3)
    assert picture.min() > 230


def test_memory_does_not_grow_with_a_slide_of_one_level(tmp_path: Path) -> None:
    path = write_sparse_svs(
        tmp_path / "a.svs", (24_000, 3_000), [(100, 100, 500, 500)], levels=(1,), tile=512
    )
    with open_slide(path) as slide:
        tracemalloc.start()
        picture, _ = read_thumbnail(slide, Mpp(0.5, 0.5), 32.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert picture.shape == (47, 375, 3)
    assert peak < 110 * 2**20  # the slide has 216 MB, the cache of tiles takes 64
    tissue = np.argwhere(np.ptp(picture.astype(int), axis=2) > 20)
    assert tissue.min() == 1
    assert tissue.max() == 9
