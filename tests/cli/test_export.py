"""``wsi-cam export`` on a run folder alone."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.make_run import finished_run, small_slide
from wsi_cam.cli import export
from wsi_cam.errors import OutputError, SettingsError
from wsi_cam.geometry import Box
from wsi_cam.run_folder import RunFolder
from wsi_cam.settings import RunSettings


def wsi_cam_export(run: RunFolder, *options: str) -> int:
    parser = argparse.ArgumentParser()
    export.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["export", str(run.path), *options])
    status: int = args.run(args)
    return status


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two slides, the second with bounds and without its file."""
    run = finished_run(tmp_path / "run", small_slide(tmp_path / "a.svs"), sample_id="a")
    finished_run(tmp_path / "run", tmp_path / "gone.svs", sample_id="b", bounds=Box(110, 90, 700, 500))
    return run


def names(run: RunFolder, sample: str) -> set[str]:
    folder = run.slide(sample).path
    stores = {"probability.ome.zarr", "evidence.ome.zarr"}
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path.as_posix() for path in files if path.parts[0] not in stores}


def test_all_slides_get_the_formats_and_the_run_its_project(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wsi_cam_export(run, "--format", "qupath", "ome-tiff", "asap") == 0
    for sample in "ab":
        assert names(run, sample) - {"slide.json", "patches.csv"} == {
            "heatmap.ome.tif",
            "regions.asap.xml",
            "qupath/patches.geojson",
            "qupath/regions.geojson",
            "qupath/heatmaps.json",
            "qupath/probability_0_normal.png",
            "qupath/probability_1_tumour.png",
            "qupath/evidence_0_normal.png",
            "qupath/evidence_1_tumour.png",
        }
    project = json.loads((run.path / "qupath" / "project.qpproj").read_text())
    assert [entry["imageName"] for entry in project["images"]] == ["a", "b"]
    assert "18 files of 2 slides; results in" in capsys.readouterr().out


def test_a_slide_that_is_gone_costs_its_pictures_only(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wsi_cam_export(run, "--format", "png", "asap", "--width", "600") == 1
    assert "overview.png" in names(run, "a")
    assert "regions.asap.xml" in names(run, "b")
    assert "overview.png" not in names(run, "b")
    said = capsys.readouterr()
    assert said.err.startswith("wsi-cam: b, png: ")
    assert "gone.svs: the slide is not where it was classified" in said.err
    assert said.err.count("\n") == 1
    assert "3 files of 2 slides, 1 could not be written" in said.out


def test_one_sample_a_class_a_threshold_and_an_area(run: RunFolder) -> None:
    def regions(*options: str) -> list[dict[str, object]]:
        assert wsi_cam_export(run, "--format", "qupath", "--sample", "a", "--force", *options) == 0
        content = json.loads((run.slide("a").path / "qupath" / "regions.geojson").read_text())
        return [feature["properties"] for feature in content["features"]]

    (tumour,) = regions()
    assert tumour["classification"] == {"name": "Tumour (model)", "color": [200, 0, 0]}
    assert regions("--threshold", "0.95") == []
    assert regions("--min-area-mm2", "1") == []
    normal, within_the_tumour = regions("--class", "normal", "--threshold", "0.7")
    for region in (normal, within_the_tumour):
        assert region["classification"] == {"name": "Normal (model)", "color": [70, 130, 180]}
    assert not (run.slide("b").path / "qupath").exists()
    shown = json.loads((run.slide("a").path / "qupath" / "heatmaps.json").read_text())
    assert shown["heatmaps"][0]["class"] == "normal"


def test_coordinates_begin_where_qupath_begins_or_at_level_0(run: RunFolder) -> None:
    corners = []
    for origin in ("qupath", "level0"):
        wsi_cam_export(run, "--format", "qupath", "--sample", "b", "--origin", origin, "--force")
        content = json.loads((run.slide("b").path / "qupath" / "patches.geojson").read_text())
        corners.append(content["features"][0]["geometry"]["coordinates"][0][0])
    assert corners == [[-110, -90], [0, 0]]


def test_nothing_is_replaced_and_nothing_begun_without_force(run: RunFolder) -> None:
    assert wsi_cam_export(run, "--format", "asap", "--sample", "b") == 0
    before = (run.slide("b").path / "regions.asap.xml").read_bytes()
    with pytest.raises(OutputError, match=r"regions\.asap\.xml: there already; --force"):
        wsi_cam_export(run, "--format", "ome-tiff", "asap", "--threshold", "0.3")
    assert "heatmap.ome.tif" not in names(run, "a")
    assert (run.slide("b").path / "regions.asap.xml").read_bytes() == before


def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, message in (
        (("--format", "asap", "--class", "lung"), "knows normal, tumour"),
        (("--format", "asap", "--threshold", "2"), "threshold is 2.0: it must be"),
    ):
        with pytest.raises(SettingsError, match=message):
            wsi_cam_export(run, *options)
    with pytest.raises(OutputError, match="no finished slide is there"):
        wsi_cam_export(run, "--format", "asap", "--sample", "a", "c")
    with pytest.raises(OutputError, match="not the output folder of a run"):
        wsi_cam_export(RunFolder(tmp_path), "--format", "asap")
    with pytest.raises(SystemExit):
        wsi_cam_export(run, "--format", "dicom")
    assert "invalid choice: 'dicom'" in capsys.readouterr().err
    assert names(run, "a") == {"slide.json", "patches.csv"}


def test_the_examples_of_the_help_work_one_after_the_other_on_a_default_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "results", small_slide(tmp_path / "case 7.svs"))
    assert wsi_cam_export(run, "--format", *RunSettings().export, "--force") == 0
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        wsi_cam_export(run, "--help")
    said = capsys.readouterr().out.splitlines()
    examples = [line.split() for line in said if line.startswith("  wsi-cam export results ")]
    assert len(examples) == 3
    for _, _, folder, *options in examples:
        assert wsi_cam_export(RunFolder(Path(folder)), *options) == 0


def test_one_file_of_one_slide_is_said_in_the_singular(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wsi_cam_export(run, "--format", "asap", "--sample", "a") == 0
    assert capsys.readouterr().out.startswith("1 file of 1 slide; ")


def test_a_missing_package_is_said_once_and_before_anything_is_written(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(OutputError, match=r"the format h5 needs the package h5py"):
        wsi_cam_export(run, "--format", "asap", "h5")
    assert names(run, "a") == {"slide.json", "patches.csv"}


def test_help_is_quick_and_names_every_format() -> None:
    code = (
        "import sys, argparse; from wsi_cam.cli import export; p = argparse.ArgumentParser();"
        "export.add_parser(p.add_subparsers());"
        "heavy = {'numpy', 'matplotlib', 'zarr', 'torch'} & set(sys.modules);"
        "assert not heavy, heavy; p.parse_args(['export', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "  qupath    patches and regions as GeoJSON" in done.stdout
    assert "  h5        coordinates of patches" in done.stdout
