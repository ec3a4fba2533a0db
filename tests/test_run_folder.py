"""A result appears under its final name whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from wsi_cam.errors import Interrupted, ModelError, OutputError, SlideError
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


@pytest.mark.parametrize(
    "error", [Interrupted("stop"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_the_journal_stays_where_the_same_command_can_go_on(folder: RunFolder, error: BaseException) -> None:
    def end_halfway() -> None:
        with folder.publishing("s") as building:
            building.journal.write_bytes(b"seen")
            building.patches_csv.write_text("half")
            building.probability_zarr.mkdir()
            raise error

    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as raised:
        end_halfway()
    if isinstance(error, OSError):
        assert "No space left on device" in str(raised.value)
    assert not folder.slide("s").path.exists()
    with folder.publishing("s") as building:
        assert everything_below(building.path) == {"journal"}
        building.slide_json.write_text("{}")
    assert everything_below(folder.path) == {"slides", "slides/s", "slides/s/slide.json"}


@pytest.mark.parametrize("error", [ModelError("no"), SlideError("no"), RuntimeError(), MemoryError()])
def test_after_other_errors_nothing_stays(folder: RunFolder, error: Exception) -> None:
    def fail_halfway() -> None:
        with folder.publishing("s") as building:
            building.journal.write_bytes(b"seen")
            raise error

    with pytest.raises(type(error)):
        fail_halfway()
    assert everything_below(folder.path) == {"slides"}


def moments_of(folder: RunFolder, work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A copy of the folder as it is before and after each file that ``work`` renames or removes."""
    copies: list[Path] = []

    def copied_before(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            copies.append(folder.path.with_name(f"moment-{len(copies)}"))
            copytree(folder.path, copies[-1])
            return change(*args, **kwargs)

        return changed

    # shutil.rmtree removes file by file with os.unlink and os.rmdir; Path.rename is os.rename.
    for name in ("rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, copied_before(getattr(os, name)))
    work()
    monkeypatch.undo()
    copies.append(folder.path)
    return copies


def test_killed_between_any_two_steps_of_replacing_neither_result_is_lost(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder.publishing("s") as building:
        building.patches_csv.write_text("old")
        building.slide_json.write_text("old")

    def replace_it() -> None:
        with folder.publishing("s") as building:
            building.journal.write_text("seen")
            building.patches_csv.write_text("new")
            building.slide_json.write_text("new")

    moments = moments_of(folder, replace_it, monkeypatch)
    assert len(moments) >= 6
    for moment in moments:
        after = RunFolder(moment)
        after.settle("s")
        assert after.is_done("s")
        assert after.slide("s").slide_json.read_text() == after.slide("s").patches_csv.read_text() == "new"
        assert everything_below(moment) == {
            "slides",
            "slides/s",
            "slides/s/patches.csv",
            "slides/s/slide.json",
        }


def test_killed_while_it_grows_the_older_result_and_the_journal_stay(folder: RunFolder) -> None:
    with folder.publishing("s") as building:
        building.slide_json.write_text("old")
    grown = folder.growing("s")
    grown.path.mkdir()
    grown.journal.write_text("seen")
    folder.settle("s")
    assert folder.slide("s").slide_json.read_text() == "old"
    assert grown.journal.read_text() == "seen"
    assert folder.has_leftovers("s")
    folder.discard_growing("s")
    assert not folder.has_leftovers("s")
    assert everything_below(folder.path) == {"slides", "slides/s", "slides/s/slide.json"}


def test_killed_while_something_is_discarded_half_of_it_does_not_pass_for_a_result(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = folder.growing("s")
    grown.path.mkdir()
    for file in (grown.slide_json, grown.patches_csv, grown.journal, grown.tissue_png):
        file.write_text("x")
    first, *others = moments_of(folder, lambda: folder.discard_growing("s"), monkeypatch)
    for moment in others:
        RunFolder(moment).settle("s")
        assert not RunFolder(moment).is_done("s")
    RunFolder(first).settle("s")
    assert RunFolder(first).is_done("s")


def test_where_the_new_result_cannot_take_its_name_the_old_one_keeps_it(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder.publishing("s") as building:
        building.slide_json.write_text("old")
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if str(source).endswith(".partial"):
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(source, target)

    def replace_it() -> None:
        with folder.publishing("s") as building:
            building.slide_json.write_text("new")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        replace_it()
    monkeypatch.undo()
    assert folder.slide("s").slide_json.read_text() == "old"
    folder.settle("s")
    assert folder.slide("s").slide_json.read_text() == "new"


def test_many_runs_may_prepare_one_folder_at_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: folder.prepare(), range(200)))
    assert everything_below(folder.path) == {"slides"}


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


def test_a_process_list_that_cannot_be_written_leaves_nothing_half_written(folder: RunFolder) -> None:
    folder.process_list.mkdir()
    with pytest.raises(OutputError, match=r"process_list\.csv: cannot be written"):
        write_process_list(folder.process_list, {})
    assert everything_below(folder.path) == {"process_list.csv", "slides"}
