"""A cohort: every slide is a row, in its place, whatever became of it; the numbers are those of the files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from tests.cohort.make_results import CLASSES, finished_slide, hills, listed
from wsi_cam.cohort.gathering import Cohort, gather_cohort
from wsi_cam.cohort.presets import PRESETS
from wsi_cam.cohort.tables import COLUMNS, PATIENT_COLUMNS, patient_rows, write_tables
from wsi_cam.errors import DataError, OutputError, SettingsError
from wsi_cam.export.tables import read_patches_csv
from wsi_cam.heatmap.store import open_heatmap
from wsi_cam.process_list import ProcessRow
from wsi_cam.run_folder import RunFolder


def row(sample_id: str, status: str = "done", **more: Any) -> ProcessRow:
    return ProcessRow(sample_id, f"/slides/{sample_id}.svs", status, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slides with numbers, one that failed; patients and labels of a manifest."""
    run = RunFolder(tmp_path_factory.mktemp("cohort") / "run")
    for number, (name, label) in enumerate([("a", "1"), ("b", "0"), ("c", "1"), ("d", "0")]):
        values = hills(14, 16, seed=number, peaks=2 * (label == "1"))
        values[7, 7] = np.nan
        patient = f"p{number // 2}"
        finished_slide(run, name, values, row=row(name, patient_id=patient, label=label))
    listed(run, row("broken", "failed", error="no such luck", patient_id="p2"))
    return run.path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_numbers_are_those_of_the_stored_patches_and_heatmaps(folder: Path) -> None:
    cohort = gather_cohort(RunFolder(folder), threshold=0.6)
    for slide in cohort.measured:
        files, numbers = RunFolder(folder).slide(slide.sample_id), slide.numbers
        assert numbers is not None
        table, heatmap = read_patches_csv(files.patches_csv), open_heatmap(files.probability_zarr).read()
        assert (numbers.patches, numbers.unread) == (len(table), 1)
        assert numbers.unread_share == pytest.approx(1 / len(table))
        for index, name in enumerate(CLASSES):
            column = table.probabilities[table.readable, index].astype(np.float64)
            of_class = numbers.classes[name]
            assert of_class.probability_max == pytest.approx(column.max())
            assert of_class.probability_p99 == pytest.approx(np.percentile(column, 99))
            assert of_class.score == pytest.approx(np.sort(column)[-10:].mean())
            assert of_class.patches_above == (column >= 0.6).sum()
            pixels = (heatmap[index] >= np.float32(0.6)).sum()
            assert of_class.foci.area_mm2 == pytest.approx(pixels * 0.032**2)
            assert numbers.share_of_tissue(name) == min(1, of_class.area_mm2 / numbers.tissue_mm2)


def test_slides_are_ranked_by_score_and_those_without_come_last(folder: Path) -> None:
    cohort = gather_cohort(RunFolder(folder))
    scores = [slide.score for slide in cohort.measured]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    assert [slide.rank for slide in cohort.slides] == [1, 2, 3, 4, None]
    assert cohort.slides[-1].reason == "no such luck"
    other = gather_cohort(RunFolder(folder), class_name="normal")
    assert {slide.target_class for slide in other.measured} == {"normal"}
    with pytest.raises(SettingsError, match="stroma"):
        gather_cohort(RunFolder(folder), class_name="stroma")


def damage_record(files: Any) -> None:
    files.slide_json.write_text("{", encoding="utf-8")


def damage_table(files: Any) -> None:
    lines = files.patches_csv.read_text().splitlines()
    files.patches_csv.write_text("\n".join(lines[:3]) + "\n1,2")


def damage_heatmap(files: Any) -> None:
    shutil.rmtree(files.probability_zarr)


def forget_settings(files: Any) -> None:
    record = json.loads(files.slide_json.read_text())
    del record["settings"]
    files.slide_json.write_text(json.dumps(record))


def forget_scores(files: Any) -> None:
    record = json.loads(files.slide_json.read_text())
    record["score"]["of_each_class"] = None
    files.slide_json.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage", [damage_record, damage_table, damage_heatmap, forget_settings, forget_scores]
)
def test_a_damaged_result_is_a_row_with_its_reason(folder: Path, tmp_path: Path, damage: Any) -> None:
    shutil.copytree(folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    damage(run.slide("b"))
    cohort = gather_cohort(run)
    (slide,) = [slide for slide in cohort.slides if slide.sample_id == "b"]
    assert (slide.status, slide.numbers, slide.rank) == ("damaged", None, None)
    assert "run" in slide.reason or "compute" in slide.reason
    assert len(cohort.measured) == 3


def test_older_results_and_lost_folders_are_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    listed(run, row("a", "failed", error="disk full"))
    shutil.rmtree(run.slide("b").path)
    finished_slide(run, "unlisted", hills(4, 4, seed=9))
    listed(run, row("waiting", "pending"))
    slides = {slide.sample_id: slide for slide in gather_cohort(run).slides}
    assert slides["a"].numbers is not None
    assert "disk full" in slides["a"].reason
    assert slides["b"].status == "failed"
    assert "gone" in slides["b"].reason
    assert slides["unlisted"].numbers is not None
    assert (slides["waiting"].status, slides["waiting"].reason) == ("pending", "not run to its end yet")


def test_a_process_list_that_names_a_path_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    listed(run, row("../../elsewhere", "failed", error="x"), row(".hidden", "failed", error="x"))
    cohort = gather_cohort(run)
    assert {slide.sample_id for slide in cohort.slides} == {"a", "b", "c", "d", "broken"}
    assert sum("no name of a slide" in remark for remark in cohort.remarks) == 2


def test_a_folder_of_no_run_or_without_slides_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not the output folder"):
        gather_cohort(RunFolder(tmp_path))
    (tmp_path / "slides").mkdir()
    with pytest.raises(OutputError, match="no slide"):
        gather_cohort(RunFolder(tmp_path))


def test_the_tables_hold_a_row_per_slide_and_class(folder: Path, tmp_path: Path) -> None:
    cohort = gather_cohort(RunFolder(folder), preset=PRESETS["lymph-node"])
    write_tables(tmp_path, cohort)
    rows = rows_of(tmp_path / "cohort.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == 4 * 2 + 1
    assert [row["is_target"] for row in rows[:4]] == ["true", "false", "true", "false"]
    first, target = cohort.slides[0], cohort.slides[0].target
    assert target is not None
    assert float(rows[0]["area_mm2"]) == pytest.approx(target.area_mm2, rel=1e-5)
    assert (rows[0]["class"], rows[0]["size_class"]) == ("tumour", first.size_class)
    assert first.size_class in {each.name for each in PRESETS["lymph-node"].size_classes}
    failed = rows[-1]
    assert (failed["sample_id"], failed["rank"], failed["class"]) == ("broken", "", "")
    assert failed["reason"] == "no such luck"
    parquet = pyarrow.parquet.read_table(tmp_path / "cohort.parquet")
    assert parquet.column_names == list(COLUMNS)
    assert parquet["area_mm2"][0].as_py() == target.area_mm2
    assert parquet["rank"][8].as_py() is None


def test_patients_are_summed_up_worst_first(folder: Path, tmp_path: Path) -> None:
    cohort = gather_cohort(RunFolder(folder))
    write_tables(tmp_path, cohort)
    rows = rows_of(tmp_path / "cohort_patients.csv")
    assert list(rows[0]) == list(PATIENT_COLUMNS)
    assert [row["patient_id"] for row in rows][-1] == "p2"
    assert (rows[-1]["slides"], rows[-1]["without_numbers"], rows[-1]["score"]) == ("1", "1", "")
    own = [slide for slide in cohort.measured if slide.patient_id == rows[0]["patient_id"]]
    assert rows[0]["worst_slide"] == own[0].sample_id
    assert float(rows[0]["area_mm2"]) == pytest.approx(
        sum(s.target.area_mm2 for s in own if s.target), rel=1e-5
    )
    assert int(rows[0]["foci"]) == sum(s.target.foci.count for s in own if s.target)


def test_areas_of_different_classes_are_not_summed_up(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    of_normal = {"class": "normal", "value": 0.5, "of_each_class": {"normal": 0.5, "tumour": 0.9}}
    for name, changes in (("a", {}), ("b", {"score": of_normal}), ("c", {})):
        finished_slide(run, name, hills(8, 9, seed=1), row=row(name, patient_id="p"), **changes)
    listed(run, row("broken", "failed", error="no such luck", patient_id="p"))
    cohort = gather_cohort(run)
    rows = {row["class"]: row for row in map(dict, patient_rows(cohort))}
    assert set(rows) == {"tumour", "normal"}
    for class_name, samples in (("tumour", ("a", "c")), ("normal", ("b",))):
        targets = [s.target for s in cohort.measured if s.sample_id in samples]
        said = rows[class_name]
        assert said["area_mm2"] == pytest.approx(sum(t.area_mm2 for t in targets if t))
        assert (said["slides"], said["without_numbers"]) == (len(samples) + 1, 1)
        assert said["worst_slide"] == samples[0]
    (together,) = patient_rows(gather_cohort(run, class_name="tumour"))
    assert (together["class"], together["slides"]) == ("tumour", 4)


def test_without_patients_there_is_no_table_of_them(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    write_tables(run.path, gather_cohort(run))
    run.process_list.unlink()
    written = write_tables(run.path, gather_cohort(run))
    assert "cohort_patients.csv" not in {path.name for path in written}
    assert not (run.path / "cohort_patients.csv").exists()


def many(tmp_path: Path) -> RunFolder:
    """Twelve slides, every second one with tumour and labelled so."""
    run = RunFolder(tmp_path / "run")
    for number in range(12):
        values = hills(6, 6, seed=number, peaks=2 * (number % 2))
        finished_slide(run, f"s{number:02}", values, row=row(f"s{number:02}", label=str(number % 2)))
    return run


def test_labels_choose_a_threshold_and_no_slide_is_called_by_its_own_vote(tmp_path: Path) -> None:
    cohort: Cohort = gather_cohort(many(tmp_path), score_threshold="auto")
    assert cohort.choice is not None
    assert (cohort.threshold, cohort.score_threshold) == (0.5, cohort.choice.threshold)
    judged = {slide.score_threshold for slide in cohort.measured}
    assert judged == set(cohort.choice.out_of_fold.tolist())
    assert all(slide.positive == (slide.label == "1") for slide in cohort.measured)


def test_labels_of_a_file_go_before_those_of_the_manifest(tmp_path: Path) -> None:
    run = many(tmp_path)
    cohort = gather_cohort(run, labels={"s00.svs": "macro", "nobody": "0"})
    assert {slide.sample_id: slide.label for slide in cohort.slides}["s00"] == "macro"
    assert any("nobody" in remark for remark in cohort.remarks)
    with pytest.raises(SettingsError, match="nobody"):
        gather_cohort(run, labels={"nobody": "0"})
    with pytest.raises(SettingsError, match="s00, label 'grade 2'"):
        gather_cohort(run, score_threshold="auto", labels={"s00": "grade 2"})
    with pytest.raises(DataError, match="at least two"):
        gather_cohort(run, score_threshold="auto", labels={f"s{n:02}": "0" for n in range(12)})


def test_slides_that_were_made_differently_are_remarked(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert gather_cohort(run).remarks == ()
    finished_slide(run, "other", hills(4, 4, seed=1), stride_cells=3)
    (remark,) = gather_cohort(run).remarks
    assert "overlap: 0.333 (4 of 5), 0 (1 of 5)" in remark


@pytest.mark.parametrize("stride_cells", [1, 2, 3])
def test_a_focus_that_one_patch_marks_is_no_longer_than_the_resolution(
    tmp_path: Path, stride_cells: int
) -> None:
    values = np.full((7, 7), 0.499, np.float32)
    values[3, 3] = 0.999
    finished_slide(RunFolder(tmp_path), "a", values, stride_cells=stride_cells)
    (slide,) = gather_cohort(RunFolder(tmp_path)).slides
    assert slide.numbers is not None
    assert slide.target is not None
    assert slide.target.foci.longest_diameter_mm == pytest.approx(slide.numbers.resolution_mm)


@pytest.mark.parametrize("score", [float("nan"), -0.1, 7.0, "high"])
def test_a_score_that_is_none_is_a_damaged_result(folder: Path, tmp_path: Path, score: object) -> None:
    shutil.copytree(folder, tmp_path / "run")
    path = RunFolder(tmp_path / "run").slide("a").slide_json
    record = json.loads(path.read_text())
    record["score"]["of_each_class"]["normal"] = score
    path.write_text(json.dumps(record))
    (slide,) = [each for each in gather_cohort(RunFolder(tmp_path / "run")).slides if each.sample_id == "a"]
    assert (slide.status, slide.score) == ("damaged", None)
