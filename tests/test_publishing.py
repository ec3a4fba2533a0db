"""Files and folders appear whole or not at all, and what was there stays until then."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from wsi_cam.errors import DataError, OutputError
from wsi_cam.publishing import published, published_folder


def write(path: Path, content: str, error: BaseException | None = None, **how: Any) -> None:
    with published(path, **how) as partial:
        partial.write_text(content)
        if error is not None:
            raise error


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with published(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [DataError("no such class"), KeyboardInterrupt(), ZeroDivisionError()])
def test_after_an_error_the_older_file_stays_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(type(error)):
        write(path, "half", error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_refuses_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with pytest.raises(OutputError, match=r"table\.csv: cannot be written \(No space left on device\); tidy"):
        write(path, "half", OSError(errno.ENOSPC, "No space left on device"), remedy="tidy up")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_an_error_where_it_is_not_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        write(tmp_path / "gone" / "slide.json", "{}", make_parents=False)
    assert not list(tmp_path.iterdir())


def fill(folder: Path, content: str) -> None:
    with published_folder(folder) as partial:
        (partial / "card").write_text(content)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "model"
    fill(folder, "old")
    (folder / "more").touch()
    fill(folder, "new")
    assert [path.name for path in folder.iterdir()] == ["card"]
    assert (folder / "card").read_text() == "new"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_that_cannot_take_its_name_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    fill(folder, "old")
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if str(source).endswith(".partial"):
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OutputError, match=r"model: cannot be written \(Permission denied\)"):
        fill(folder, "new")
    assert (folder / "card").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_call_left_of_a_folder_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "half").touch()
    fill(tmp_path / "model", "new")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["card"]
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
