"""What the pages are told: the list, the facts, the numbers of a place, the regions, and what is wrong."""

from __future__ import annotations

import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shapely import Polygon

from tests.export.make_run import CELL_PX, MPP, SLIDE_SIZE, finished_run, planted_probability, small_slide
from tests.export.make_tables import patch_table
from tests.viewer.serving import Client, serving
from wsi_cam.export.regions import find_regions
from wsi_cam.export.source import export_source
from wsi_cam.export.tables import write_patches_csv
from wsi_cam.geometry import Box
from wsi_cam.process_list import ProcessRow, write_process_list
from wsi_cam.run_folder import RunFolder, write_json
from wsi_cam.slides.identity import slide_identity


def change_record(run: RunFolder, sample_id: str, **parts: object) -> None:
    path = run.slide(sample_id).slide_json
    write_json(path, json.loads(path.read_text()) | parts)


def test_the_list_is_ranked_by_slide_score_and_failures_give_their_reasons(tmp_path: Path) -> None:
    slide = small_slide(tmp_path / "slide.svs")
    for name, score in (("low", 0.1), ("high", 0.97), ("middle", 0.5)):
        run = finished_run(tmp_path / "results", slide, sample_id=name)
        change_record(
            run, name, score={"class": "tumour", "value": score}, patches={"planned": 60, "unread": 1}
        )
    (run.path / "slides" / "damaged").mkdir()
    (run.path / "slides" / "damaged" / "slide.json").write_text("{")
    finished_run(tmp_path / "results", slide, sample_id="unscored")
    change_record(run, "unscored", score={"class": "tumour"})
    for name, change in {
        "unlisted": {"patches": []},
        "endless": {"score": {"class": "tumour", "value": math.inf}},
        "wordy": {"tissue_mm2": "much"},
    }.items():
        finished_run(tmp_path / "results", slide, sample_id=name)
        record = json.loads(run.slide(name).slide_json.read_text()) | change
        run.slide(name).slide_json.write_text(json.dumps(record))
    rows = {
        "high": ProcessRow("high", str(slide), "done", patient_id="p1", label="tumour"),
        "low": ProcessRow("low", str(slide), "failed", error="disk full"),
        "blank": ProcessRow("blank", "blank.svs", "failed", error="blank.svs: no tissue was found"),
        "left": ProcessRow("left", "left.svs", "skipped"),
    }
    write_process_list(run.process_list, rows)
    with serving(run) as client:
        listing = client.get("/api/slides").json
        assert [slide["id"] for slide in listing["done"]] == ["high", "middle", "low"]
        first = listing["done"][0]
        assert (first["score"], first["class"], first["patient"], first["label"]) == (
            0.97,
            "tumour",
            "p1",
            "tumour",
        )
        assert (first["patches"], first["unread"]) == (60, 1)
        assert listing["done"][2]["error"] == "disk full"
        others = {slide["id"]: slide for slide in listing["others"]}
        assert others["blank"] == {
            "id": "blank", "status": "failed", "error": "blank.svs: no tissue was found",
        }  # fmt: skip
        assert others["left"]["status"] == "skipped"
        assert "not the record of a slide" in others["damaged"]["error"]
        assert all("damaged" in others[name]["error"] for name in ("unlisted", "endless", "wordy"))
        assert others["unscored"]["error"] == "its record is damaged (KeyError('value'))"
        # A slide that the run finishes while the viewer is open.
        finished_run(tmp_path / "results", slide, sample_id="new")
        assert client.of("new").status == 200


@pytest.mark.parametrize("name", ["a slide #3", "50%25 ü?", "löß & <b>", "a..b", "x" * 200, "caf\udce9"])
def test_names_of_all_kinds_have_an_address(tmp_path: Path, name: str) -> None:
    run = finished_run(tmp_path / "results", small_slide(tmp_path / "slide.svs"), sample_id=name)
    with serving(run) as client:
        (slide,) = client.get("/api/slides").json["done"]
        assert slide["id"] == name
        assert client.get(f"/slides/{slide['address']}").status == 200
        assert client.get(f"/api/slides/{slide['address']}").json["id"] == name
        picture = client.get(f"/api/slides/{slide['address']}/thumbnail/slide.jpg").pixels
        assert picture.shape == (88, 113, 3)  # an eighth of the slide


def test_pages_and_scripts_are_served_with_their_kinds(client: Client) -> None:
    kinds = {
        "/": "text/html", "/slides/case_7": "text/html", "/static/slide.js": "text/javascript",
        "/static/style.css": "text/css", "/static/icon.svg": "image/svg+xml",
        "/static/vendor/openseadragon/openseadragon.min.js": "text/javascript",
        "/static/vendor/openseadragon/LICENSE.txt": "text/plain",
        "/api/slides/case_7/slide.dzi": "application/xml",
    }  # fmt: skip
    for target, kind in kinds.items():
        reply = client.get(target)
        assert (reply.status, reply.headers["Content-Type"].partition(";")[0]) == (200, kind)
        assert reply.body


def test_facts_say_how_large_the_slide_is_and_what_there_is_to_show(client: Client) -> None:
    facts = client.of("case_7").json
    assert (facts["width"], facts["height"], facts["mpp_um"]) == (*SLIDE_SIZE, [MPP.x, MPP.y])
    assert (facts["tiles"]["max_level"], facts["tiles"]["min_level"]) == (10, 8)
    assert facts["slide_error"] is None
    normal, tumour = facts["classes"]
    assert (normal["name"], tumour["name"], facts["shown_class"]) == ("normal", "tumour", 1)
    assert (normal["colour"], tumour["colour"]) == ("#4682b4", "#c80000")
    scale = tumour["scales"]["evidence"]
    assert scale["title"] == "evidence for tumour (logit)"
    assert scale["open_ended"]
    assert tumour["scales"]["probability"]["colours"][-1] == "rgb(253 231 36 / 1.000)"


def test_a_slide_with_bounds_is_shown_as_qupath_shows_it(tmp_path: Path) -> None:
    run = finished_run(
        tmp_path / "results", small_slide(tmp_path / "slide.svs"), bounds=Box(100.0, 40.0, 640.0, 560.0)
    )
    with serving(run) as client:
        facts = client.of("case_7").json
        assert (facts["width"], facts["height"], facts["level0_origin"]) == (640, 560, [100, 40])
        place = client.of("case_7", "/place?x=100&y=70").json
        assert place["level0"] == [200, 110]
        assert {tuple(patch["shown_box"][:2]) for patch in place["patches"]} == {(192 - 100, 96 - 40)}
        region = client.of("case_7", "/regions/1?threshold=0.5").json["regions"][0]
        assert min(region["rings"][0][::2]) == 10 * CELL_PX - 100


def test_a_click_gives_every_patch_over_the_place_and_the_heatmap_there(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "results", small_slide(tmp_path / "slide.svs"))
    table = patch_table(60, unread=(7,), patch_level0=(96.0, 96.0), columns=10)
    table = replace(table, level0_xy=table.level0_xy / 2)  # each place under four of them
    write_patches_csv(run.slide("case_7").patches_csv, table)
    with serving(run) as client:
        for x, y in ((150.0, 150.0), (30.5, 10.0), (144.0, 96.0), (899.0, 699.0)):
            place = client.of("case_7", f"/place?x={x}&y={y}").json
            over = [
                index
                for index, (left, top) in enumerate(table.level0_xy.tolist())
                if left <= x < left + 96 and top <= y < top + 96
            ]
            assert [patch["level0"] for patch in place["patches"]] == table.level0_xy[over].tolist()
            for index, patch in zip(over, place["patches"], strict=True):
                said = patch["classes"]["tumour"]
                expected = [
                    table.probabilities[index, 1],
                    table.evidence_mean[index, 1],
                    table.evidence_max[index, 1],
                ]
                got = [said["probability"], said["evidence_mean"], said["evidence_max"]]
                if index == 7:
                    assert (patch["status"], got) == ("unread", [None, None, None])
                else:
                    np.testing.assert_allclose(got, expected, rtol=1e-6)
                    assert patch["tissue"] == pytest.approx(table.tissue_fraction[index])
            value = planted_probability()[int(y) // CELL_PX, int(x) // CELL_PX]
            heatmap = place["heatmap"]["probability"]
            assert heatmap["tumour"] == (None if np.isnan(value) else pytest.approx(value))
        outside = client.of("case_7", "/place?x=-5000&y=99999").json
        assert outside["patches"] == []
        assert outside["heatmap"]["evidence"] == {"normal": None, "tumour": None}


def test_regions_are_those_of_the_exports(client: Client, run: RunFolder) -> None:
    source = export_source(run, "case_7")
    for threshold in (0.15, 0.5, 0.95):
        expected = find_regions(source.probability, source.evidence, "tumour", threshold)
        regions = client.of("case_7", f"/regions/1?threshold={threshold}").json["regions"]
        assert len(regions) == len(expected)
        for region, exported in zip(regions, expected, strict=True):
            shell, *holes = (np.reshape(ring, (-1, 2)) for ring in region["rings"])
            assert Polygon(shell, holes).symmetric_difference(exported.polygon).area < 1
            assert {name: region[name] for name in exported.measurements()} == exported.measurements()


def test_thumbnails_of_slide_and_heatmap_have_one_size(client: Client) -> None:
    slide = client.of("case_7", "/thumbnail/slide.jpg").pixels
    heatmap = client.of("case_7", "/thumbnail/heatmap.png").pixels
    assert slide.shape[:2] == heatmap.shape[:2] == (88, 113)
    assert heatmap[..., 3].max() > 200


def test_a_huge_slide_without_lower_levels_has_no_thumbnail(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "results", small_slide(tmp_path / "slide.svs"))
    record = json.loads(run.slide("case_7").slide_json.read_text())
    levels = [{"size": {"width": 40_000, "height": 40_000}}]
    change_record(run, "case_7", slide=record["slide"] | {"levels": levels})
    with serving(run) as client:
        assert client.of("case_7", "/thumbnail/slide.jpg").status == 404
        assert client.of("case_7", "/thumbnail/heatmap.png").status == 200


def test_a_slide_that_moved_is_said_and_its_heatmap_still_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slide = small_slide(tmp_path / "slide.svs")
    run = finished_run(tmp_path / "results", slide)
    slide.rename(tmp_path / "elsewhere.svs")
    with serving(run) as client, caplog.at_level(logging.WARNING, "wsi_cam"):
        facts = client.of("case_7").json
        assert "slide.svs: the slide is not where it was classified" in facts["slide_error"]
        assert (facts["width"], facts["height"]) == SLIDE_SIZE
        assert client.get("/api/slides").json["done"][0]["id"] == "case_7"
        version = facts["version"]
        tile = client.of("case_7", f"/slide_files/10/0_0.jpg?v={version}")
        assert (tile.status, tile.headers["Cache-Control"]) == (200, "no-store")
        assert 190 < tile.pixels.mean() < 240
        assert "not where it was classified" in caplog.text
        assert client.of("case_7", "/heatmap/probability/1/10/0_0.png").pixels[..., 3].any()
        (tmp_path / "elsewhere.svs").rename(slide)
        assert client.of("case_7").json["slide_error"] is None
        tile = client.of("case_7", f"/slide_files/10/0_0.jpg?v={version}")
        assert tile.headers["Cache-Control"] == "private, max-age=3600"


def test_another_slide_under_the_same_name_is_not_shown(tmp_path: Path) -> None:
    slide = small_slide(tmp_path / "slide.svs")
    run = finished_run(tmp_path / "results", slide)
    record = json.loads(run.slide("case_7").slide_json.read_text())
    change_record(run, "case_7", slide=record["slide"] | {"identity": slide_identity(slide)})
    with serving(run) as client:
        assert client.of("case_7").json["slide_error"] is None
    with slide.open("ab") as file:
        file.write(b"changed")
    with serving(run) as client:
        assert "another file lies there now" in client.of("case_7").json["slide_error"]


def test_a_damaged_slide_shows_neutral_tiles_where_it_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slide = small_slide(tmp_path / "slide.svs")
    run = finished_run(tmp_path / "results", slide)
    with serving(run) as client, caplog.at_level(logging.WARNING, "wsi_cam"):
        version = client.of("case_7").json["version"]
        whole = client.of("case_7", f"/slide_files/10/0_0.jpg?v={version}")
        content = bytearray(slide.read_bytes())
        # The second JPEG of the file (the first is tried when the slide is opened) loses its end.
        second = content.index(b"\xff\xd8\xff", content.index(b"\xff\xd9"))
        content[content.index(b"\xff\xd9", second) - 200 :] = b"\0" * (
            len(content) - content.index(b"\xff\xd9", second) + 200
        )
        with slide.open("r+b") as file:  # the same file: the server has it open
            file.write(content)
        broken = client.of("case_7", f"/slide_files/10/1_0.jpg?v={version}")
    assert whole.headers["Cache-Control"] != "no-store"
    assert (broken.status, broken.headers["Cache-Control"]) == (200, "no-store")
    assert "cannot read" in caplog.text


def test_a_damaged_heatmap_does_not_end_the_viewer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = finished_run(tmp_path / "results", small_slide(tmp_path / "slide.svs"))
    files = run.slide("case_7")
    for chunk in files.evidence_zarr.rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    with serving(run) as client, caplog.at_level(logging.WARNING, "wsi_cam"):
        tile = client.of("case_7", "/heatmap/evidence/1/10/0_0.png")
        assert (tile.status, tile.headers["Content-Type"]) == (200, "image/jpeg")
        assert "the heatmap is damaged" in caplog.text
        assert client.of("case_7", "/heatmap/probability/1/10/0_0.png").headers["Content-Type"] == "image/png"
        assert client.of("case_7", "/regions/1?threshold=0.5").status == 500
        assert client.of("case_7", "/place?x=1&y=1").status == 500
        shutil.rmtree(files.probability_zarr)
        assert client.of("case_7", "/slide_files/10/0_0.jpg").status == 200


def test_only_an_address_that_names_the_version_may_be_kept(client: Client) -> None:
    version = client.of("case_7").json["version"]
    for query, kept in ((f"?v={version}", True), ("?v=1", False), ("", False)):
        for tile in ("/slide_files/10/0_0.jpg", "/heatmap/probability/1/10/0_0.png"):
            assert (client.of("case_7", tile + query).headers["Cache-Control"] != "no-store") == kept


def test_a_slide_that_is_computed_again_is_shown_anew(tmp_path: Path) -> None:
    slide = small_slide(tmp_path / "slide.svs")
    run = finished_run(tmp_path / "results", slide)
    with serving(run) as client:
        before = (
            client.of("case_7").json["version"],
            client.of("case_7", "/heatmap/probability/1/9/0_0.png").body,
        )
        shutil.rmtree(run.slide("case_7").path)
        assert client.of("case_7").status == 404
        finished_run(tmp_path / "results", slide, values=np.full((35, 45), 0.5, np.float32))
        after = (
            client.of("case_7").json["version"],
            client.of("case_7", "/heatmap/probability/1/9/0_0.png").body,
        )
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_record_without_the_slides_size_asks_for_another_run(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "results", small_slide(tmp_path / "slide.svs"))
    record = json.loads(run.slide("case_7").slide_json.read_text())
    del record["slide"]["size"]
    write_json(run.slide("case_7").slide_json, record)
    with serving(run) as client:
        reply = client.of("case_7")
        assert reply.status == 500
        assert "run the slide again" in reply.json["error"]
