"""Every format of the table keeps the contract, and each file is what its readers expect."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.export.exporter_contract import ExporterContract
from tests.export.make_run import CELL_PX, MPP, finished_run, finished_source, small_slide
from tests.make_slides import tissue_image, write_svs
from wsi_cam.errors import OutputError, SettingsError, SlideError
from wsi_cam.export import optional_packages
from wsi_cam.export.exporters import EXPORTERS, export
from wsi_cam.export.formats import FORMATS
from wsi_cam.export.optional_packages import require_packages
from wsi_cam.export.source import ExportOptions, ExportSource, export_source, finished_samples
from wsi_cam.geometry import Box
from wsi_cam.process_list import ProcessRow, write_process_list
from wsi_cam.run_folder import RunFolder
from wsi_cam.slides.identity import slide_identity


class TestQuPath(ExporterContract):
    format = "qupath"


class TestOmeTiff(ExporterContract):
    format = "ome-tiff"


class TestOverlay(ExporterContract):
    format = "overlay"


class TestPng(ExporterContract):
    format = "png"


class TestFigure(ExporterContract):
    format = "figure"


class TestAsap(ExporterContract):
    format = "asap"


class TestCsv(ExporterContract):
    format = "csv"


class TestParquet(ExporterContract):
    format = "parquet"
    package = "pyarrow"


class TestH5(ExporterContract):
    format = "h5"
    package = "h5py"


def test_every_exporter_is_announced_and_has_its_contract() -> None:
    assert list(EXPORTERS) == list(FORMATS)
    assert {contract.format for contract in ExporterContract.__subclasses__()} == set(EXPORTERS)


@pytest.fixture
def source(tmp_path: Path) -> ExportSource:
    return finished_source(tmp_path / "run", small_slide(tmp_path / "case 7.svs"))


def test_an_unknown_format_or_class_is_refused(source: ExportSource) -> None:
    with pytest.raises(SettingsError, match="there are qupath, ome-tiff"):
        export(source, "mirax", ExportOptions())
    with pytest.raises(SettingsError, match="knows normal, tumour"):
        export(source, "asap", ExportOptions(class_name="lung"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0.0},
        {"threshold": float("nan")},
        {"min_area_mm2": -1.0},
        {"origin": "corner"},
        {"width": 5},
        {"mpp": 0.0},
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))} is .*: it must be"):
        ExportOptions(**wrong)  # type: ignore[arg-type]


def test_parquet_holds_the_columns_of_the_table(source: ExportSource) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    (path,) = export(source, "parquet", ExportOptions())
    read = parquet.read_table(path)
    header = source.files.patches_csv.read_text().splitlines()[0].split(",")
    assert read.column_names == ["sample_id", *header]
    assert set(read["sample_id"].to_pylist()) == {"case_7"}
    assert read["minx"].to_numpy().tolist() == source.table.level0_xy[:, 0].tolist()
    assert str(read.schema.field("prob_tumour").type) == "float"
    for name, values in source.table.columns():
        assert read[name].null_count == 1
        np.testing.assert_array_equal(read[name].to_numpy(), values)


def test_h5_says_where_patches_lie_as_wsinfer_and_clam_expect(source: ExportSource) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    (path,) = export(source, "h5", ExportOptions())
    with h5py.File(path) as file:
        coords = file["/coords"]
        assert coords.shape == (60, 2)
        assert coords.dtype == np.int64
        assert coords[11].tolist() == [96, 96]
        assert dict(coords.attrs) == {"patch_size": 96, "patch_level": 0, "patch_spacing_um_px": 1.0}


def test_h5_refuses_patches_that_are_not_square(source: ExportSource) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    source.__dict__["table"] = replace(source.table, patch_level0=(96.0, 77.0))
    with pytest.raises(OutputError, match=r"96 x 77 level-0 pixels.*use csv or parquet"):
        export(source, "h5", ExportOptions())


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    source: ExportSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(optional_packages, "import_module", nothing)
    for name, package in (("parquet", "pyarrow"), ("h5", "h5py")):
        for attempt in (
            lambda: export(source, name, ExportOptions()),  # noqa: B023
            lambda: require_packages(["csv", name, "qupath"]),  # noqa: B023
        ):
            with pytest.raises(OutputError, match=rf"needs the package {package}.*'wsi-cam\[{name}\]'"):
                attempt()
    require_packages(["csv", "qupath"])


def test_asap_gets_outlines_and_holes_in_level_0_whatever_the_bounds(tmp_path: Path) -> None:
    slide = small_slide(tmp_path / "case 7.svs")
    bounded = finished_source(tmp_path / "run", slide, bounds=Box(100, 60, 700, 600))
    (path,) = export(bounded, "asap", ExportOptions())
    root = ElementTree.parse(path).getroot()
    groups = {group.attrib["Name"]: group.attrib["Color"] for group in root.iter("Group")}
    assert groups == {
        "Normal (model)": "#4682B4",
        "Tumour (model)": "#C80000",
        "Tumour (model) holes": "#FFFFFF",
    }
    corners = {}
    for annotation in root.iter("Annotation"):
        points = [(float(c.attrib["X"]), float(c.attrib["Y"])) for c in annotation.iter("Coordinate")]
        assert points[0] != points[-1]
        assert [int(c.attrib["Order"]) for c in annotation.iter("Coordinate")] == list(range(len(points)))
        xs, ys = zip(*points, strict=True)
        corners[annotation.attrib["PartOfGroup"]] = (min(xs), min(ys), max(xs), max(ys))
    square, hole = np.array([10, 8, 24, 20]) * CELL_PX, np.array([14, 12, 18, 15]) * CELL_PX
    np.testing.assert_allclose(corners["Tumour (model)"], square, atol=CELL_PX)
    np.testing.assert_allclose(corners["Tumour (model) holes"], hole, atol=CELL_PX)


def test_the_overview_is_as_wide_as_asked(source: ExportSource) -> None:
    for width in (700, 1500):
        (path,) = export(source, "png", ExportOptions(width=width), force=True)
        with Image.open(path) as picture:
            assert picture.width == pytest.approx(width, abs=150)


@pytest.mark.parametrize(("width", "height"), [(60, 10), (30, 30), (4, 70)])
def test_a_figure_fits_a_page_and_does_not_say_when_it_was_made(
    tmp_path: Path, width: int, height: int
) -> None:
    image = tissue_image(height * CELL_PX, width * CELL_PX, [(0, 0, width * CELL_PX, height * CELL_PX)])
    slide = write_svs(tmp_path / "a.svs", image, mpp=MPP.x, levels=(1,))
    values = np.full((height, width), 0.7, np.float32)
    source = finished_source(tmp_path / "run", slide, values=values, class_names=("normal", "a $ b^2"))
    png, svg, pdf = export(source, "figure", ExportOptions())
    with Image.open(png) as picture:
        assert picture.width == 2100
        assert picture.height <= 2701
        assert "Creation Time" not in picture.info
    assert "<dc:date>" not in svg.read_text()
    assert b"CreationDate" not in pdf.read_bytes()


def test_a_run_folder_tells_which_slides_are_finished(tmp_path: Path) -> None:
    slide = small_slide(tmp_path / "case 7.svs")
    run = finished_run(tmp_path / "run", slide, sample_id="b")
    finished_run(tmp_path / "run", slide, sample_id="a")
    # What a run that was stopped leaves: its last act before the rename is to write slide.json.
    for hidden in (".c.partial", ".b.replaced"):
        finished_run(tmp_path / "run", slide, sample_id=hidden)
    (tmp_path / "run" / "slides" / "d").mkdir()
    assert finished_samples(run) == ["a", "b"]
    with pytest.raises(OutputError, match="no finished slide is there"):
        export_source(run, "d")
    with pytest.raises(OutputError, match="not the output folder of a run"):
        finished_samples(RunFolder(tmp_path))
    run.slide("a").slide_json.write_text('{"sample_id": "a"}')
    with pytest.raises(OutputError, match=r"slide\.json: not the record of a slide \(KeyError"):
        export_source(run, "a")


@pytest.mark.parametrize(
    "sample_id", ["", ".", "..", "../..", "../../other/slides/b", "b/", "a/../b", "..\\b", ".b", "/b", "b\0"]
)
def test_a_sample_is_never_looked_for_outside_of_the_runs_slides(tmp_path: Path, sample_id: str) -> None:
    slide = small_slide(tmp_path / "case 7.svs")
    run = finished_run(tmp_path / "run", slide, sample_id="b")
    for elsewhere in (run.path, run.path / "slides", tmp_path):
        (elsewhere / "slide.json").write_text(run.slide("b").slide_json.read_text())
    with pytest.raises(SettingsError, match="no name of a slide"):
        export_source(run, sample_id)


def test_another_file_at_the_slides_place_is_not_drawn_on(tmp_path: Path) -> None:
    slide = small_slide(tmp_path / "case 7.svs")
    run = finished_run(tmp_path / "run", slide)
    record = json.loads(run.slide("case_7").slide_json.read_text())
    record["slide"]["identity"] = slide_identity(slide)
    run.slide("case_7").slide_json.write_text(json.dumps(record))
    source = export_source(run, "case_7")
    assert export(source, "png", ExportOptions())
    write_svs(slide, tissue_image(700, 900, [(0, 0, 900, 700)], seed=5), mpp=MPP.x, levels=(1, 4))
    for name in ("png", "overlay", "figure"):
        with pytest.raises(SlideError, match=r"case 7\.svs: another file lies there now.*again") as said:
            export(source, name, ExportOptions(), force=True)
        assert "\n" not in str(said.value)
    assert export(source, "asap", ExportOptions())


def test_a_slide_given_by_a_relative_path_is_found_by_the_process_list(tmp_path: Path) -> None:
    slide = small_slide(tmp_path / "slides" / "case 7.svs")
    run = finished_run(tmp_path / "run", slide, recorded_slide="slides/case 7.svs")
    write_process_list(run.process_list, {"case_7": ProcessRow("case_7", str(slide), "done")})
    source = export_source(run, "case_7")
    assert source.slide_path == slide
    with source.opened() as opened:
        assert opened.info.path == slide
