"""``wsi-cam evaluate-slides`` on finished slides whose probabilities and truth are known."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.cohort.make_results import finished_slide, listed
from tests.evaluation.test_truth import feature, geojson
from wsi_cam.cli import evaluate_slides
from wsi_cam.errors import DataError, OutputError, SettingsError
from wsi_cam.geometry import Box
from wsi_cam.process_list import ProcessRow
from wsi_cam.run_folder import RunFolder

PATCH = 192.0
"""Level-0 pixels of a patch (96 um); a slide is 8 x 10 of them, side by side."""
ROWS, COLUMNS = 8, 10


def call(run: RunFolder, truth: Path, *options: str) -> int:
    parser = argparse.ArgumentParser()
    evaluate_slides.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["evaluate-slides", str(run.path), "--truth", str(truth), *options])
    status: int = args.run(args)
    return status


def figures_of(run: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run.path / "evaluation" / "figures.json").read_text())
    return content


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def patches(left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    """A region of whole patches, as an annotation."""
    return feature("tumour", left * PATCH, top * PATCH, right * PATCH, bottom * PATCH)


def noise(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0.01, 0.45, (ROWS, COLUMNS)).astype(np.float32)


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[RunFolder, Path]:
    """Four slides with a tumour of 3 x 2 patches, of which one is missed; four without, one with an alarm."""
    run, truth = RunFolder(tmp_path / "out"), tmp_path / "truth"
    truth.mkdir()
    for number in range(8):
        values, name = noise(number), f"s{number}"
        if number < 4:
            geojson(truth / f"{name}.geojson", patches(2, 3, 5, 5))
            values[3:5, 2:5] = 0.1 if number == 3 else 0.9 - 0.02 * number
        else:
            geojson(truth / f"{name}.geojson")
        if number == 4:
            values[6, 8] = 0.87
        row = ProcessRow(name, f"/slides/{name}.svs", "done")
        finished_slide(run, name, values, stride_cells=3, row=row)
    return run, truth


def test_every_figure_is_what_the_slides_say(
    cohort: tuple[RunFolder, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, truth = cohort
    assert call(run, truth) == 0
    printed = capsys.readouterr().out
    sections = figures_of(run)["sections"]
    labels, probability, scores = [], [], []
    for number in range(8):
        rows = rows_of(run.slide(f"s{number}").patches_csv)
        probability += [float(row["prob_tumour"]) for row in rows]
        inside = np.zeros((ROWS, COLUMNS), bool)
        inside[3:5, 2:5] = number < 4
        labels += inside.ravel().tolist()
        scores.append(np.sort(probability[-ROWS * COLUMNS :])[-10:].mean())
    for name in ("patches", "pixels"):  # equal where patches do not overlap: nine pixels each
        figures = sections[name]["figures"]
        assert figures["auroc"][0] == pytest.approx(roc_auc_score(labels, probability), abs=1e-3)
        expected = average_precision_score(labels, probability)
        assert figures["average precision"][0] == pytest.approx(expected, abs=1e-3)
    slides = sections["slides"]["figures"]["auroc"]
    assert slides[0] == pytest.approx(roc_auc_score([True] * 4 + [False] * 4, scores), abs=1e-5)
    assert slides[1] <= slides[0] <= slides[2]
    # 18 patches called rightly, one wrongly, 6 missed.
    assert sections["pixels"]["figures"]["dice at 0.5"][0] == pytest.approx(36 / (36 + 1 + 6), abs=1e-5)
    assert sections["pixels"]["figures"]["iou at 0.5"][0] == pytest.approx(18 / 25, abs=1e-5)
    # Lesions of 288 x 192 um; found at 0.9, 0.88, 0.86 (one point each), an alarm at 0.87 on one of 8 slides.
    lesions = sections["lesions"]
    assert lesions["numbers"] == {
        "lesions": 4, "isolated tumour cells, ignored": 0, "false positives": 1, "slides": 8,
    }  # fmt: skip
    assert lesions["figures"]["froc score"][0] == pytest.approx(0.75)
    assert "froc score" in printed
    assert "only 4 with and 4 without the target" in printed


def test_the_files_tell_the_same(cohort: tuple[RunFolder, Path], tmp_path: Path) -> None:
    run, truth = cohort
    call(run, truth, "--json", str(tmp_path / "copy.json"))
    assert json.loads((tmp_path / "copy.json").read_text()) == figures_of(run)
    folder = run.path / "evaluation"
    rows = rows_of(folder / "slides.csv")
    assert [row["lesions_found"] for row in rows] == ["1", "1", "1", "0", "0", "0", "0", "0"]
    assert [row["false_positives"] for row in rows[4:]] == ["1", "0", "0", "0"]
    last = rows_of(folder / "froc_curve.csv")[-1]
    assert (float(last["false_positives_per_slide"]), float(last["sensitivity"])) == (0.125, 0.75)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    curve = rows_of(folder / "slide_roc_curve.csv")
    assert (curve[0]["sensitivity"], curve[-1]["sensitivity"]) == ("0.0", "1.0")
    names = {path.name for path in folder.iterdir()}
    call(run, truth)
    assert {path.name for path in folder.iterdir()} == names


def test_equal_results_give_equal_files(cohort: tuple[RunFolder, Path]) -> None:
    run, truth = cohort
    call(run, truth)
    before = {path.name: path.read_bytes() for path in (run.path / "evaluation").iterdir()}
    call(run, truth)
    assert {path.name: path.read_bytes() for path in (run.path / "evaluation").iterdir()} == before


def test_a_failed_slide_is_a_miss_where_it_has_the_target_and_left_out_where_not(
    cohort: tuple[RunFolder, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, truth = cohort
    call(run, truth)
    before = figures_of(run)["sections"]
    for number in (0, 7):
        shutil.rmtree(run.slide(f"s{number}").path)
        listed(run, ProcessRow(f"s{number}", f"/slides/s{number}.svs", "failed", "a tile is damaged"))
    capsys.readouterr()
    assert call(run, truth) == 1
    printed = capsys.readouterr().out
    assert "no result: s0 (counted as missed): a tile is damaged" in printed
    assert "no result: s7 (left out, it has no target): a tile is damaged" in printed
    after = figures_of(run)
    assert after["failed"] == {"s0": "a tile is damaged", "s7": "a tile is damaged"}
    numbers = after["sections"]["slides"]["numbers"]
    assert numbers == {"with the target": 4, "without": 3, "failed": 1}
    assert after["sections"]["slides"]["figures"]["auroc"][0] < before["slides"]["figures"]["auroc"][0]
    lesions = after["sections"]["lesions"]
    assert (lesions["numbers"]["lesions"], lesions["numbers"]["slides"]) == (4, 7)
    assert lesions["figures"]["froc score"][0] == pytest.approx(0.5)


def test_a_damaged_result_counts_as_failed(
    cohort: tuple[RunFolder, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, truth = cohort
    run.slide("s0").slide_json.write_text("nonsense")
    run.slide("s1").patches_csv.write_text("nonsense")
    assert call(run, truth) == 1
    printed = capsys.readouterr().out
    for name in ("s0", "s1"):
        assert f"no result: {name} (counted as missed): damaged result" in printed


def test_labels_alone_give_slide_figures_only(
    cohort: tuple[RunFolder, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = cohort
    labels = tmp_path / "labels.csv"
    rows = [f"/slides/s{n}.svs,{'tumour' if n < 4 else 'normal'}" for n in range(7)]
    labels.write_text("\n".join(["image_path,label", *rows, "other,normal"]) + "\n")
    assert call(run, labels) == 0
    found = figures_of(run)
    assert "lesions" not in found["sections"]
    assert found["sections"]["slides"]["numbers"]["with the target"] == 4
    assert (found["without_truth"], found["truth_without_slide"]) == (["s7"], ["other"])
    printed = capsys.readouterr().out
    assert "slides left out, nothing is known of them (1): s7" in printed
    assert "truth of what is no slide of this run (1): other" in printed


def test_figures_that_nothing_defines_say_so_and_draw_no_curve(
    cohort: tuple[RunFolder, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = cohort
    rows = [f"s{n},{'tumour' if n < 4 else 'normal'}" for n in range(8)]
    (folder := tmp_path / "only labels").mkdir()
    (folder / "labels.csv").write_text("\n".join(["sample_id,label", *rows]) + "\n")
    assert call(run, folder) == 0
    printed = capsys.readouterr().out.splitlines()
    start = next(n for n, line in enumerate(printed) if line.startswith("patches: 0 with the target"))
    assert printed[start + 1].split(maxsplit=1) == ["auroc", "not defined by these labels"]
    assert not [line for line in printed if "nan" in line]


def test_patients_are_resampled_where_all_are_named(cohort: tuple[RunFolder, Path]) -> None:
    run, truth = cohort
    for number in range(8):
        row = ProcessRow(f"s{number}", f"/slides/s{number}.svs", "done", patient_id=f"p{number // 2}")
        listed(run, row)
    call(run, truth)
    assert figures_of(run)["resampled"] == "patients"


def test_bounds_move_the_truth_and_nothing_seen_is_a_miss(tmp_path: Path) -> None:
    run, truth = RunFolder(tmp_path / "out"), tmp_path / "truth"
    truth.mkdir()
    values = noise(0)
    values[3:5, 2:5], values[4, 4] = 0.9, -1  # one patch of the tumour was not taken for tissue
    bounds = Box[Any](PATCH, 2 * PATCH, 6 * PATCH, 5 * PATCH)
    finished_slide(run, "a", values, stride_cells=3, bounds=bounds)
    finished_slide(run, "b", noise(1), stride_cells=3)
    geojson(truth / "a.geojson", patches(1, 1, 4, 3))  # as QuPath shows it: from the corner of the bounds
    geojson(truth / "b.geojson")
    assert call(run, truth) == 0
    pixels = figures_of(run)["sections"]["pixels"]
    assert pixels["numbers"]["of the target unseen"] == 9
    assert pixels["figures"]["dice at 0.5"][0] == pytest.approx(10 / 11, abs=1e-5)
    assert "slide_threshold" in figures_of(run)
    assert "no threshold can be cross-validated" in figures_of(run)["sections"]["slides"]["note"]


def test_what_contradicts_itself_is_refused(cohort: tuple[RunFolder, Path]) -> None:
    run, truth = cohort
    (truth / "labels.csv").write_text("sample_id,label\ns5,tumour\n")
    with pytest.raises(DataError, match=r"s5\.geojson: has no area of the target, but the label"):
        call(run, truth)


def test_what_cannot_be_measured_is_said(cohort: tuple[RunFolder, Path], tmp_path: Path) -> None:
    run, truth = cohort
    with pytest.raises(SettingsError, match="normal, tumour"):
        call(run, truth, "--class", "blue")
    with pytest.raises(SettingsError, match="--specificity"):
        call(run, truth, "--specificity", "90")
    with pytest.raises(OutputError, match="not the output folder"):
        call(RunFolder(tmp_path / "nowhere"), truth)
    (tmp_path / "other").mkdir()
    geojson(tmp_path / "other" / "unrelated.geojson", patches(0, 0, 1, 1))
    with pytest.raises(DataError, match="no truth here is named after a slide"):
        call(run, tmp_path / "other")
    geojson(truth / "s2.geojson", feature("Mitosis", 0, 0, 5, 5))
    with pytest.raises(DataError, match=r"s2\.geojson: class 'Mitosis' is unknown"):
        call(run, truth)
    assert call(run, truth, "--other-name", "mitosis") == 0


def test_slides_of_two_models_are_remarked_and_a_class_that_one_lacks_is_an_error(
    cohort: tuple[RunFolder, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, truth = cohort
    record_path = run.slide("s5").slide_json
    record = json.loads(record_path.read_text())
    record["model"] |= {"name": "another", "bundle_hash": "0123456789"}
    record_path.write_text(json.dumps(record))
    call(run, truth)
    assert "another 01234567 (1 of 8)" in capsys.readouterr().out
    assert "another" in figures_of(run)["remarks"][0]
    store = run.slide("s5").probability_zarr / ".zattrs"
    store.write_text(store.read_text().replace('"tumour"', '"stroma"'))
    with pytest.raises(SettingsError, match="the model of s5 knows normal, stroma"):
        call(run, truth)


def test_overlap_with_a_target_that_is_nowhere_is_undefined(tmp_path: Path) -> None:
    run, truth = RunFolder(tmp_path / "out"), tmp_path / "truth"
    truth.mkdir()
    for name in ("a", "b"):
        finished_slide(run, name, noise(1), stride_cells=3)
        geojson(truth / f"{name}.geojson")
    call(run, truth)
    assert figures_of(run)["sections"]["pixels"]["figures"]["dice at 0.5"] == [None, None, None]
