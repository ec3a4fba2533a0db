"""regions.geojson: planted squares come out where they were planted, as QuPath shows the slide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from shapely.geometry import box, shape

from tests.export.make_heatmaps import heatmap
from tests.export.qupath_schema import read_geojson, validate
from wsi_cam.errors import OutputError
from wsi_cam.export.qupath import geometry_text, write_regions_geojson
from wsi_cam.export.regions import find_regions
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp
from wsi_cam.heatmap.store import HeatmapStore

CLASSES = ("normal", "tumour")
#: x, y, width, height in heatmap pixels. The first two touch uncovered pixels, the last the heatmap's corner.
SQUARES = [(40, 30, 100, 100), (200, 30, 120, 110), (30, 180, 100, 140), (280, 220, 120, 130)]
GEOMETRIES = [
    (Affine[Heatmap, Level0](64.0, 64.0), Mpp(0.5, 0.5)),
    (Affine[Heatmap, Level0](32 * 0.972 / 0.2431, 32 * 0.972 / 0.25), Mpp(0.2431, 0.25)),
]
BOUNDS = Box[Level0](1203.5, 871.25, 30_000, 30_000)

Stores = tuple[HeatmapStore, HeatmapStore]


def planted(folder: Path, to_level0: Affine[Heatmap, Level0], mpp: Mpp) -> Stores:
    """Squares of high probability; all that lies outside, left of and above the first two was never seen."""
    rng = np.random.default_rng(3)
    tumour = rng.uniform(0.0, 0.45, (350, 400)).astype(np.float32)
    for x, y, width, height in SQUARES:
        tumour[y : y + height, x : x + width] = rng.uniform(0.55, 1.0, (height, width))
    tumour[:, :40] = np.where(np.arange(350)[:, None] < 150, np.nan, tumour[:, :40])
    tumour[:30] = np.nan
    tumour[60:90, 140:150] = np.nan
    evidence = 12 * tumour - 6
    return (
        heatmap(folder / "probability.ome.zarr", np.stack([1 - tumour, tumour]), to_level0, mpp),
        heatmap(folder / "evidence.ome.zarr", np.stack([-evidence, evidence]), to_level0, mpp),
    )


@pytest.mark.parametrize(("origin", "bounds"), [("qupath", None), ("qupath", BOUNDS), ("level0", BOUNDS)])
@pytest.mark.parametrize(("to_level0", "mpp"), GEOMETRIES)
def test_planted_squares_come_out_where_they_lie(
    tmp_path: Path, to_level0: Affine[Heatmap, Level0], mpp: Mpp, origin: Any, bounds: Any
) -> None:
    regions = find_regions(*planted(tmp_path, to_level0, mpp), "tumour")
    path = tmp_path / "regions.geojson"
    write_regions_geojson(path, regions, CLASSES, bounds=bounds, origin=origin)
    content = read_geojson(path)
    validate(content)
    assert len(content["features"]) == len(SQUARES)
    shift = np.array([bounds.x, bounds.y]) if bounds is not None and origin == "qupath" else np.zeros(2)
    pixel = np.array([to_level0.scale_x, to_level0.scale_y])
    found = [shape(feature["geometry"]) for feature in content["features"]]
    for x, y, width, height in SQUARES:
        corners = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)]) * pixel - shift
        truth = box(*corners[0], *corners[2])
        index = max(range(len(found)), key=lambda k: found[k].intersection(truth).area)
        outline = shapely.get_coordinates(found[index])
        for corner in corners:
            assert np.abs((outline - corner) / pixel).max(axis=1).min() <= 1
        np.testing.assert_allclose(found[index].bounds, truth.bounds, atol=0.011)
        numbers = content["features"][index]["properties"]["measurements"]
        width_mm, height_mm = np.array([width, height]) * pixel * [mpp.x, mpp.y] / 1000
        assert numbers["area_mm2"] == pytest.approx(width_mm * height_mm, rel=0.02)
        assert found[index].area * mpp.x * mpp.y * 1e-6 == pytest.approx(numbers["area_mm2"], rel=1e-4)
        assert numbers["longest_diameter_mm"] == pytest.approx(np.hypot(width_mm, height_mm), rel=0.02)


def test_the_numbers_of_a_region_are_those_of_its_pixels(tmp_path: Path) -> None:
    stores = planted(tmp_path, *GEOMETRIES[0])
    region = find_regions(*stores, "tumour")[0]
    x, y, width, height = SQUARES[3]
    probability, evidence = (store.read(0, (x, y, width, height), [1]) for store in stores)
    assert region.measurements() == {
        "area_mm2": pytest.approx((width * height - 0.5) * 0.032**2),
        "longest_diameter_mm": pytest.approx(np.hypot(width, height) * 0.032, rel=0.01),
        "prob_mean_tumour": pytest.approx(probability.mean(), rel=1e-5),
        "prob_max_tumour": probability.max(),
        "evidence_mean_tumour": pytest.approx(evidence.mean(), rel=1e-5),
        "evidence_max_tumour": evidence.max(),
    }


def test_a_region_is_a_locked_annotation_of_our_own_class(tmp_path: Path) -> None:
    regions = find_regions(*planted(tmp_path, *GEOMETRIES[0]), "tumour")
    content = read_geojson(write_regions_geojson(tmp_path / "regions.geojson", regions, CLASSES))
    properties = content["features"][0]["properties"]
    assert (properties["objectType"], properties["isLocked"]) == ("annotation", True)
    assert properties["classification"] == {"name": "Tumour (model)", "color": [200, 0, 0]}
    again = write_regions_geojson(tmp_path / "again.geojson", regions, CLASSES)
    assert again.read_bytes() == (tmp_path / "regions.geojson").read_bytes()


def test_regions_come_largest_first_and_small_ones_can_be_left_out(tmp_path: Path) -> None:
    stores = planted(tmp_path, *GEOMETRIES[0])
    areas = [region.area_mm2 for region in find_regions(*stores, "tumour")]
    assert areas == sorted(areas, reverse=True)
    assert len(find_regions(*stores, "tumour", min_area_mm2=areas[1])) == 2
    assert find_regions(*stores, "tumour", threshold=0.9999999, min_area_mm2=1) == []
    assert len(find_regions(*stores, "normal", threshold=0.01)) >= 1


def test_a_hole_stays_a_hole_and_uncovered_pixels_are_outside(tmp_path: Path) -> None:
    tumour = np.ones((40, 40), np.float32)
    tumour[10:20, 10:20] = 0.1
    tumour[25:30, 25:35] = np.nan
    values = np.stack([1 - tumour, tumour])
    store = heatmap(tmp_path / "p.ome.zarr", values, Affine(10, 10), Mpp(1, 1))
    (region,) = find_regions(store, store, "tumour")
    holes = sorted(shapely.Polygon(ring).area for ring in region.polygon.interiors)
    assert holes == pytest.approx([50 * 100, 100 * 100], rel=0.02)
    assert region.area_mm2 == pytest.approx((1600 - 150) * 100 * 1e-6, rel=0.02)
    content = read_geojson(write_regions_geojson(tmp_path / "regions.geojson", [region], CLASSES))
    validate(content)
    assert len(content["features"][0]["geometry"]["coordinates"]) == 3


def test_the_threshold_itself_belongs_to_the_region(tmp_path: Path) -> None:
    values = np.full((2, 8, 8), 0.9, np.float32)
    store = heatmap(tmp_path / "p.ome.zarr", values, Affine(10, 10), Mpp(1, 1))
    assert len(find_regions(store, store, "tumour", threshold=0.9)) == 1


def test_no_region_makes_an_empty_collection(tmp_path: Path) -> None:
    content = read_geojson(write_regions_geojson(tmp_path / "regions.geojson", [], CLASSES))
    validate(content)
    assert content["features"] == []


def test_a_polygon_that_rounding_breaks_is_mended() -> None:
    hourglass = shapely.Polygon([(0, 0), (10, 0), (5.001, 5), (10, 10), (0, 10), (4.999, 5)])
    assert hourglass.is_valid
    geometry = json.loads(geometry_text(hourglass))
    assert geometry["type"] == "MultiPolygon"
    mended = shape(geometry)
    assert mended.is_valid
    assert mended.area == pytest.approx(hourglass.area, rel=0.01)


def test_an_unknown_class_and_heatmaps_of_two_lattices_are_refused(tmp_path: Path) -> None:
    values = np.zeros((2, 4, 4), np.float32)
    store = heatmap(tmp_path / "p.ome.zarr", values, Affine(10, 10), Mpp(1, 1))
    other = heatmap(tmp_path / "e.ome.zarr", values, Affine(11, 11), Mpp(1, 1))
    with pytest.raises(OutputError, match="no channel 'stroma'"):
        find_regions(store, store, "stroma")
    with pytest.raises(ValueError, match="do not lie on one lattice"):
        find_regions(store, other, "tumour")
