"""A result appears under its final name whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_cam.errors import OutputError
from wsi_cam.process_list import ProcessRow, read_process_list, write_process_list
from wsi_cam.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "out")
    folder.prepare()
    return folder


def everything_below(path: Path) -> set[str]:
    return {str(p.relative_to(path)) for p in path.rglob("*")}


def test_a_result_takes_its_name_when_it_is_whole(folder: RunFolder) -> None:
    with folder.publishing("s") as building:
        building.patches_csv.write_text("x")
        assert not folder.slide("s").path.exists()
        building.slide_json.write_text("{}")
    assert folder.is_done("s")
    assert everything_below(folder.path) == {
        "slides",
        "slides/s",
        "slides/s/patches.csv",
        "slides/s/slide.json",
    }


def test_a_failure_leaves_nothing_and_keeps_the_older_result(folder: RunFolder) -> None:
    with folder.publishing("s") as building:
        building.slide_json.write_text("old")

    def fail_halfway() -> None:
        with folder.publishing("s") as building:
            building.slide_json.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert folder.slide("s").slide_json.read_text() == "old"
    assert everything_below(folder.path) == {"slides", "slides/s", "slides/s/slide.json"}


def test_what_a_killed_run_left_is_cleared_and_replaced(folder: RunFolder) -> None:
    leftover = folder.path / "slides" / ".s.partial"
    leftover.mkdir()
    (leftover / "half.png").write_bytes(b"x")
    with folder.publishing("s") as building:
        building.slide_json.write_text("{}")
    assert everything_below(folder.path) == {"slides", "slides/s", "slides/s/slide.json"}


def test_a_result_outlives_a_kill_between_the_two_renames(folder: RunFolder) -> None:
    with folder.publishing("s") as building:
        building.slide_json.write_text("old")
    folder.slide("s").path.rename(folder.path / "slides" / ".s.replaced")

    def fail_again() -> None:
        with folder.publishing("s"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_again()
    assert folder.slide("s").slide_json.read_text() == "old"


def test_the_process_list_comes_back_as_it_was(folder: RunFolder) -> None:
    rows = {
        "a": ProcessRow("a", '/x/a, with "quotes" and\nnewline.svs', "failed", "no spacing", 1.5, 0, 0),
        "b": ProcessRow("b", "/x/b.svs", "done", "", 2.25, 40, 3),
    }
    write_process_list(folder.process_list, rows)
    assert read_process_list(folder.process_list) == rows
    folder.process_list.write_text("something,else\n1,2\n")
    with pytest.raises(OutputError, match="not a process list"):
        read_process_list(folder.process_list)


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "out").prepare()
