from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.heatmap import references
from wsi_cam.errors import ModelError
from wsi_cam.geometry import Size
from wsi_cam.heatmap.blending import window
from wsi_cam.heatmap.stitcher import BandStitcher


class Canvas:
    """A sink that keeps the whole heatmap, and insists on rows from top to bottom."""

    def __init__(self, size: Size, channels: int) -> None:
        self.values = np.full((channels, size.height, size.width), np.nan, dtype=np.float32)
        self.next_row = 0

    def __call__(self, first_row: int, rows: NDArray[np.float32]) -> None:
        assert first_row >= self.next_row
        self.next_row = first_row + rows.shape[1]
        self.values[:, first_row : self.next_row] = rows


def stitch(
    size: Size,
    cell_xy: NDArray[np.int64],
    maps: NDArray[np.floating],
    stride: int,
    map_cells: int,
    batch: int = 5,
) -> NDArray[np.float32]:
    """In the order given, a few patches at a time, rows given away as soon as they can be."""
    canvas = Canvas(size, maps.shape[1])
    stitcher = BandStitcher(size, maps.shape[1], map_cells, stride, canvas)
    for start in range(0, len(maps), batch):
        stitcher.finish_above(int(cell_xy[start:, 1].min()))
        stitcher.add(cell_xy[start : start + batch], maps[start : start + batch])
    stitcher.close()
    return canvas.values


def grid(columns: int, rows: int, stride: int) -> NDArray[np.int64]:
    y, x = np.divmod(np.arange(columns * rows), columns)
    return np.stack([x, y], axis=1) * stride


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Size, NDArray[np.int64], NDArray[np.float32], int, int]:
    """A heatmap, patches on some places of the lattice, row by row or in blocks, maps and unread ones."""
    map_cells = draw(st.integers(1, 7))
    stride = draw(st.integers(1, map_cells + 2))
    columns, rows = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = Size(
        max(1, (columns - 1) * stride + draw(st.integers(1, map_cells + 2))),
        max(1, (rows - 1) * stride + draw(st.integers(1, map_cells + 2))),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    cell_xy = grid(columns, rows, stride)[rng.random(columns * rows) < draw(st.floats(0.2, 1))]
    if draw(st.booleans()):  # blocks of two patch rows, as a reader would take them
        block = cell_xy[:, 1] // (2 * stride)
        cell_xy = cell_xy[np.lexsort((cell_xy[:, 1], cell_xy[:, 0] // (2 * stride), block))]
    maps = rng.normal(size=(len(cell_xy), 2, map_cells, map_cells)).astype(np.float32)
    maps[rng.random(len(maps)) < 0.15] = np.nan
    return size, cell_xy, maps, stride, map_cells


@given(layout=layouts(), batch=st.integers(1, 30))
def test_bands_give_what_the_slow_weighted_mean_gives(
    layout: tuple[Size, NDArray[np.int64], NDArray[np.float32], int, int], batch: int
) -> None:
    size, cell_xy, maps, stride, map_cells = layout
    expected = references.stitched(size, cell_xy, maps, window(map_cells, stride))
    heatmap = stitch(size, cell_xy, maps, stride, map_cells, batch)
    np.testing.assert_array_equal(np.isnan(heatmap), np.isnan(expected))
    np.testing.assert_allclose(heatmap, expected, rtol=1e-6, atol=1e-6)


@given(layout=layouts(), value=st.floats(-1000, 1000, width=32))
def test_a_constant_stitches_to_that_constant_at_every_overlap(
    layout: tuple[Size, NDArray[np.int64], NDArray[np.float32], int, int], value: float
) -> None:
    size, cell_xy, maps, stride, map_cells = layout
    constant = np.where(np.isnan(maps), maps, np.float32(value))
    heatmap = stitch(size, cell_xy, constant, stride, map_cells)
    seen = heatmap[np.isfinite(heatmap)]
    np.testing.assert_allclose(seen, value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("stride", [3, 7])
def test_one_value_per_patch_is_a_map_of_that_value(stride: int) -> None:
    cell_xy = grid(4, 4, stride)
    values = np.random.default_rng(0).random((16, 3)).astype(np.float32)
    maps = np.broadcast_to(values[:, :, None, None], (16, 3, 7, 7))
    size = Size(3 * stride + 7, 3 * stride + 7)
    np.testing.assert_array_equal(
        stitch(size, cell_xy, values, stride, 7), stitch(size, cell_xy, maps, stride, 7)
    )


def test_cells_that_no_patch_covers_are_nan() -> None:
    heatmap = stitch(Size(20, 20), np.array([[7, 7]]), np.ones((1, 1, 7, 7)), 7, 7)
    expected = np.full((1, 20, 20), np.nan)
    expected[0, 7:14, 7:14] = 1
    np.testing.assert_array_equal(heatmap, expected)


def test_a_patch_that_could_not_be_read_leaves_a_hole_and_hides_no_neighbour() -> None:
    cell_xy = grid(3, 1, 3)
    maps = np.ones((3, 1, 7, 7), dtype=np.float32)
    maps[1] = np.nan
    heatmap = stitch(Size(13, 7), cell_xy, maps, 3, 7)
    assert (heatmap == 1).all()
    alone = stitch(Size(13, 7), cell_xy[1:2], maps[1:2], 3, 7)
    assert np.isnan(alone).all()


def test_a_map_that_is_only_partly_finite_is_an_error_that_names_the_patch() -> None:
    stitcher = BandStitcher(Size(14, 14), 1, 7, 7, Canvas(Size(14, 14), 1))
    maps = np.ones((2, 1, 7, 7), dtype=np.float32)
    maps[1, 0, 2, 3] = np.inf
    with pytest.raises(ModelError, match="patch at cell 7, 0 holds 1 values that are not finite"):
        stitcher.add(np.array([[0, 0], [7, 0]]), maps)


def test_huge_values_are_numbers_as_well() -> None:
    maps = np.full((1, 1, 7, 7), 3e38, dtype=np.float32)
    heatmap = stitch(Size(7, 7), np.array([[0, 0]]), maps, 3, 7)
    np.testing.assert_allclose(heatmap, 3e38, rtol=1e-6)


def test_cells_outside_the_heatmap_are_dropped_on_all_sides() -> None:
    cell_xy = np.array([[-6, -3], [0, -3], [9, -6], [-3, 0], [30, 0], [0, 30], [-9, 0], [6, 6]])
    cell_xy = cell_xy[np.lexsort((cell_xy[:, 0], cell_xy[:, 1]))]
    maps = np.random.default_rng(1).normal(size=(8, 2, 7, 7)).astype(np.float32)
    expected = references.stitched(Size(11, 10), cell_xy, maps, window(7, 3))
    heatmap = stitch(Size(11, 10), cell_xy, maps, 3, 7, batch=8)
    np.testing.assert_allclose(heatmap, expected, rtol=1e-6, atol=1e-6)


def test_rows_are_given_away_as_soon_as_no_patch_can_touch_them() -> None:
    size = Size(14, 21)
    canvas = Canvas(size, 1)
    stitcher = BandStitcher(size, 1, 7, 7, canvas)
    stitcher.add(grid(2, 1, 7), np.ones((2, 1, 7, 7)))
    assert canvas.next_row == 0
    stitcher.finish_above(7)
    assert (canvas.next_row, stitcher.finished_rows) == (7, 7)
    with pytest.raises(ValueError, match="given away already"):
        stitcher.add(np.array([[0, 0]]), np.ones((1, 1, 7, 7)))
    stitcher.finish_above(13)
    assert stitcher.finished_rows == 7
    stitcher.close()
    assert stitcher.finished_rows == 21


@pytest.mark.parametrize(
    ("cell_xy", "shape", "message"),
    [
        ([[1, 0]], (1, 1, 7, 7), "multiples of the stride of 3"),
        ([[0, 0], [3, 0], [0, 0]], (3, 1, 7, 7), "twice in one call"),
        ([[0, 0]], (2, 1, 7, 7), "are not those of 1 patches"),
        ([[0, 0]], (1, 2, 7, 7), "with 1 channels"),
        ([[0, 0]], (1, 1, 6, 6), "7 cells a side"),
        ([[0, 0]], (1, 1, 7, 6), "7 cells a side"),
    ],
)
def test_patches_that_cannot_be_laid_down_are_refused(
    cell_xy: list[list[int]], shape: tuple[int, ...], message: str
) -> None:
    stitcher = BandStitcher(Size(20, 20), 1, 7, 3, Canvas(Size(20, 20), 1))
    with pytest.raises(ValueError, match=message):
        stitcher.add(np.array(cell_xy), np.ones(shape))


def test_a_call_without_patches_changes_nothing() -> None:
    canvas = Canvas(Size(7, 7), 1)
    stitcher = BandStitcher(Size(7, 7), 1, 7, 3, canvas)
    stitcher.add(np.zeros((0, 2), dtype=np.int64), np.zeros((0, 1, 7, 7)))
    stitcher.close()
    assert np.isnan(canvas.values).all()


def test_the_same_calls_give_the_same_bits() -> None:
    cell_xy = grid(12, 12, 2)
    maps = np.random.default_rng(2).normal(size=(144, 2, 7, 7)).astype(np.float32)
    once, again = (stitch(Size(29, 29), cell_xy, maps, 2, 7, batch=32) for _ in range(2))
    assert once.tobytes() == again.tobytes()


def peak_memory(rows_of_patches: int) -> int:
    size = Size(40 * 3 + 4, rows_of_patches * 3 + 4)
    stitcher = BandStitcher(size, 3, 7, 3, lambda first_row, rows: None)
    maps = np.ones((40, 3, 7, 7), dtype=np.float32)
    tracemalloc.start()
    for row in range(rows_of_patches):
        stitcher.finish_above(row * 3)
        stitcher.add(grid(40, 1, 3) + np.array([0, row * 3]), maps)
    stitcher.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_height() -> None:
    peak_memory(10)  # what imports and caches take
    assert peak_memory(400) < 1.05 * peak_memory(40) + 10_000
