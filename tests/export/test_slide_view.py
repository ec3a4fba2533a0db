"""Panels: the slide and its heatmap, each pixel where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.export.make_heatmaps import heatmap
from tests.make_slides import write_ome_tiff
from wsi_cam.export.slide_view import SlideView, heatmap_on_panel, interpolated, read_slide_view
from wsi_cam.geometry import Affine, Box, Level0, Mpp
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import require_mpp


def slowly(values: NDArray[np.float32], x: float, y: float) -> float:
    """One position: the four neighbours weighed by distance, those that are NaN left out."""
    height, width = values.shape
    row, column = int(np.floor(y)), int(np.floor(x))
    if not (0 <= row < height and 0 <= column < width) or np.isnan(values[row, column]):
        return float("nan")
    total = weight = 0.0
    for r in (int(np.floor(y - 0.5)), int(np.floor(y - 0.5)) + 1):
        for c in (int(np.floor(x - 0.5)), int(np.floor(x - 0.5)) + 1):
            near = (1 - abs(y - 0.5 - r)) * (1 - abs(x - 0.5 - c))
            value = values[min(max(r, 0), height - 1), min(max(c, 0), width - 1)]
            if not np.isnan(value):
                total, weight = total + near * value, weight + near
    return total / weight


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_interpolation_equals_the_slow_one(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(height, width)).astype(np.float32)
    values[rng.random((height, width)) < 0.4] = np.nan
    x, y = rng.uniform(-1, width + 1, 7), rng.uniform(-1, height + 1, 5)
    expected = [[slowly(values, column, row) for column in x] for row in y]
    np.testing.assert_allclose(interpolated(values, x, y), expected, rtol=1e-4, atol=1e-5)


def view(
    width: int, height: int, mpp: Mpp, shown: Box[Level0] | None = None, step: float = 10.0
) -> SlideView:
    """A white thumbnail of a slide of ``width`` x ``height`` level-0 pixels."""
    image = np.full((round(height / step), round(width / step), 3), 255, np.uint8)
    return SlideView(image, Affine(step, step), mpp, shown or Box(0, 0, width, height))


@pytest.mark.parametrize(
    ("mpp", "shown", "cell"),
    [
        (Mpp(0.5, 0.5), None, (20.0, 20.0)),
        (Mpp(0.25, 0.5), None, (41.3, 20.65)),
        (Mpp(0.5, 0.5), Box[Level0](700, 400, 3000, 2500), (20.0, 20.0)),
        (Mpp(0.5, 0.5), None, (3.0, 3.0)),
    ],
)
def test_a_planted_square_lies_in_the_panel_where_it_lies_on_the_slide(
    tmp_path: Path, mpp: Mpp, shown: Box[Level0] | None, cell: tuple[float, float]
) -> None:
    columns, rows = int(4000 / cell[0]) + 1, int(3000 / cell[1]) + 1
    values = np.zeros((2, rows, columns), np.float32)
    x0, x1, y0, y1 = columns // 3, columns // 2, rows // 4, rows // 2
    values[1, y0:y1, x0:x1] = 1
    values[:, :, columns * 4 // 5 :] = np.nan
    store = heatmap(tmp_path / "p.ome.zarr", values, Affine(*cell), mpp)
    grid = view(4000, 3000, mpp, shown).panel(500, 400)
    painted = heatmap_on_panel(store, "tumour", grid)
    truth = grid.to_level0.inverse().box(
        Box(x0 * cell[0], y0 * cell[1], (x1 - x0) * cell[0], (y1 - y0) * cell[1])
    )
    found_y, found_x = np.nonzero(painted > 0.5)
    edges = [found_x.min(), found_y.min(), found_x.max() + 1, found_y.max() + 1]
    np.testing.assert_allclose(edges, [truth.x, truth.y, truth.right, truth.bottom], atol=1.01)
    first_unseen = (columns * 4 // 5) * cell[0]
    unseen_x = np.flatnonzero(np.isnan(painted[0]))[0]
    assert abs(grid.to_level0.inverse().scale_x * (first_unseen - grid.to_level0.offset_x) - unseen_x) <= 1


def test_panels_keep_the_shape_of_the_tissue_where_pixels_are_not_square() -> None:
    grid = view(4000, 3000, Mpp(0.25, 0.5)).panel(1000, 1000)
    assert (grid.width, grid.height) == (667, 1000)


def test_a_tiny_slide_is_enlarged_but_not_without_end() -> None:
    grid = view(200, 100, Mpp(0.5, 0.5)).panel(2000, 2000)
    assert (grid.width, grid.height) == (160, 80)
    grid = view(2000, 100, Mpp(0.5, 0.5)).panel(2000, 2000)
    assert (grid.width, grid.height) == (1600, 80)


def test_a_view_is_read_from_a_slide_at_the_size_asked_for(tmp_path: Path) -> None:
    image = np.full((300, 600, 3), 240, np.uint8)
    image[100:200, 200:400] = (160, 60, 120)
    write_ome_tiff(tmp_path / "slide.ome.tif", image, Mpp(0.5, 0.5))
    with open_slide(tmp_path / "slide.ome.tif") as slide:
        seen = read_slide_view(slide, require_mpp(slide.info), longest_side=150)
    assert seen.image.shape == (75, 150, 3)
    assert seen.shown == Box(0, 0, 600, 300)
    pixels = seen.pixels(seen.panel(120, 120))
    np.testing.assert_array_equal(pixels[30, 60], (160, 60, 120))
