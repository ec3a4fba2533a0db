"""Outlines and masks answer the same questions at the right place; what cannot be used is said in a line."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import MultiPolygon

from wsi_cam.cohort.labels import assign_to_slides
from wsi_cam.errors import DataError, WsiCamError
from wsi_cam.evaluation.truth import DrawnTruth, MaskTruth, TruthClasses, read_mask, read_truth
from wsi_cam.evaluation.truth_files import SlideTruth, find_truth
from wsi_cam.geometry import Affine, Box, Mpp, Size

MPP = Mpp(0.972, 0.972)
SIZE = Size(2400, 1800)
CLASSES = TruthClasses(("tumour", "_0"), ("normal",), ("_2",))


def feature(name: str | None, left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    properties = {} if name is None else {"classification": {"name": name}}
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
    }


def geojson(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def asap(path: Path, groups: dict[str, tuple[float, float, float, float]]) -> Path:
    annotations = ""
    for group, (left, top, right, bottom) in groups.items():
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        places = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(corners))
        annotations += f'<Annotation PartOfGroup="{group}"><Coordinates>{places}</Coordinates></Annotation>'
    path.write_text(f"<ASAP_Annotations><Annotations>{annotations}</Annotations></ASAP_Annotations>")
    return path


def write_mask(
    path: Path, mask: NDArray[np.uint8], factors: tuple[int, ...] = (1, 2, 4), **options: Any
) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for factor in factors:
            kind = int(factor > 1)
            tiff.write(mask[::factor, ::factor], subfiletype=kind, metadata=None, **options)
    return path


def test_qupath_begins_at_the_bounds_and_asap_and_masks_at_level_0(tmp_path: Path) -> None:
    bounds = Box[Any](400, 300, 2000, 1500)
    drawn = read_truth(
        geojson(tmp_path / "a.geojson", feature("Tumour", 0, 0, 96, 96)), CLASSES, SIZE, MPP, bounds
    )
    assert drawn.box == Box(400, 300, 96, 96)
    drawn = read_truth(asap(tmp_path / "a.xml", {"_0": (0, 0, 96, 96)}), CLASSES, SIZE, MPP, bounds)
    assert drawn.box == Box(0, 0, 96, 96)
    mask = np.zeros((SIZE.height, SIZE.width), np.uint8)
    mask[:96, :96] = 255
    masked = read_truth(write_mask(tmp_path / "a.tif", mask, tile=(256, 256)), CLASSES, SIZE, MPP, bounds)
    assert masked.box == Box(0, 0, 96, 96)


@pytest.mark.parametrize("options", [{"tile": (256, 256), "compression": "deflate"}, {"rowsperstrip": 7}, {}])
def test_a_mask_of_several_levels_answers_as_its_outline(tmp_path: Path, options: dict[str, Any]) -> None:
    box = (960, 576, 2112, 1536)
    mask = np.zeros((SIZE.height, SIZE.width), np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    masked = read_mask(write_mask(tmp_path / "a.tif", mask, **options), SIZE, MPP)
    drawn = DrawnTruth(MultiPolygon([shapely.box(*box)]))
    assert masked.mask.size < 9 * mask.size / 16  # 0.972 um/px is more than is kept
    lattice, size = Affine[Any, Any](32, 32), Size(75, 57)
    np.testing.assert_array_equal(masked.raster(lattice, size), drawn.raster(lattice, size))
    squares = np.array(
        [[944.0, 560, 976, 592], [900, 600, 1020, 640], [0, 0, 32, 32], [2390, 1790, 2500, 1900]]
    )
    np.testing.assert_allclose(masked.share(squares), drawn.share(squares), atol=0.1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), first=st.integers(0, 60))
def test_bands_are_parts_of_the_whole_raster(seed: int, first: int) -> None:
    random = np.random.default_rng(seed)
    centres = random.uniform(0, 4000, (6, 2))
    circles = [shapely.Point(*c).buffer(random.uniform(20, 900)) for c in centres]
    merged = shapely.union_all(circles)
    truths = [
        DrawnTruth(MultiPolygon([p for p in shapely.get_parts(merged) if p.geom_type == "Polygon"])),
        MaskTruth(random.random((750, 1000)) < 0.3, Affine(4, 4)),
    ]
    for truth in truths:
        whole = truth.raster(Affine(32.5, 31.5), Size(120, 90))
        band = truth.raster(Affine(32.5, 31.5, 0, first * 31.5), Size(120, 20))
        np.testing.assert_array_equal(band[: 90 - first], whole[first : first + 20])


def test_holes_are_taken_out_and_other_classes_are_not_the_target(tmp_path: Path) -> None:
    path = asap(
        tmp_path / "a.xml",
        {"_0": (0, 0, 100, 100), "_2": (20, 20, 60, 60), "Normal": (500, 500, 600, 600)},
    )
    truth = read_truth(path, CLASSES, SIZE, MPP, None)
    assert isinstance(truth, DrawnTruth)
    assert truth.area.area == pytest.approx(100 * 100 - 40 * 40)


def test_outlines_end_at_the_edge_of_the_slide_and_those_off_it_are_an_error(tmp_path: Path) -> None:
    width, height = SIZE.width, SIZE.height
    over = geojson(
        tmp_path / "a.geojson", feature("tumour", width - 96, height - 96, width + 32, height + 32)
    )
    assert read_truth(over, CLASSES, SIZE, MPP, None).box == Box(width - 96, height - 96, 96, 96)
    off = geojson(tmp_path / "b.geojson", feature("tumour", 1e7, 1e7, 1.1e7, 1.1e7))
    for size in (SIZE, None):  # of a slide that could not be opened, too
        with pytest.raises(DataError, match="off the slide"):
            read_truth(off, CLASSES, size, MPP, None)


def test_an_empty_collection_is_a_slide_without_the_target(tmp_path: Path) -> None:
    truth = read_truth(geojson(tmp_path / "a.geojson"), CLASSES, SIZE, MPP, None)
    assert truth.box is None
    assert not truth.raster(Affine(32, 32), Size(9, 9)).any()
    assert truth.share(np.array([[0.0, 0, 9, 9]])).tolist() == [0]


def test_an_unknown_class_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", feature("Necrosis", 0, 0, 9, 9))
    with pytest.raises(
        DataError, match=r"'Necrosis' is unknown; known are tumour, _0, normal, _2.*--other-name"
    ):
        read_truth(path, CLASSES, SIZE, MPP, None)


HOSTILE = {
    "empty.geojson": b"",
    "cut.geojson": b'{"type": "FeatureCollection", "features": [{"type": "Fea',
    "list.geojson": b"[1, 2, 3]",
    "number.geojson": b"7",
    "latin.geojson": b'{"features": [{"properties": "\xff\xfe"}]}',
    "cut.geojson.gz": gzip.compress(b'{"features": []}')[:-9],
    "no_class.geojson": json.dumps({"features": [feature(None, 0, 0, 9, 9)]}).encode(),
    "nan.geojson": b'{"features": [{"geometry": {"type": "Polygon", "coordinates": '
    b'[[[0, 0], [NaN, 0], [9, 9], [0, 0]]]}, "properties": {"classification": {"name": "tumour"}}}]}',
    "words.geojson": b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[["a", "b"]]]}}]}',
    "properties.geojson": b'{"features": [{"geometry": null, "properties": [1]}]}',
    "cut.xml": b"<ASAP_Annotations><Annotations>",
    "words.xml": b'<ASAP_Annotations><Annotation PartOfGroup="_0"><Coordinates>'
    b'<Coordinate Order="x" X="1" Y="2"/></Coordinates></Annotation></ASAP_Annotations>',
    "entities.xml": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>',
    "text.tif": b"no picture",
    "cut.tif": b"II*\0\x08\0\0\0\xff\xff",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line_that_names_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    with pytest.raises(WsiCamError, match=name.replace(".", r"\.")) as caught:
        read_truth(path, CLASSES, SIZE, MPP, None)
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_shape_or_of_colours_is_refused(tmp_path: Path) -> None:
    square = write_mask(tmp_path / "square.tif", np.zeros((500, 500), np.uint8))
    with pytest.raises(DataError, match="500 x 500 px does not fit a slide of 2400 x 1800"):
        read_mask(square, SIZE, MPP)
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((30, 40, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match="one channel"):
        read_mask(tmp_path / "rgb.tif", SIZE, MPP)


def test_a_mask_in_a_coding_that_no_mask_has_is_refused(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "a.tif", np.zeros((1800, 2400), np.uint8), (1,), compression="packbits")
    with pytest.raises(DataError, match=r"compression 32773, .* write it with deflate, LZW or none"):
        read_mask(path, SIZE, MPP)


def test_a_mask_that_is_damaged_half_way_is_refused(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (1800, 2400)).astype(np.uint8)
    path = write_mask(tmp_path / "a.tif", mask, (1,), tile=(256, 256), compression="deflate")
    content = bytearray(path.read_bytes())
    content[5_000:100_000] = bytes(95_000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: no readable mask"):
        read_mask(path, SIZE, MPP)


# The same examples each time: a decoder written in C that crashed would take the other tests along.
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), compression=st.sampled_from(["deflate", "lzw", None]))
def test_a_mask_with_any_bytes_changed_is_read_or_refused(
    data: st.DataObject, compression: str | None
) -> None:
    mask = np.zeros((180, 240), np.uint8)
    mask[20:60, 50:90] = 1
    with tempfile.TemporaryDirectory() as folder:
        path = write_mask(Path(folder) / "a.tif", mask, (1, 2), tile=(64, 64), compression=compression)
        content = bytearray(path.read_bytes())
        places = st.integers(0, min(900, len(content) - 1))
        for place in data.draw(st.lists(places, min_size=1, max_size=5)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
        with contextlib.suppress(DataError):
            assert read_mask(path, Size(240, 180), Mpp(4, 4)).mask.ndim == 2


def test_truth_is_found_by_sample_id_and_by_file_name(tmp_path: Path) -> None:
    for name in ("a.geojson", "b_mask.tif", "c.x.geojson.gz", "notes.txt", ".hidden.xml"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "labels.csv").write_text("sample_id,label\na,tumour\nd,normal\ne.svs,1\n")
    truth = find_truth(tmp_path, CLASSES)
    assert truth == {
        "a": SlideTruth(True, tmp_path / "a.geojson"),
        "b": SlideTruth(None, tmp_path / "b_mask.tif"),
        "c.x": SlideTruth(None, tmp_path / "c.x.geojson.gz"),
        "d": SlideTruth(False, None),
        "e.svs": SlideTruth(True, None),
    }
    slides = [
        ("a-one", "/one/a.svs"),
        ("b", "/b.svs"),
        ("d-1", "/1/d.svs"),
        ("d-2", "/2/d.svs"),
        ("e", "/e.svs"),
    ]
    assigned, left = assign_to_slides(slides, truth)
    assert set(assigned) == {"a-one", "b", "e"}
    assert left == ["c.x", "d"]  # no slide, and two slides of that name


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("sample_id,label\na,blue\n", "blue"),
        ("sample_id\na\n", "label"),
        ("label\ntumour\n", "sample_id"),
        ("sample_id,label\na,tumour\na,normal\n", "a is called"),
    ],
)
def test_labels_that_say_nothing_clear_are_refused(tmp_path: Path, labels: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(labels)
    with pytest.raises(DataError, match=message):
        find_truth(tmp_path / "labels.csv", CLASSES)


def test_two_truths_for_a_slide_and_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no truth in it"):
        find_truth(tmp_path, CLASSES)
    for name in ("missing", "missing.csv"):
        with pytest.raises(DataError, match=rf"{name}: no such folder or file; give --truth a folder"):
            find_truth(tmp_path / name, CLASSES)
    (tmp_path / "labels.txt").touch()
    with pytest.raises(DataError, match="neither a folder nor"):
        find_truth(tmp_path / "labels.txt", CLASSES)
    for name in ("a.geojson", "a.xml"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.xml: a second truth for a, beside a\.geojson"):
        find_truth(tmp_path, CLASSES)
