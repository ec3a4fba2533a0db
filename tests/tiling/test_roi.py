"""Regions drawn in QuPath come back as the mask they outline."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon

from wsi_cam.errors import SettingsError, TissueError
from wsi_cam.geometry import Affine, Level0, Point, Thumbnail
from wsi_cam.tiling.roi import mask_from_polygons, read_roi

SQUARE = {"type": "Polygon", "coordinates": [[[10, 20], [30, 20], [30, 60], [10, 60], [10, 20]]]}
HOLE = [[15, 30], [25, 30], [25, 40], [15, 40], [15, 30]]
WITH_HOLE = {"type": "Polygon", "coordinates": [*SQUARE["coordinates"], HOLE]}
TWO = {"type": "MultiPolygon", "coordinates": [WITH_HOLE["coordinates"], [[[0, 0], [5, 0], [5, 5], [0, 0]]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
POINT = {"type": "Point", "coordinates": [1, 2]}


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": "PathAnnotationObject",
        "geometry": geometry,
        "properties": {"objectType": "annotation"} | properties,
    }


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def written(folder: Path, content: Any, name: str = "roi.geojson") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "areas"),
    [
        (SQUARE, [800]),
        (TWO, [700, 12.5]),
        (feature(WITH_HOLE), [700]),
        ([feature(SQUARE), feature(WITH_HOLE)], [800, 700]),
        (collection(feature(SQUARE), feature(TWO)), [800, 700, 12.5]),
        (collection(feature(WITH_HOLE, childObjects=[feature(SQUARE)])), [700]),
        (feature(BOW_TIE), [25, 25]),
        (
            {"type": "Polygon", "coordinates": [[[0, 0, 1], [4, 0, 1], [4, 4, 1], [0, 4, 1], [0, 0, 1]]]},
            [16],
        ),
    ],
    ids=["geometry", "multipolygon", "feature", "list", "collection", "nested", "bow tie", "with z"],
)
def test_every_form_that_qupath_writes_is_read(content: Any, areas: list[float], tmp_path: Path) -> None:
    polygons = read_roi(written(tmp_path, content))
    assert [p.area for p in polygons] == areas
    assert all(isinstance(p, Polygon) and p.is_valid and not p.has_z for p in polygons)


def test_a_gzipped_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    for name in ("roi.geojson.gz", "roi.geojson"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(json.dumps(SQUARE).encode()))
        assert [p.area for p in read_roi(path)] == [800]


def test_the_corner_of_a_cropped_slide_is_added(tmp_path: Path) -> None:
    (moved,) = read_roi(written(tmp_path, SQUARE), origin=Point[Level0](1000, 500))
    assert moved.bounds == (1010, 520, 1030, 560)


def test_what_is_no_area_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, collection(feature(POINT), feature(SQUARE), feature(None), feature(POINT)))
    with caplog.at_level(logging.WARNING):
        assert len(read_roi(path)) == 1
    assert "2 of type Point" in caplog.text
    assert "no geometry" in caplog.text
    assert str(path) in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (collection(feature(POINT)), "no polygon"),
        (collection(), "no polygon"),
        ([], "no polygon"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [2, 0], [0, 0]]]}, "no polygon"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "damaged Polygon"),
        ({"type": "Polygon", "coordinates": [["a", "b"], 3]}, "damaged Polygon"),
        ({"type": "Polygon"}, "damaged Polygon"),
        ({"type": "MultiPolygon", "coordinates": 7}, "damaged MultiPolygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 0], [1, 1], [0, 0]]]}', "no number"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1e999, 0], [1, 1], [0, 0]]]}', "no number"),
        ({"name": "not a geometry"}, "not GeoJSON"),
        ([1, 2], "not GeoJSON"),
        (3, "not GeoJSON"),
        ("minx,miny\n1,2", "not GeoJSON"),
        ("", "not GeoJSON"),
    ],
)
def test_a_file_that_marks_nothing_is_refused_by_name(content: Any, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(SettingsError, match=reason) as error:
        read_roi(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (gzip.compress(json.dumps(SQUARE).encode())[:20], "cannot be read"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
        (b"\xff\xfe\x00\x80", "not GeoJSON"),
        (b"\x89PNG\r\n\x1a\n", "a binary file"),
    ],
    ids=["missing", "gzip cut off", "no gzip", "no text", "a picture"],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "roi.geojson"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=reason) as error:
        read_roi(path)
    assert str(path) in str(error.value)
    with pytest.raises(SettingsError):
        read_roi(tmp_path)


def test_a_region_on_pixel_borders_gives_exactly_these_pixels() -> None:
    square = Polygon([(10, 20), (30, 20), (30, 60), (10, 60)], [[(20, 30), (30, 30), (30, 50), (20, 50)]])
    tissue = mask_from_polygons([square], (8, 5), Affine[Thumbnail, Level0](10, 10), "roi.geojson")
    assert tissue.source == "roi.geojson"
    assert tissue.mask.astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


coordinates = st.floats(-40, 140, allow_subnormal=False).map(lambda v: v + 0.0123)
outlines = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9)


@settings(deadline=None)
@given(st.lists(outlines, min_size=1, max_size=4), st.floats(3, 9), st.floats(3, 9))
def test_a_pixel_is_in_where_its_centre_is_in_any_region(
    rings: list[list[tuple[float, float]]], scale_x: float, scale_y: float
) -> None:
    valid = [shapely.make_valid(Polygon(ring)) for ring in rings]
    polygons = [p for v in valid for part in shapely.get_parts(v) for p in shapely.get_parts(part)]
    polygons = [p for p in polygons if isinstance(p, Polygon) and not p.is_empty]
    to_level0 = Affine[Thumbnail, Level0](scale_x, scale_y, 3, -2)
    row, column = np.mgrid[:12, :14]
    centres = to_level0.points(np.stack([column + 0.5, row + 0.5], axis=-1))
    every = shapely.union_all(polygons)
    expected = shapely.contains_xy(every, centres[..., 0], centres[..., 1])
    try:
        mask = mask_from_polygons(polygons, (12, 14), to_level0, "test").mask
    except TissueError:
        mask = np.zeros((12, 14), bool)
    # A centre that lies on an outline may fall to either side.
    clear = shapely.distance(shapely.points(centres), every.boundary) > 1e-6
    assert (mask == expected)[clear].all()


def test_regions_beside_the_slide_are_an_error_that_says_where_the_slide_is() -> None:
    with pytest.raises(TissueError, match=r"roi\.geojson.*x 0 to 50 and y 0 to 80"):
        mask_from_polygons(
            [shapely.box(100, 100, 200, 200)], (8, 5), Affine[Thumbnail, Level0](10, 10), "roi.geojson"
        )
