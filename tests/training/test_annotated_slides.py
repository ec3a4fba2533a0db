"""Patches cut from annotated slides lie where the annotation is, and carry its class."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image

from tests.make_slides import tissue_image, write_generic_tiff
from tests.training.make_patches import write_csv
from wsi_cam.errors import DataError, SettingsError, SpacingError
from wsi_cam.geometry import Box, Mpp
from wsi_cam.slides.opening import open_slide
from wsi_cam.training.annotated_slides import CuttingSettings, cut_annotated_slides
from wsi_cam.training.annotations import read_annotations
from wsi_cam.training.data import read_data
from wsi_cam.training.patches import read_patch_set
from wsi_cam.training.splits import make_split

MPP = Mpp(2.0, 2.0)
SETTINGS = CuttingSettings(size_px=32, mpp_um=2.0)


def region(name: str | None, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """A rectangle as QuPath exports it."""
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    said = {} if name is None else {"classification": {"name": name, "color": [200, 0, 0]}}
    return {
        "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"objectType": "annotation", **said},
    }  # fmt: skip


def write_geojson(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def write_asap(path: Path, *regions: tuple[str, list[tuple[float, float]]]) -> Path:
    parts = []
    for group, corners in regions:
        points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(corners))
        parts.append(
            f'<Annotation Name="a" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">'
            f"<Coordinates>{points}</Coordinates></Annotation>"
        )
    path.write_text(f"<ASAP_Annotations><Annotations>{''.join(parts)}</Annotations></ASAP_Annotations>")
    return path


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """512 px of tissue in glass, 2 um/px, stored without loss."""
    image = tissue_image(640, 640, [(64, 64, 512, 512)])
    return write_generic_tiff(tmp_path_factory.mktemp("slides") / "case1.tif", image, MPP, levels=(1,))


def cut(
    tmp_path: Path, slide: Path, annotations: Path, settings: CuttingSettings = SETTINGS
) -> list[dict[str, str]]:
    manifest = write_csv(tmp_path / "slides.csv", "image_path,annotations", f"{slide},{annotations}")
    with cut_annotated_slides(manifest, tmp_path / "patches", settings).open(newline="") as file:
        return list(csv.DictReader(file))


def corner_of(row: dict[str, str]) -> tuple[int, int]:
    _, x, y = Path(row["path"]).stem.rsplit("_", 2)
    return int(x), int(y)


class TestCutting:
    def test_patches_are_the_slide_s_own_pixels_inside_the_region(self, tmp_path: Path, slide: Path) -> None:
        tumour, normal = (96, 96, 128, 64), (320, 320, 96, 96)
        drawn = write_geojson(tmp_path / "a.geojson", region("Tumour", *tumour), region("Normal", *normal))
        rows = cut(tmp_path, slide, drawn)
        assert {corner_of(r) for r in rows if r["label"] == "Tumour"} == {
            (x, y) for x in range(96, 224, 32) for y in (96, 128)
        }
        assert sum(r["label"] == "Normal" for r in rows) == 9
        with open_slide(slide) as opened:
            for row in rows:
                expected = opened.read_region(0, (*corner_of(row), 32, 32))
                with Image.open(tmp_path / "patches" / row["path"]) as picture:
                    np.testing.assert_array_equal(np.asarray(picture), expected)

    def test_half_of_the_label_region_decides(self, tmp_path: Path, slide: Path) -> None:
        # The edge at 140 cuts the patches of column 128: twelve of their 32 px are inside.
        drawn = write_geojson(tmp_path / "a.geojson", region("Tumour", 96, 96, 44, 64))
        whole = cut(tmp_path, slide, drawn)
        assert {corner_of(r)[0] for r in whole} == {96}
        # Of a central 8 px (140 to 148) nothing is; of one up to 150 in column 128 more than half is.
        wider = write_geojson(tmp_path / "b.geojson", region("Tumour", 96, 96, 50, 64))
        centre = CuttingSettings(size_px=32, mpp_um=2.0, label_region_px=8)
        assert {corner_of(r)[0] for r in cut(tmp_path, slide, drawn, centre)} == {96}
        assert {corner_of(r)[0] for r in cut(tmp_path, slide, wider, centre)} == {96, 128}

    def test_patches_claimed_by_two_classes_are_left_out(self, tmp_path: Path, slide: Path) -> None:
        drawn = write_geojson(
            tmp_path / "a.geojson", region("Tumour", 96, 96, 96, 32), region("Normal", 160, 96, 96, 32)
        )
        found = {corner_of(r)[0]: r["label"] for r in cut(tmp_path, slide, drawn)}
        assert found == {96: "Tumour", 128: "Tumour", 192: "Normal", 224: "Normal"}

    def test_glass_inside_a_region_is_not_cut(self, tmp_path: Path, slide: Path) -> None:
        drawn = write_geojson(tmp_path / "a.geojson", region("Tumour", 0, 0, 640, 640))
        corners = [corner_of(r) for r in cut(tmp_path, slide, drawn)]
        assert len(corners) == 16 * 16
        assert min(min(c) for c in corners) == 64

    def test_another_spacing_is_resampled(self, tmp_path: Path, slide: Path) -> None:
        drawn = write_geojson(tmp_path / "a.geojson", region("Tumour", 64, 64, 512, 512))
        rows = cut(tmp_path, slide, drawn, CuttingSettings(size_px=32, mpp_um=4.0))
        assert len(rows) == 8 * 8
        with Image.open(tmp_path / "patches" / rows[0]["path"]) as picture:
            assert picture.size == (32, 32)

    def test_the_number_of_patches_can_be_limited_and_is_drawn_by_seed(
        self, tmp_path: Path, slide: Path
    ) -> None:
        drawn = write_geojson(tmp_path / "a.geojson", region("Tumour", 64, 64, 512, 512))
        chosen = [
            cut(tmp_path, slide, drawn, CuttingSettings(size_px=32, mpp_um=2.0, max_patches=7, seed=seed))
            for seed in (0, 0, 1)
        ]
        assert [len(rows) for rows in chosen] == [7, 7, 7]
        assert chosen[0] == chosen[1] != chosen[2]

    def test_only_the_classes_asked_for(self, tmp_path: Path, slide: Path) -> None:
        drawn = write_geojson(
            tmp_path / "a.geojson", region("Tumour", 96, 96, 64, 64), region("Ignore*", 320, 320, 64, 64)
        )
        settings = CuttingSettings(size_px=32, mpp_um=2.0, class_names=("Normal", "Tumour"))
        assert {r["label"] for r in cut(tmp_path, slide, drawn, settings)} == {"Tumour"}

    def test_qupath_s_coordinates_begin_at_the_bounds_and_asap_s_do_not(
        self, tmp_path: Path, slide: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from wsi_cam.training import annotated_slides

        class Bounded:
            """The slide as a scanner writes it that says which part it scanned."""

            class info:
                bounds = Box[Any](64, 64, 512, 512)

        geojson = write_geojson(tmp_path / "a.geojson", region("Tumour", 0, 0, 32, 32))
        asap = write_asap(tmp_path / "a.xml", ("Tumour", [(0, 0), (32, 0), (32, 32), (0, 32)]))
        for path, corner in ((geojson, 64), (asap, 0)):
            regions = annotated_slides._regions_on(Bounded(), path, None)  # type: ignore[arg-type]
            assert regions["Tumour"].bounds == (corner, corner, corner + 32, corner + 32)

    def test_nothing_is_left_behind_when_it_fails(self, tmp_path: Path, slide: Path) -> None:
        drawn = write_geojson(tmp_path / "a.geojson", region("Tumour", 5000, 5000, 64, 64))
        with pytest.raises(DataError, match="no patch lies in an annotated region"):
            cut(tmp_path, slide, drawn)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.geojson", "slides.csv"]

    def test_a_slide_without_spacing_says_so(self, tmp_path: Path) -> None:
        bare = write_generic_tiff(
            tmp_path / "bare.tif", tissue_image(256, 256, [(0, 0, 256, 256)]), None, levels=(1,)
        )
        drawn = write_geojson(tmp_path / "a.geojson", region("Tumour", 0, 0, 256, 256))
        with pytest.raises(SpacingError, match=r"bare\.tif"):
            cut(tmp_path, bare, drawn)
        manifest = write_csv(tmp_path / "s.csv", "image_path,annotations,mpp", f"{bare},{drawn},2.0")
        assert len(read_patch_set(cut_annotated_slides(manifest, tmp_path / "p", SETTINGS))) > 0


def test_slides_are_groups_and_never_on_both_sides_of_a_split(tmp_path: Path) -> None:
    rows = []
    for i in range(4):
        image = tissue_image(256, 256, [(0, 0, 256, 256)], seed=i)
        write_generic_tiff(tmp_path / f"slide{i}.tif", image, MPP, levels=(1,))
        write_geojson(
            tmp_path / f"slide{i}.geojson", region("Tumour", 0, 0, 96, 96), region("Normal", 128, 0, 96, 96)
        )
        rows.append(f"slide{i}.tif,slide{i}.geojson")
    manifest = write_csv(tmp_path / "slides.csv", "image_path,annotations", *rows)
    patches = read_data(manifest, tmp_path / "patches", SETTINGS)
    assert patches.class_names == ("Normal", "Tumour")
    assert set(patches.groups or ()) == {f"slide{i}.tif" for i in range(4)}
    split = make_split(patches)
    sides = [set(split.part(name).groups or ()) for name in ("train", "fit", "report")]
    assert all(sides)
    assert sum(map(len, sides)) == len(set().union(*sides))
    with pytest.raises(SettingsError, match="add a group column"):
        read_data(manifest, tmp_path / "patches", SETTINGS, groups=tmp_path / "groups.csv")


def asap_triangle(order: str, x: str) -> str:
    """An outline whose first corner has this order and x."""
    corners = [(order, x, "0"), ("1", "9", "0"), ("2", "9", "9")]
    coordinates = "".join(f'<Coordinate Order="{o}" X="{x}" Y="{y}"/>' for o, x, y in corners)
    return f"<ASAP_Annotations><Annotation>{coordinates}</Annotation></ASAP_Annotations>"


class TestAnnotations:
    def test_asap_polygons_by_group(self, tmp_path: Path) -> None:
        square = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)]
        file = write_asap(
            tmp_path / "a.xml", ("Tumor", square), ("None", square), ("Tumor", [(5, 5), (20, 5), (20, 15)])
        )
        regions = read_annotations(file)
        assert list(regions) == ["Tumor"]
        expected = shapely.union(shapely.box(0, 0, 10, 10), shapely.Polygon([(5, 5), (20, 5), (20, 15)]))
        assert regions["Tumor"].equals(expected)

    def test_holes_multipolygons_and_crossed_outlines(self, tmp_path: Path) -> None:
        with_hole = shapely.box(0, 0, 10, 10) - shapely.box(2, 2, 4, 4)
        two = shapely.MultiPolygon([with_hole, shapely.box(20, 0, 30, 10)])
        bow = {"type": "Polygon", "coordinates": [[[0, 20], [10, 30], [10, 20], [0, 30], [0, 20]]]}
        features = [
            {"type": "Feature", "geometry": geometry, "properties": {"classification": "Tumour"}}
            for geometry in (shapely.geometry.mapping(two), bow)
        ]
        area = read_annotations(write_geojson(tmp_path / "a.geojson", *features))["Tumour"]
        assert area.is_valid
        assert area.area == pytest.approx(100 - 4 + 100 + 50)

    def test_a_zipped_list_of_features(self, tmp_path: Path) -> None:
        (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(json.dumps([region("A", 0, 0, 1, 1)]).encode()))
        assert read_annotations(tmp_path / "a.geojson.gz")["A"].area == 1

    def test_what_has_no_class_or_no_area_is_passed_over_aloud(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]},
                 "properties": {"classification": {"name": "A"}}}  # fmt: skip
        file = write_geojson(tmp_path / "a.geojson", region("A", 0, 0, 1, 1), region(None, 0, 0, 1, 1), point)
        assert list(read_annotations(file)) == ["A"]
        assert "objects without a class passed over: 1" in caplog.text
        assert "objects that are no area passed over: 1" in caplog.text

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.geojson", "{", "is not GeoJSON"),
            ("a.geojson", "[1, 2]", "not GeoJSON"),
            ("a.geojson", '{"type": "FeatureCollection", "features": []}', "no area with a class"),
            (
                "a.geojson",
                '[{"geometry": {"type": "Polygon", "coordinates": 5}}]',
                "object 1 is a damaged Polygon",
            ),
            ("a.xml", "<a", "no readable XML"),
            ("a.xml", "<svg><a/></svg>", "not ASAP's XML"),
            (
                "a.xml",
                '<ASAP_Annotations><Annotation><Coordinate Order="0"/></Annotation></ASAP_Annotations>',
                "annotation 1 is damaged",
            ),
            ("a.xml", asap_triangle(order="0", x="nan"), "annotation 1 is damaged .*no number"),
            ("a.xml", asap_triangle(order="0", x="inf"), "annotation 1 is damaged .*no number"),
            ("a.xml", asap_triangle(order="inf", x="0"), "annotation 1 is damaged"),
        ],
    )
    def test_files_that_cannot_be_used(self, tmp_path: Path, name: str, content: str, message: str) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=message):
            read_annotations(tmp_path / name)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("image_path,annotations", "gone.svs,a.geojson", r"line 2: gone\.svs is not there"),
        ("image_path,annotations", "a.geojson,", "line 2: empty annotations"),
        ("image_path,annotations,group", "a.geojson,a.geojson,", "line 2: empty group"),
        ("image_path,annotations,split", "a.geojson,a.geojson,some", "line 2: split 'some'"),
        ("image_path,annotations,mpp", "a.geojson,a.geojson,-1", "line 2: mpp '-1'"),
    ],
)
def test_a_manifest_with_gaps(tmp_path: Path, header: str, row: str, message: str) -> None:
    write_geojson(tmp_path / "a.geojson", region("A", 0, 0, 1, 1))
    manifest = write_csv(tmp_path / "slides.csv", header, row)
    with pytest.raises(DataError, match=message):
        read_data(manifest, tmp_path / "patches", SETTINGS)


def test_a_manifest_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        read_data(write_csv(tmp_path / "s.csv", "image_path,annotations"), tmp_path / "p", SETTINGS)
