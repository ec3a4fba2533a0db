"""Foci are what anybody would find on the whole heatmap at once, whatever the bands it is read in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from wsi_cam.cohort.foci import find_foci
from wsi_cam.cohort.pixel_edges import pixel_edges
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.store import HeatmapStore, HeatmapWriter, open_heatmap

AFFINE = Affine[Heatmap, Level0](40.0, 30.0, 5.0, 7.0)
MPP = Mpp(0.5, 0.6)


def stored(values: NDArray[np.float32], folder: Path, chunk: tuple[int, int] = (2, 8)) -> HeatmapStore:
    """A heatmap of one class, read two rows at a time."""
    size = Size(values.shape[1], values.shape[0])
    writer = HeatmapWriter(
        folder / "a.ome.zarr", size, ["tumour"], [(200, 0, 0)], AFFINE, MPP, "a", {}, chunk=chunk
    )
    writer.write_rows(0, values[None])
    writer.finish()
    return open_heatmap(folder / "a.ome.zarr")


def slow_foci(
    values: NDArray[np.float32], threshold: float, shown: Box[Level0] | None
) -> list[tuple[float, float, float]]:
    """Area in mm2, longest diameter in mm and highest value of each focus, pixel by pixel, largest first."""
    labels, count = ndimage.label(np.nan_to_num(values, nan=-1) >= np.float32(threshold), np.ones((3, 3)))
    found = []
    for number in range(1, count + 1):
        area, corners = 0.0, []
        for row, column in np.argwhere(labels == number).tolist():
            box = AFFINE.box(Box(column, row, 1, 1))
            sides = box if shown is None else box.intersection(shown)
            area += sides.width * MPP.x * sides.height * MPP.y * 1e-6
            for x in (box.x, box.right):
                for y in (box.y, box.bottom):
                    inside = (x, y) if shown is None else (
                        min(max(x, shown.x), shown.right), min(max(y, shown.y), shown.bottom)
                    )  # fmt: skip
                    corners.append((inside[0] * MPP.x / 1000, inside[1] * MPP.y / 1000))
        points = np.array(corners)
        distances = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        found.append((area, float(distances.max()), float(values[labels == number].max())))
    return sorted(found, reverse=True)


@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.floats(0.02, 0.7),
    shape=st.tuples(st.integers(1, 13), st.integers(1, 11)),
    cut=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_areas_diameters_and_counts_are_those_of_the_whole_mask(
    seed: int, density: float, shape: tuple[int, int], cut: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(shape) < density, 0.5 + 0.5 * rng.random(shape), 0.1).astype(np.float32)
    values[rng.random(shape) < 0.1] = np.nan
    # A slide that ends within the last cells, and begins within the first ones.
    shown = Box[Level0](20, 10, 40 * shape[1] - 25, 30 * shape[0] - 15) if cut else None
    with tempfile.TemporaryDirectory() as folder:
        store = stored(values, Path(folder))
        edges = pixel_edges(store.size, store.to_level0, store.mpp, shown)
        foci = find_foci(store, "tumour", 0.5, edges, keep=4)
    expected = slow_foci(values, 0.5, shown)
    assert foci.count == len(expected)
    assert foci.area_mm2 == pytest.approx(sum(area for area, _, _ in expected))
    assert foci.longest_diameter_mm == pytest.approx(max((length for _, length, _ in expected), default=0))
    assert [focus.area_mm2 for focus in foci.largest] == pytest.approx([area for area, _, _ in expected[:4]])
    for focus in foci.largest:
        twins = [(length, top) for area, length, top in expected if area == pytest.approx(focus.area_mm2)]
        assert any((focus.diameter_mm, focus.probability_max) == pytest.approx(twin) for twin in twins)


def test_pixels_that_touch_at_a_corner_are_one_focus_across_bands(tmp_path: Path) -> None:
    values = np.full((6, 6), 0.1, np.float32)
    values[np.arange(6), np.arange(6)] = 0.9
    store = stored(values, tmp_path)
    foci = find_foci(store, "tumour", 0.5, pixel_edges(store.size, store.to_level0, store.mpp, None))
    assert foci.count == 1
    assert foci.longest_diameter_mm == pytest.approx(6 * np.hypot(40 * 0.5, 30 * 0.6) / 1000)


def test_a_value_equal_to_the_threshold_is_inside_and_one_just_below_is_not(tmp_path: Path) -> None:
    values = np.full((1, 5), np.nan, np.float32)
    values[0] = [0.7, np.nextafter(np.float32(0.7), np.float32(0)), 0.7, np.nan, 0.7]
    store = stored(values, tmp_path)
    foci = find_foci(store, "tumour", 0.7, pixel_edges(store.size, store.to_level0, store.mpp, None))
    assert foci.count == 3


def test_the_longest_focus_need_not_be_the_largest(tmp_path: Path) -> None:
    values = np.full((20, 40), 0.0, np.float32)
    values[2:10, 2:10] = 1
    values[15, 2:38] = 1
    store = stored(values, tmp_path, chunk=(8, 8))
    foci = find_foci(store, "tumour", 0.5, pixel_edges(store.size, store.to_level0, store.mpp, None), keep=1)
    assert foci.largest[0].area_mm2 == pytest.approx(64 * 20 * 18e-6)
    assert foci.longest_diameter_mm == pytest.approx(np.hypot(36 * 20, 18) / 1000)
