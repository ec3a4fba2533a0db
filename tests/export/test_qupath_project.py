"""The QuPath project: its keys, what survives another export, and what its scripts do with the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import numpy as np
import pytest
from PIL import Image

from tests.export.groovy import Groovy, require_groovy
from tests.export.make_run import CELL_PX, finished_run, finished_source, planted_probability, small_slide
from tests.make_slides import tissue_image, write_ome_tiff
from wsi_cam.errors import OutputError
from wsi_cam.export import qupath_heatmaps
from wsi_cam.export.exporters import export
from wsi_cam.export.qupath_project import SCRIPTS, write_qupath_project
from wsi_cam.export.source import ExportOptions, export_source
from wsi_cam.geometry import Affine, Box, Mpp
from wsi_cam.run_folder import RunFolder

OPENSLIDE = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"
BIOFORMATS = "qupath.lib.images.servers.bioformats.BioFormatsServerBuilder"


def run_of(tmp_path: Path, *samples: str, folder: str = "run") -> RunFolder:
    for sample in samples:
        slide = tmp_path / "slides" / f"{sample} ü.svs"
        if not slide.exists():
            small_slide(slide)
        finished_run(tmp_path / folder, slide, sample_id=sample)
    return RunFolder(tmp_path / folder)


def project_of(run: RunFolder, *samples: str) -> dict[str, Any]:
    path = write_qupath_project(run, [export_source(run, sample) for sample in samples])
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def local_path(uri: str) -> Path:
    parsed = urlparse(uri)
    assert parsed.scheme == "file"
    return Path(unquote(parsed.path))


def test_the_project_has_the_keys_that_qupath_reads_and_points_at_the_slides(tmp_path: Path) -> None:
    run = run_of(tmp_path, "b", "a")
    project = project_of(run, "b", "a")
    assert list(project) == ["version", "createTimestamp", "modifyTimestamp", "uri", "lastID", "images"]
    assert local_path(project["uri"]) == run.path / "qupath" / "project.qpproj"
    assert project["lastID"] == 2
    for number, (entry, sample) in enumerate(zip(project["images"], "ab", strict=True), start=1):
        assert set(entry) == {"serverBuilder", "entryID", "randomizedName", "imageName", "metadata"}
        assert entry["entryID"] == number
        assert entry["imageName"] == sample
        assert UUID(entry["randomizedName"]).version == 5
        assert entry["metadata"] == {"wsi_cam score (tumour)": "0.9000"}
        builder = entry["serverBuilder"]
        assert {key: builder[key] for key in ("builderType", "providerClassName", "args")} == {
            "builderType": "uri",
            "providerClassName": OPENSLIDE,
            "args": [],
        }
        slide = local_path(builder["uri"])
        assert slide.is_absolute()
        assert slide.read_bytes() == (tmp_path / "slides" / f"{sample} ü.svs").read_bytes()
    samples = json.loads((run.path / "qupath" / "results.json").read_text())["samples"]
    assert samples == {"1": "a", "2": "b"}
    assert sorted(path.name for path in (run.path / "qupath" / "scripts").iterdir()) == sorted(SCRIPTS)


def test_a_slide_that_openslide_cannot_read_is_opened_by_bioformats(tmp_path: Path) -> None:
    slide = write_ome_tiff(tmp_path / "a.ome.tif", tissue_image(300, 400, [(0, 0, 400, 300)]), Mpp(0.5, 0.5))
    run = finished_run(tmp_path / "run", slide, sample_id="a")
    record = json.loads(run.slide("a").slide_json.read_text())
    record["slide"].update(vendor="ome-tiff", series=2)
    run.slide("a").slide_json.write_text(json.dumps(record))
    builder = project_of(run, "a")["images"][0]["serverBuilder"]
    assert (builder["providerClassName"], builder["args"]) == (BIOFORMATS, ["--series", "2"])


def test_equal_runs_in_one_place_give_equal_projects(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a", "b")
    project_of(run, "a", "b")
    first = {path.name: path.read_bytes() for path in (run.path / "qupath").rglob("*") if path.is_file()}
    project_of(run, "b", "a")
    again = {path.name: path.read_bytes() for path in (run.path / "qupath").rglob("*") if path.is_file()}
    assert first == again


def test_what_a_user_did_in_qupath_survives_another_export(tmp_path: Path) -> None:
    run = run_of(tmp_path, "b", "a", "c")
    project = project_of(run, "b")
    project["images"][0]["imageName"] = "renamed"
    project["images"][0]["serverBuilder"]["metadata"] = {"pixelWidthMicrons": 0.25}
    # Java writes addresses with one slash.
    project["images"][0]["serverBuilder"]["uri"] = project["images"][0]["serverBuilder"]["uri"].replace(
        "file:///", "file:/"
    )
    added = {
        "serverBuilder": {"builderType": "rotated", "builder": {}},
        "entryID": 7,
        "imageName": "my own",
        "metadata": {},
    }
    project["images"].append(added)
    path = run.path / "qupath" / "project.qpproj"
    path.write_text(json.dumps(project))
    later = project_of(run, "a", "b", "c")
    assert later["images"][:2] == project["images"]
    assert [(entry["entryID"], entry["imageName"]) for entry in later["images"][2:]] == [(8, "a"), (9, "c")]
    assert later["lastID"] == 9
    samples = json.loads((run.path / "qupath" / "results.json").read_text())["samples"]
    assert samples == {"1": "b", "8": "a", "9": "c"}


def test_a_slide_that_moved_gets_its_new_address_and_keeps_its_number(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a", "b")
    project_of(run, "a", "b")
    moved = small_slide(tmp_path / "elsewhere" / "b.svs")
    finished_run(tmp_path / "again", moved, sample_id="b")
    record = (tmp_path / "again" / "slides" / "b" / "slide.json").read_text()
    run.slide("b").slide_json.write_text(record)
    entry = project_of(run, "b")["images"][1]
    assert entry["entryID"] == 2
    assert local_path(entry["serverBuilder"]["uri"]) == moved


@pytest.mark.parametrize("content", ["", "[]", '{"images": [{}]}', '{"lastID": 1}'])
def test_what_is_no_project_is_left_alone(tmp_path: Path, content: str) -> None:
    run = run_of(tmp_path, "a")
    path = run.path / "qupath" / "project.qpproj"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(OutputError, match=r"project\.qpproj: cannot be added to .*move it away"):
        project_of(run, "a")
    assert path.read_text() == content


@pytest.mark.parametrize("origin", ["qupath", "level0"])
@pytest.mark.parametrize("bounds", [None, Box(110, 90, 700, 500)], ids=["whole", "bounds"])
def test_a_heatmap_picture_lies_where_qupath_shows_the_slide(
    tmp_path: Path, bounds: Any, origin: Any
) -> None:
    scale = 20.3
    source = finished_source(
        tmp_path / "run", tmp_path / "a.svs", bounds=bounds, to_level0=Affine(scale, scale)
    )
    export(source, "qupath", ExportOptions(origin=origin), force=True)
    folder = source.files.patches_geojson.parent
    entry = json.loads((folder / "heatmaps.json").read_text())["heatmaps"][0]
    assert (entry["class"], entry["layer"], entry["low"], entry["high"]) == ("tumour", "probability", 0, 1)
    with Image.open(folder / entry["file"]) as picture:
        assert picture.mode == "RGBA"
        rgba = np.asarray(picture)
    # Where the planted square appears in the picture, in full-resolution pixels of what is shown.
    rows, columns = np.nonzero(rgba[..., 3] > 200)
    per_x, per_y = entry["width"] / rgba.shape[1], entry["height"] / rgba.shape[0]
    assert per_x == pytest.approx(scale, rel=0.01)
    shift = (bounds.x, bounds.y) if bounds and origin == "qupath" else (0, 0)
    for found, truth in (
        (entry["x"] + columns.min() * per_x, 10 * scale - shift[0]),
        (entry["y"] + rows.min() * per_y, 8 * scale - shift[1]),
        (entry["x"] + (columns.max() + 1) * per_x, 24 * scale - shift[0]),
        (entry["y"] + (rows.max() + 1) * per_y, 20 * scale - shift[1]),
    ):
        assert found == pytest.approx(truth, abs=1)


def test_alpha_rises_with_the_probability_and_is_nothing_where_nothing_was_seen(tmp_path: Path) -> None:
    source = finished_source(tmp_path / "run", tmp_path / "a.svs")
    export(source, "qupath", ExportOptions(), force=True)
    with Image.open(source.files.patches_geojson.parent / "probability_1_tumour.png") as picture:
        rgba = np.asarray(picture)
    values = planted_probability()
    expected = np.rint(np.nan_to_num(values) * 255)
    np.testing.assert_array_equal(rgba[..., 3], expected)
    assert not rgba[np.isnan(values)].any()
    assert rgba[10, 12].tolist() == [*source.probability_scale("tumour").colours(values[10, 12]), 230]


def test_a_large_heatmap_is_shown_from_a_lower_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qupath_heatmaps, "LONGEST_SIDE", 200)
    values = np.full((300, 500), 0.5, np.float32)
    source = finished_source(tmp_path / "run", tmp_path / "a.svs", values=values)
    export(source, "qupath", ExportOptions(), force=True)
    folder = source.files.patches_geojson.parent
    entry = json.loads((folder / "heatmaps.json").read_text())["heatmaps"][0]
    with Image.open(folder / entry["file"]) as picture:
        # The pyramid ends at 250 pixels, the smallest there is.
        assert picture.size == (250, 150)
    assert (entry["width"], entry["height"]) == (500 * CELL_PX, 300 * CELL_PX)


@pytest.fixture(scope="module")
def groovy(tmp_path_factory: pytest.TempPathFactory) -> Groovy:
    return require_groovy(tmp_path_factory.mktemp("stubs"))


def test_the_scripts_compile_against_the_classes_that_qupath_documents(
    groovy: Groovy, tmp_path: Path
) -> None:
    run = run_of(tmp_path, "a")
    project_of(run, "a")
    groovy.compile([run.path / "qupath" / "scripts" / name for name in SCRIPTS], tmp_path / "compiled")
    assert {f"{name.removesuffix('.groovy')}.class" for name in SCRIPTS} <= {
        path.name for path in (tmp_path / "compiled").iterdir()
    }


def test_the_scripts_bring_the_results_to_the_right_slide(groovy: Groovy, tmp_path: Path) -> None:
    run = run_of(tmp_path, "a")
    bounded = finished_run(tmp_path / "run", tmp_path / "b.svs", sample_id="b", bounds=Box(110, 90, 700, 500))
    for sample in "ab":
        export(export_source(bounded, sample), "qupath", ExportOptions(), force=True)
    project_of(run, "a", "b")
    path = run.path / "qupath" / "project.qpproj"
    project = json.loads(path.read_text())
    project["images"].append({"entryID": 9, "imageName": "my own", "serverBuilder": {}})
    path.write_text(json.dumps(project))
    scripts = [path.parent / "scripts" / name for name in (SCRIPTS[0], *SCRIPTS)]
    events, told = groovy.perform(path, "2", scripts)
    # Imported twice, there once; the entry that is open is not closed under QuPath's hands.
    saved = [event for event in events if "saved" in event]
    assert saved == [{"saved": number, "annotations": 1, "tiles": 60} for number in ("1", "2")] * 2
    assert sum("closed" in event for event in events) == 2
    assert "my own: not a slide of these results, left alone" in told
    (shown,) = (event for event in events if "region" in event)
    entry = json.loads((run.slide("b").path / "qupath" / "heatmaps.json").read_text())["heatmaps"][0]
    assert shown["region"] == [entry[key] for key in ("x", "y", "width", "height")]
    # The picture's middle lies in the planted square: 230 of alpha, of which the script takes 0.6.
    assert shown["alpha"] == pytest.approx(0.6 * 230, abs=1)
    (coloured,) = (event for event in events if "measurement" in event)
    assert coloured == {"measurement": "prob_tumour", "map": "Viridis", "low": 0, "high": 1}


def test_a_second_import_takes_away_what_an_import_brought_and_nothing_that_a_user_drew(
    groovy: Groovy, tmp_path: Path
) -> None:
    run = run_of(tmp_path, "a")
    export(export_source(run, "a"), "qupath", ExportOptions(), force=True)
    project_of(run, "a")
    path = run.path / "qupath" / "project.qpproj"
    drawn, earlier = uuid4(), uuid5(NAMESPACE_URL, "a region of an export with another threshold")
    between = tmp_path / "between.groovy"
    between.write_text(
        "import stage.PathObject\n"
        + "".join(
            "getProject().getImageList()[0].readImageData().getHierarchy().addObjects([new PathObject("
            f"id: UUID.fromString('{number}'), pathClass: 'Tumour (model)', annotation: {annotation})])\n"
            for number, annotation in ((drawn, "true"), (earlier, "true"), (uuid4(), "false"))
        )
    )
    importing = path.parent / "scripts" / SCRIPTS[0]
    events, _ = groovy.perform(path, "1", [importing, between, importing])
    first, second = (event for event in events if "saved" in event)
    assert first == {"saved": "1", "annotations": 1, "tiles": 60}
    assert second == {"saved": "1", "annotations": 2, "tiles": 61}
