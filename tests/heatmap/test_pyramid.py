from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.heatmap import references
from wsi_cam.geometry import Size
from wsi_cam.heatmap.ngff import level_sizes
from wsi_cam.heatmap.pyramid import PyramidRows


class Chunks:
    """A sink that lays chunks into whole levels, and insists that each comes once."""

    def __init__(self, sizes: list[Size], channels: int, chunk: tuple[int, int]) -> None:
        self.levels = [np.full((channels, s.height, s.width), np.nan, dtype=np.float32) for s in sizes]
        self.chunk = chunk
        self.written: set[tuple[int, int, int]] = set()

    def __call__(self, level: int, chunk_row: int, blocks: Mapping[int, NDArray[np.float32]]) -> None:
        height, width = self.chunk
        for column, block in blocks.items():
            assert (level, chunk_row, column) not in self.written
            self.written.add((level, chunk_row, column))
            assert np.isfinite(block).any()
            whole = self.levels[level]
            target = whole[:, chunk_row * height :, column * width :][:, :height, :width]
            target[:] = block[:, : target.shape[1], : target.shape[2]]
            assert np.isnan(block[:, target.shape[1] :]).all()
            assert np.isnan(block[:, :, target.shape[2] :]).all()


def pyramid_of(heatmap: NDArray[np.float32], levels: int, chunk: tuple[int, int], cuts: list[int]) -> Chunks:
    channels, height, width = heatmap.shape
    sizes = [Size(-(-width // 2**k), -(-height // 2**k)) for k in range(levels)]
    chunks = Chunks(sizes, channels, chunk)
    rows = PyramidRows(sizes, channels, chunk, chunks)
    references.put_bands(rows.put, heatmap, cuts)
    rows.close()
    return chunks


@given(
    heatmap=references.heatmaps(70, 40),
    cuts=st.lists(st.integers(1, 70), max_size=12),
    levels=st.integers(1, 6),
)
def test_every_level_is_the_mean_of_the_finite_finest_pixels(
    heatmap: NDArray[np.float32], cuts: list[int], levels: int
) -> None:
    chunks = pyramid_of(heatmap, levels, (8, 16), cuts)
    np.testing.assert_array_equal(chunks.levels[0], heatmap)
    for level in range(1, levels):
        expected = references.pyramid_level(heatmap, level)
        np.testing.assert_allclose(chunks.levels[level], expected, rtol=1e-6, atol=1e-7)


@given(heatmap=references.heatmaps(70, 40), cuts=st.lists(st.integers(1, 70), max_size=12))
def test_how_the_rows_were_cut_into_bands_changes_no_bit(
    heatmap: NDArray[np.float32], cuts: list[int]
) -> None:
    whole, banded = (pyramid_of(heatmap, 5, (8, 16), c) for c in ([], cuts))
    assert whole.written == banded.written
    for one, other in zip(whole.levels, banded.levels, strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_mean_of_means_would_be_something_else() -> None:
    heatmap = np.full((1, 4, 4), 8, dtype=np.float32)
    heatmap[0, :2, :2] = [[0, np.nan], [np.nan, np.nan]]
    top = pyramid_of(heatmap, 3, (8, 8), []).levels[2]
    assert top[0, 0, 0] == np.float32(12 * 8 / 13)


def test_chunks_without_a_number_are_not_given_away() -> None:
    heatmap = np.full((1, 64, 64), np.nan, dtype=np.float32)
    heatmap[0, 40:44, 3] = 1
    chunks = pyramid_of(heatmap, 2, (16, 16), [])
    assert chunks.written == {(0, 2, 0), (1, 1, 0)}


def test_the_pyramid_ends_with_a_level_of_at_most_256_pixels_a_side() -> None:
    assert level_sizes(Size(256, 200)) == (Size(256, 200),)
    assert level_sizes(Size(1000, 257)) == (Size(1000, 257), Size(500, 129), Size(250, 65))
    assert level_sizes(Size(1, 10_000))[-1] == Size(1, 157)


@pytest.mark.parametrize(
    ("first_row", "shape", "message"),
    [
        (0, (1, 2, 10), "do not fit"),
        (0, (2, 2, 9), "do not fit"),
        (19, (2, 2, 10), "do not fit"),
        (3, (2, 2, 10), "put already"),
    ],
)
def test_rows_that_do_not_fit_or_come_twice_are_refused(
    first_row: int, shape: tuple[int, int, int], message: str
) -> None:
    rows = PyramidRows([Size(10, 20)], 2, (8, 8), lambda level, row, blocks: None)
    rows.put(0, np.ones((2, 5, 10), dtype=np.float32))
    with pytest.raises(ValueError, match=message):
        rows.put(first_row, np.ones(shape, dtype=np.float32))


def test_channels_must_know_the_same_pixels() -> None:
    rows = PyramidRows([Size(4, 4)], 2, (8, 8), lambda level, row, blocks: None)
    values = np.ones((2, 4, 4), dtype=np.float32)
    values[1, 2, 2] = np.nan
    with pytest.raises(ValueError, match="not finite at the same pixels"):
        rows.put(0, values)


def peak_memory(size: Size, covered: slice) -> int:
    sizes = level_sizes(size)
    band = np.full((3, 32, size.width), np.nan, dtype=np.float32)
    band[:, :, covered] = 1
    tracemalloc.start()
    rows = PyramidRows(sizes, 3, (64, 64), lambda level, row, blocks: None)
    for first_row in range(0, size.height, 32):
        rows.put(first_row, band[:, : size.height - first_row])
    rows.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_what_the_docstring_says_and_does_not_grow_with_the_height() -> None:
    width, channels, chunk_rows = 2000, 3, 64
    low, high = (peak_memory(Size(width, height), slice(None)) for height in (512, 4096))
    assert high < 1.05 * low
    assert high < 8 * channels * chunk_rows * width + 258 * (channels + 1) * width


def test_a_narrow_piece_of_tissue_takes_the_memory_of_its_own_width() -> None:
    narrow, wide = (peak_memory(Size(2000, 512), covered) for covered in (slice(100, 200), slice(None)))
    assert narrow < wide - 0.85 * 8 * 3 * 64 * 2000
