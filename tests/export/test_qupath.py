"""patches.geojson: nothing in it makes QuPath refuse the file, and it lies where QuPath shows the slide."""

from __future__ import annotations

import copy
import logging
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import ValidationError
from shapely.geometry import shape

from tests.export.make_tables import patch_table
from tests.export.qupath_schema import read_geojson, validate
from wsi_cam.export import qupath
from wsi_cam.export.class_colours import class_colours, displayed_class_names
from wsi_cam.export.qupath import write_patches_geojson
from wsi_cam.export.tables import read_patches_csv, write_patches_csv
from wsi_cam.geometry import Box

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Any]:
    return read_geojson(write_patches_geojson(tmp_path / "patches.geojson", patch_table(40, unread=(5,))))


def test_what_we_write_passes_the_schema(written: dict[str, Any]) -> None:
    validate(written)
    assert len(written["features"]) == 40


def _ring(feature: dict[str, Any]) -> list[Any]:
    ring: list[Any] = feature["geometry"]["coordinates"][0]
    return ring


def _cross(feature: dict[str, Any]) -> None:
    ring = _ring(feature)
    ring[1], ring[2] = ring[2], ring[1]


def _collect(feature: dict[str, Any]) -> None:
    feature["geometry"] = {"type": "GeometryCollection", "geometries": [feature["geometry"]]}


RULES: dict[str, Change] = {
    "a classification without a colour": lambda f: f["properties"]["classification"].pop("color"),
    "a colour that is no triple of bytes": lambda f: f["properties"]["classification"].update(
        color=[1, 2, 256]
    ),
    "a name that is null": lambda f: f["properties"].update(name=None),
    "a class name that is null": lambda f: f["properties"]["classification"].update(name=None),
    "an id that is null": lambda f: f.update(id=None),
    "an id that is no UUID": lambda f: f.update(id="patch 7"),
    "properties that are null": lambda f: f.update(properties=None),
    "a geometry that is null": lambda f: f.update(geometry=None),
    "an open ring": lambda f: _ring(f).pop(),
    "a polygon that crosses itself": _cross,
    "a polygon without area": lambda f: f["geometry"].update(coordinates=[[[0, 0], [1, 0], [0, 0], [0, 0]]]),
    "a GeometryCollection": _collect,
    "an object type outside the properties": lambda f: f.update(objectType=f["properties"].pop("objectType")),
    "an object type that QuPath does not know": lambda f: f["properties"].update(objectType="patch"),
    "a class that QuPath already has": lambda f: f["properties"]["classification"].update(name="Tumor"),
    "a derived class": lambda f: f["properties"]["classification"].update(name="Tumour: model"),
    "a measurement that is null": lambda f: f["properties"]["measurements"].update(prob_tumour=None),
    "a measurement that is text": lambda f: f["properties"]["measurements"].update(prob_tumour="0.5"),
    "measurements as a list": lambda f: f["properties"].update(measurements=[{"name": "a", "value": 1}]),
    "a coordinate finer than 0.01": lambda f: _ring(f)[1].__setitem__(0, 383.841),
    "a coordinate that is null": lambda f: _ring(f)[1].__setitem__(0, None),
    "a broken child": lambda f: f["properties"].update(childObjects=[{"type": "Feature"}]),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_schema_rejects(rule: str, written: dict[str, Any]) -> None:
    broken = copy.deepcopy(written)
    RULES[rule](broken["features"][7])
    with pytest.raises(ValidationError):
        validate(broken)


def test_the_schema_rejects_one_id_for_two(written: dict[str, Any]) -> None:
    written["features"][3]["id"] = written["features"][4]["id"]
    with pytest.raises(ValidationError, match="one id"):
        validate(written)


def test_the_reader_of_these_tests_rejects_nan(tmp_path: Path) -> None:
    path = tmp_path / "nan.geojson"
    path.write_text('{"measurements":{"prob_tumour":NaN}}', encoding="utf-8")
    with pytest.raises(ValidationError, match="NaN is no JSON number"):
        read_geojson(path)


def test_a_patch_is_a_locked_tile_with_class_colour_and_measurements(written: dict[str, Any]) -> None:
    table = patch_table(40, unread=(5,))
    index = int(np.nanargmax(table.probabilities[:, 1]))
    properties = written["features"][index]["properties"]
    assert properties["objectType"] == "tile"
    assert properties["isLocked"] is True
    assert properties["classification"] == {"name": "Tumour (model)", "color": [200, 0, 0]}
    assert {name: np.float32(value) for name, value in properties["measurements"].items()} == {
        "prob_normal": table.probabilities[index, 0],
        "prob_tumour": table.probabilities[index, 1],
        "evidence_max_normal": table.evidence_max[index, 0],
        "evidence_max_tumour": table.evidence_max[index, 1],
    }


def test_a_patch_that_was_not_read_is_there_without_a_class_or_numbers(written: dict[str, Any]) -> None:
    assert written["features"][5]["properties"] == {"objectType": "tile", "name": "unread", "isLocked": True}


def test_a_missing_number_is_left_out(tmp_path: Path) -> None:
    table = patch_table(3)
    table.evidence_max[1, 0] = np.nan
    content = read_geojson(write_patches_geojson(tmp_path / "patches.geojson", table))
    validate(content)
    names = [set(feature["properties"]["measurements"]) for feature in content["features"]]
    assert names[0] - names[1] == {"evidence_max_normal"}


@pytest.mark.parametrize(
    ("origin", "bounds", "shift"),
    [
        ("qupath", None, (0, 0)),
        ("qupath", Box(100, 30.5, 5000, 5000), (-100, -30.5)),
        ("level0", Box(100, 30.5, 5000, 5000), (0, 0)),
    ],
)
def test_patches_lie_where_the_slide_is_shown(
    tmp_path: Path, origin: Any, bounds: Any, shift: tuple[float, float]
) -> None:
    table = patch_table(30, columns=6, patch_level0=(200.25, 100.125))
    path = write_patches_geojson(tmp_path / "patches.geojson", table, bounds=bounds, origin=origin)
    content = read_geojson(path)
    validate(content)
    for feature, (x, y) in zip(content["features"], table.level0_xy, strict=True):
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        moved_x, moved_y = x + shift[0], y + shift[1]
        expected = (moved_x, moved_y, moved_x + 200.25, moved_y + 100.125)
        np.testing.assert_allclose(polygon.bounds, expected, atol=0.011)


def test_an_unknown_origin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="origin is 'corner'"):
        write_patches_geojson(tmp_path / "a.geojson", patch_table(1), origin="corner")  # type: ignore[arg-type]


def test_ids_and_bytes_depend_on_the_content_only(tmp_path: Path) -> None:
    table = patch_table(50, unread=(2,))
    first = write_patches_geojson(tmp_path / "first.geojson", table)
    again = write_patches_geojson(tmp_path / "again.geojson", table)
    assert first.read_bytes() == again.read_bytes()
    changed = replace(table, probabilities=table.probabilities[:, ::-1])
    other = read_geojson(write_patches_geojson(tmp_path / "other.geojson", changed))
    ids = {feature["id"] for feature in read_geojson(first)["features"]}
    assert len(ids & {feature["id"] for feature in other["features"]}) == 1  # the one without numbers


def test_an_export_from_the_table_on_disk_equals_the_one_of_the_run(tmp_path: Path) -> None:
    table = patch_table(300, unread=(2,), columns=17, patch_level0=(383.8362, 383.8362))
    run = write_patches_geojson(tmp_path / "run.geojson", table, bounds=Box(33.337, 12.345, 900, 900))
    stored = read_patches_csv(write_patches_csv(tmp_path / "patches.csv", table))
    later = write_patches_geojson(tmp_path / "later.geojson", stored, bounds=Box(33.337, 12.345, 900, 900))
    assert run.read_bytes() == later.read_bytes()


def test_a_long_file_is_compressed_and_the_other_name_goes(tmp_path: Path) -> None:
    path, table = tmp_path / "patches.geojson", patch_table(50)
    plain = write_patches_geojson(path, table)
    text = plain.read_bytes()
    compressed = write_patches_geojson(path, table, gzip_above_bytes=1000)
    assert compressed == tmp_path / "patches.geojson.gz"
    assert read_geojson(compressed) == qupath.json.loads(text)
    assert [p.name for p in tmp_path.iterdir()] == ["patches.geojson.gz"]
    before = compressed.read_bytes()
    assert write_patches_geojson(path, table, gzip_above_bytes=1000).read_bytes() == before
    assert write_patches_geojson(path, table) == path
    assert [p.name for p in tmp_path.iterdir()] == ["patches.geojson"]


def test_too_many_tiles_for_comfort_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(qupath, "MANY_TILES", 10)
    with caplog.at_level(logging.WARNING):
        write_patches_geojson(tmp_path / "patches.geojson", patch_table(11))
    assert "11 tiles take QuPath long to load" in caplog.text


def test_no_patches_make_an_empty_collection(tmp_path: Path) -> None:
    content = read_geojson(write_patches_geojson(tmp_path / "patches.geojson", patch_table(0)))
    validate(content)
    assert content["features"] == []


def test_patches_are_written_in_little_memory(tmp_path: Path) -> None:
    table = patch_table(10_000)
    tracemalloc.start()
    write_patches_csv(tmp_path / "patches.csv", table)
    write_patches_geojson(tmp_path / "patches.geojson", table, gzip_above_bytes=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 2**20


def test_class_names_and_colours_are_our_own_and_distinct() -> None:
    names = ("normal", "tumour", "lung_aca", "Tumour", "a:b")
    displayed = displayed_class_names(names)
    assert len(set(displayed.values())) == len(names)
    assert displayed["a:b"] == "a-b (model)"
    assert displayed_class_names(["tumour"]) == {"tumour": "Tumour (model)"}
    colours = class_colours(names)
    assert len(set(colours.values())) == len(names)
    assert colours["tumour"] == (200, 0, 0)
    assert class_colours(names, {"tumour": (1, 2, 3)})["tumour"] == (1, 2, 3)
