"""``wsi-cam cohort``: what it writes and says, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cohort.make_results import finished_slide, hills, listed
from wsi_cam.cli.main import main
from wsi_cam.process_list import ProcessRow
from wsi_cam.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = RunFolder(tmp_path / "run")
    for number in range(4):
        row = ProcessRow(f"s{number}", f"s{number}.svs", "done", label=str(number % 2))
        finished_slide(run, f"s{number}", hills(8, 8, seed=number, peaks=3 * (number % 2)), row=row)
    listed(run, ProcessRow("broken", "broken.svs", "failed", error="cut off"))
    return run.path


def test_tables_and_report_are_written_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cohort", str(folder), "--report", "--preset", "lymph-node"]) == 0
    said = capsys.readouterr().out
    assert "4 of 5 slides measured at a threshold of 0.5" in said
    assert "1 without numbers" in said
    for name in ("cohort.csv", "cohort.parquet", "report.html"):
        assert (folder / name).is_file()
        assert str(folder / name) in said
    assert not list(folder.glob(".*"))


def test_the_threshold_is_chosen_by_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = folder / "labels.csv"
    labels.write_text("slide,label\ns0.svs,normal\ns1.svs,tumour\ns2.svs,0\ns3,1\nsomebody,1\n")
    assert main(["cohort", str(folder), "--labels", str(labels), "--threshold", "auto"]) == 0
    printed = capsys.readouterr()
    assert "greatest Youden index" in printed.out
    assert "sensitivity 1.00, specificity 1.00" in printed.out
    assert "somebody" in printed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--class", "stroma"], "knows normal, tumour"),
        (["--threshold", "auto", "--score-threshold", "0.9"], "give one of them"),
        (["--labels", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cohort", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (folder / "cohort.csv").exists()


@pytest.mark.parametrize(
    "arguments", [["--threshold", "1.5"], ["--score-threshold", "some"], ["--preset", "skin"]]
)
def test_impossible_options_are_refused_at_once(folder: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["cohort", str(folder), *arguments])
    assert refused.value.code == 2
