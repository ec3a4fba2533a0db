"""The real command, killed without warning and given again: a short form of ``scripts/torture``."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import copytree

import pytest

from scripts.run_differences import differences
from scripts.torture_runs import torture

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are killed as POSIX has them")


@pytest.mark.timeout(900)  # half a dozen commands in full, each with processes that import torch
def test_a_run_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    figures = torture(tmp_path, kills=3, slides=2, side=8, seed=3)
    assert figures.problems == []
    assert figures.all_kills == 3


def test_what_is_lost_or_left_is_noticed(tmp_path: Path) -> None:
    # The judge is judged: each kind of damage is found.
    good = tmp_path / "good"
    slide = good / "slides" / "a"
    slide.mkdir(parents=True)
    for name in ("slide.json", "patches.csv", "timing.json"):
        (slide / name).write_text(name)
    (good / "process_list.csv").write_text("sample_id,status,seconds\na,done,1.5\n")

    def damaged(name: str) -> Path:
        return copytree(good, tmp_path / name)

    other_times = damaged("times")
    (other_times / "slides" / "a" / "timing.json").write_text("other")
    (other_times / "process_list.csv").write_text("sample_id,status,seconds\na,done,2.5\n")
    assert differences(good, other_times) == []
    other_bytes, lacking, left, other_row = map(damaged, ("bytes", "lacking", "left", "row"))
    (other_bytes / "slides" / "a" / "patches.csv").write_text("other")
    (lacking / "slides" / "a" / "patches.csv").unlink()
    (left / "slides" / ".b.partial").mkdir()
    (other_row / "process_list.csv").write_text("sample_id,status,seconds\na,failed,2.5\n")
    assert differences(good, other_bytes) == ["slides/a/patches.csv: other bytes"]
    assert differences(good, lacking) == ["slides/a/patches.csv: not there"]
    assert differences(good, left) == ["slides/.b.partial: left behind"]
    assert differences(good, other_row) == ["process_list.csv: other rows"]
