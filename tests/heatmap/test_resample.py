from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.heatmap import references
from wsi_cam.errors import SettingsError
from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.resample import BandResampler, resampled_grid


def resample(
    source: NDArray[np.float32],
    source_to_level0: Affine[Heatmap, Level0],
    size: Size,
    to_level0: Affine[Heatmap, Level0],
    cuts: tuple[int, ...] = (),
) -> NDArray[np.float32]:
    channels, height, width = source.shape
    target = np.full((channels, size.height, size.width), np.nan, dtype=np.float32)
    given_away = 0

    def keep(first_row: int, rows: NDArray[np.float32]) -> None:
        nonlocal given_away
        assert first_row >= given_away
        given_away = first_row + rows.shape[1]
        target[:, first_row:given_away] = rows

    resampler = BandResampler(Size(width, height), source_to_level0, size, to_level0, channels, keep)
    references.put_bands(resampler.put, source, cuts)
    resampler.close()
    return target


scales = st.floats(0.15, 4) | st.sampled_from([0.25, 0.5, 1 / 3, 1.0, 2.0, 3.0])


@given(
    source=references.heatmaps(12, 12),
    scale_x=scales,
    scale_y=scales,
    offset=st.sampled_from([0.0, 0.3, -1.7]),
    cuts=st.lists(st.integers(1, 12), max_size=6),
)
def test_bands_give_what_the_slow_mean_by_area_gives(
    source: NDArray[np.float32], scale_x: float, scale_y: float, offset: float, cuts: list[int]
) -> None:
    size = Size(max(1, int(source.shape[2] * scale_x) + 1), max(1, int(source.shape[1] * scale_y) + 1))
    target = resample(source, Affine(scale_x, scale_y, offset, offset), size, Affine(1, 1), tuple(cuts))
    expected = references.resampled(source, (scale_y, scale_x), (offset, offset), size)
    np.testing.assert_array_equal(np.isnan(target), np.isnan(expected))
    np.testing.assert_allclose(target, expected, rtol=1e-5, atol=1e-5)


@given(
    source=references.heatmaps(12, 12), scale_x=scales, scale_y=scales, value=st.floats(-100, 100, width=32)
)
def test_a_constant_stays_that_constant_at_every_ratio(
    source: NDArray[np.float32], scale_x: float, scale_y: float, value: float
) -> None:
    constant = np.where(np.isnan(source), source, np.float32(value))
    size = Size(max(1, int(source.shape[2] * scale_x)), max(1, int(source.shape[1] * scale_y)))
    target = resample(constant, Affine(scale_x, scale_y), size, Affine(1, 1))
    np.testing.assert_allclose(target[np.isfinite(target)], value, rtol=1e-6)


def test_the_same_grid_gives_the_same_values() -> None:
    source = np.random.default_rng(0).normal(size=(1, 20, 30)).astype(np.float32)
    same: Affine[Heatmap, Level0] = Affine(61.7, 62.3)
    np.testing.assert_array_equal(resample(source, same, Size(30, 20), same, (3, 4, 11)), source)


def test_a_finer_grid_needs_no_more_memory_for_more_rows_at_once() -> None:
    def peak_bytes(rows: int) -> int:
        size, cell, pixel = Size(20, rows), Affine[Heatmap, Level0](64, 64), Affine[Heatmap, Level0](1, 1)
        resampler = BandResampler(size, cell, Size(1280, 64 * rows), pixel, 2, lambda row, values: None)
        values = np.ones((2, rows, 20), np.float32)
        tracemalloc.start()
        resampler.put(0, values)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(64) < 2 * peak_bytes(2)


def test_the_grid_covers_level_0_from_its_corner_with_square_pixels() -> None:
    size, to_level0 = resampled_grid(Size(1000, 1001), Mpp(0.5, 0.25), 5.0)
    assert to_level0 == Affine(10, 20)
    assert size == Size(100, 51)


def test_rounding_adds_no_row_to_the_grid() -> None:
    size, _ = resampled_grid(Size(3000, 3000), Mpp(0.1, 0.1), 0.3)
    assert size == Size(1000, 1000)


@pytest.mark.parametrize("heatmap_mpp", [0.0, -1.0, float("nan"), float("inf"), 0.1])
def test_a_spacing_that_makes_no_heatmap_is_refused(heatmap_mpp: float) -> None:
    with pytest.raises(SettingsError, match="--heatmap-mpp"):
        resampled_grid(Size(100, 100), Mpp(0.5, 0.5), heatmap_mpp)


@pytest.mark.parametrize(
    ("first_row", "shape"), [(0, (1, 2, 8)), (0, (2, 2, 9)), (9, (2, 2, 8)), (1, (2, 2, 8)), (5, (2, 0, 8))]
)
def test_rows_that_do_not_fit_or_come_twice_are_refused(first_row: int, shape: tuple[int, int, int]) -> None:
    grid: Affine[Heatmap, Level0] = Affine(1, 1)
    resampler = BandResampler(Size(8, 10), grid, Size(4, 5), Affine(2, 2), 2, lambda row, rows: None)
    resampler.put(0, np.ones((2, 3, 8), dtype=np.float32))
    with pytest.raises(ValueError, match="rows"):
        resampler.put(first_row, np.ones(shape, dtype=np.float32))


def test_channels_must_know_the_same_pixels() -> None:
    grid: Affine[Heatmap, Level0] = Affine(1, 1)
    resampler = BandResampler(Size(4, 4), grid, Size(2, 2), Affine(2, 2), 2, lambda row, rows: None)
    values = np.ones((2, 4, 4), dtype=np.float32)
    values[1, 2, 2] = np.nan
    with pytest.raises(ValueError, match="not finite at the same pixels"):
        resampler.put(0, values)
