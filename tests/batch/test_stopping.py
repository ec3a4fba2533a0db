"""A run that is stopped, killed or left without disk is gone on with by the same command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.batch.conftest import command, long_slide, small_slide, started
from wsi_cam import RunSettings
from wsi_cam.batch import run_batch
from wsi_cam.batch.task import Silent, SlideTask, Stop
from wsi_cam.errors import OutputError
from wsi_cam.process_list import read_process_list

PATIENCE_S = 120


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def journal_grows(output: Path) -> Callable[[], bool]:
    """Whether patches of a slide have been seen since this was asked for."""

    def size() -> int:
        return sum(p.stat().st_size for p in output.glob("slides/.*.partial/*") if p.is_file())

    before = size()
    return lambda: size() > before + 1000


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_ctrl_c_then_a_kill_then_the_rest(tmp_path: Path, bundle: Path) -> None:
    slide, output = long_slide(tmp_path / "long.svs"), tmp_path / "out"
    run = command(slide, bundle=bundle, output=output)

    with started(run) as process:
        wait_for(journal_grows(output))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "stopping after the patches in hand" in err
    assert err.count("the same command goes on") == 1
    assert "0 done" not in out
    assert "Traceback" not in out + err
    assert read_process_list(output / "process_list.csv")["long"].status == "pending"
    assert not (output / ".locks").exists()

    with started(run) as process:
        wait_for(journal_grows(output))
        (worker,) = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        # The worker sees that nobody speaks to it any more.
        worker.wait(timeout=PATIENCE_S)

    done = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "of them by an earlier run" in done.stdout
    assert sorted(p.name for p in output.iterdir()) == ["process_list.csv", "run.json", "slides"]
    assert [p.name for p in (output / "slides").iterdir()] == ["long"]


class StoppingAfterFirst(Silent):
    """Asks to stop when the second slide begins."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def slide_started(self, task: SlideTask) -> None:
        if task.number == 2:
            self.stop.ask()


def test_slides_that_were_not_reached_stay_pending_and_come_next(
    tmp_path: Path, settings: RunSettings
) -> None:
    slides = [small_slide(tmp_path / f"{name}.svs", side=130) for name in "abc"]
    stop = Stop()
    result = run_batch(
        slides, tmp_path / "out", settings, in_process=True, progress=StoppingAfterFirst(stop), stop=stop
    )
    assert result.interrupted
    assert not result.all_done
    rows = read_process_list(tmp_path / "out" / "process_list.csv")
    assert [rows[name].status for name in "abc"] == ["done", "pending", "pending"]
    again = run_batch(slides, tmp_path / "out", settings, in_process=True)
    assert again.all_done
    assert again.counts == {"skipped": 1, "done": 2}


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk: Linux, root")
def test_a_full_disk_stops_the_run_and_no_slide_is_blamed(
    tmp_path: Path, bundle: Path, settings: RunSettings
) -> None:
    slides = [small_slide(tmp_path / "slides" / f"{name}.svs") for name in "ab"]
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(20 * 2**20 - 40_000))
        run = command(*slides, bundle=bundle, output=disk / "out")
        full = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert full.returncode == 1
        assert len(full.stderr.splitlines()) == 1
        assert "No space left on device" in full.stderr
        assert "run the same command again" in full.stderr
        ballast.unlink()
        rows = read_process_list(disk / "out" / "process_list.csv")
        assert {row.status for row in rows.values()} == {"pending"}

        assert run_batch(slides, disk / "out", settings, in_process=True).all_done
        assert sorted(p.name for p in (disk / "out" / "slides").iterdir()) == ["a", "b"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_while_patches_are_seen_is_the_batchs_trouble(
    tmp_path: Path, settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides = [small_slide(tmp_path / f"{name}.svs", side=130) for name in "ab"]

    def full(*arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr("wsi_cam.slide_run.journal.Journal.write", full)
        with pytest.raises(OutputError, match="No space left on device"):
            run_batch(slides, tmp_path / "out", settings, in_process=True)
    rows = read_process_list(tmp_path / "out" / "process_list.csv")
    assert {row.status for row in rows.values()} == {"pending"}
    assert run_batch(slides, tmp_path / "out", settings, in_process=True).all_done


class RemovingTheFolder(Silent):
    """Renames the output folder when the first patches of a slide have been seen."""

    def __init__(self, output: Path) -> None:
        self.output, self.elsewhere = output, output.with_name("elsewhere")

    def patches_done(self, task: SlideTask, done: int, total: int) -> None:
        if done and not self.elsewhere.exists():
            self.output.rename(self.elsewhere)


@pytest.mark.parametrize("how", [{"in_process": True}, {}, {"cluster": "local:2"}], ids=str)
def test_a_folder_that_is_removed_ends_the_run_and_does_not_come_back(
    tmp_path: Path, settings: RunSettings, how: dict[str, Any]
) -> None:
    if how.get("cluster"):
        pytest.importorskip("distributed")
    slides, output = [small_slide(tmp_path / f"{name}.svs") for name in "abc"], tmp_path / "out"
    with pytest.raises(OutputError, match=r"out: the output folder has been removed .*run the same command"):
        run_batch(slides, output, settings, progress=RemovingTheFolder(output), **how)
    assert not output.exists()
    rows = read_process_list(tmp_path / "elsewhere" / "process_list.csv")
    assert "failed" not in {row.status for row in rows.values()}


class RemovingAllFiles(Silent):
    """Removes the output folder when some patches have been seen, and counts on."""

    def __init__(self, output: Path) -> None:
        self.output, self.seen = output, 0

    def patches_done(self, task: SlideTask, done: int, total: int) -> None:
        self.seen = done
        if done >= 5:
            shutil.rmtree(self.output, ignore_errors=True)


@pytest.mark.skipif(sys.platform == "win32", reason="files that are open cannot be removed there")
def test_a_long_slide_is_not_looked_at_to_its_end_for_a_folder_that_is_gone(
    tmp_path: Path, settings: RunSettings
) -> None:
    slide, output = small_slide(tmp_path / "s.svs"), tmp_path / "out"
    progress = RemovingAllFiles(output)
    with pytest.raises(OutputError, match="the output folder has been removed"):
        run_batch([slide], output, replace(settings, batch_size=1), in_process=True, progress=progress)
    assert progress.seen < 10
    assert not output.exists()
