"""A folder of more than a hundred hostile files beside three slides, through the command that people type."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.hostile.make_hostile import make_hostile
from tests.hostile.spoiling import Hostile, small_svs, write_good_slides
from tests.make_models import model_card, write_bundle
from wsi_cam.errors import one_line
from wsi_cam.process_list import ProcessRow, read_process_list

pytestmark = pytest.mark.timeout(900)

#: Of the command and its worker process together, as the system counts them. The model takes most of it.
LARGEST_RSS_MIB = 2048
#: Generous for slides of a second on a busy machine; the one that hangs costs it twice.
STALL_S = 10


@dataclass(frozen=True)
class Run:
    """What became of the folder."""

    folder: Path
    output: Path
    hostile: list[Hostile]
    good: list[Path]
    status: int
    out: str
    err: str
    rss_mib: float

    @property
    def rows(self) -> dict[str, ProcessRow]:
        """By path."""
        return {row.image_path: row for row in read_process_list(self.output / "process_list.csv").values()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("hostile") / "slides"
    folder.mkdir()
    output = folder.parent / "out"
    bundle = write_bundle(folder.parent / "bundle", model_card(patch_size_px=64, mpp_um=1.0))
    good, hostile = write_good_slides(folder), [*make_hostile(folder), *failing_decoders(folder)]
    manifest = write_manifest(folder.parent, hostile, found_by_search=set(folder.rglob("[!.]*")))
    status, out, err, rss_mib = run_and_watch(
        [
            *("run", folder, manifest, "-o", output, "--model", bundle, "--device", "cpu"),
            *("--num-workers", 1, "--export", "csv", "--top-patches", 0, "--stall-timeout", f"{STALL_S}s"),
        ],
        folder.parent,
    )
    return Run(folder, output, hostile, good, status, out, err, rss_mib)


def failing_decoders(folder: Path) -> list[Hostile]:
    """Good files that set off the decoders of ``failing_decoders/sitecustomize.py``."""
    reasons = {
        "aborts": r"crashed the process that read it \(SIGABRT\)",
        "hangs": "nothing happened for .* reading it hangs",
        "eats_memory": "out of memory",
    }
    return [Hostile(small_svs(folder / f"{name}.svs"), reason) for name, reason in reasons.items()]


def write_manifest(folder: Path, hostile: list[Hostile], found_by_search: set[Path]) -> Path:
    """A manifest of what a search leaves out (hidden names, texts that end in .dcm), and of odd rows."""
    gone = Hostile(folder / "slides" / "gone.svs", "no such file")
    outside = Hostile(small_svs(folder / "escape.svs"), None)
    hostile += [gone, outside]
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "sample_id"])
        writer.writerow([gone.path, ""])
        writer.writerow([outside.path, "../../../escape"])
        for one in hostile:
            if one.path.name.startswith(".") or one.path.suffix == ".dcm":
                writer.writerow([one.path, ""])
    return path


def run_and_watch(arguments: list[object], working_folder: Path) -> tuple[int, str, str, float]:
    """Status, standard output and error of the command, and the most memory its processes had at once."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "tests/hostile/failing_decoders"), str(REPOSITORY)]),
        "OMP_NUM_THREADS": "1",
    }
    command = subprocess.Popen(
        [sys.executable, "-m", "wsi_cam.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=working_folder,
    )
    most = [0]

    def watch() -> None:
        parent = psutil.Process(command.pid)
        while command.poll() is None:
            total = 0
            try:
                for process in (parent, *parent.children(recursive=True)):
                    total += process.memory_info().rss
            except psutil.NoSuchProcess:
                pass
            most[0] = max(most[0], total)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = (text.decode(errors="surrogateescape") for text in command.communicate(timeout=850))
    watcher.join()
    return command.returncode, out, err, most[0] / 2**20


def test_the_folder_is_as_hostile_as_was_asked_for(run: Run) -> None:
    assert sum(one.reason is not None for one in run.hostile) >= 60
    assert len({one.path for one in run.hostile}) == len(run.hostile)


def test_the_good_slides_are_done_and_the_status_says_that_others_are_not(run: Run) -> None:
    assert run.status == 1, run.err[-3000:]
    for path in run.good:
        row = run.rows[str(path)]
        assert (row.status, row.error, row.unread) == ("done", "", 0)
        assert (run.output / "slides" / row.sample_id / "slide.json").is_file()


def test_every_hostile_file_has_one_row_that_says_what_became_of_it(run: Run) -> None:
    rows, wrong = run.rows, []
    assert len(rows) == len(run.hostile) + len(run.good)
    for one in run.hostile:
        row = rows.get(str(one.path))
        if row is None:
            wrong.append(f"{one.path.name!r} has no row")
        elif one.reason is None:
            if (row.status, row.error) != ("done", ""):
                wrong.append(f"{one.path.name!r}: {row.status} {row.error}")
        elif row.status != "failed" or not re.search(one.reason, row.error):
            wrong.append(f"{one.path.name!r}: {row.status} {row.error!r} is not {one.reason!r}")
    assert not wrong, "\n".join(wrong)


def test_a_reason_is_one_line_with_the_file_the_cause_and_the_next_step(run: Run) -> None:
    for row in run.rows.values():
        if row.status == "failed":
            assert row.error.startswith(f"{one_line(OSError(row.image_path))}: ")
            assert row.error.isprintable() or "\udc80" <= max(row.error) <= "\udcff"
            assert "; " in row.error
            assert (run.output / "logs" / f"{row.sample_id}.log").is_file()


def test_the_terminal_shows_what_the_command_says_and_no_decoder_and_no_traceback(run: Run) -> None:
    assert "Traceback" not in run.out + run.err
    ours = ("slide ", "wsi-cam: ", "wsi_cam.")
    assert [line for line in run.err.splitlines() if not line.startswith(ours)] == []
    assert run.err.count(": failed: ") == sum(row.status == "failed" for row in run.rows.values())


def test_nothing_is_left_behind_and_nothing_is_written_elsewhere(run: Run) -> None:
    assert [path.name for path in (run.output / "slides").iterdir() if path.name.startswith(".")] == []
    ids = {row.sample_id for row in run.rows.values() if row.status == "done"}
    assert {path.name for path in (run.output / "slides").iterdir()} == ids
    assert {path.name for path in run.folder.parent.iterdir()} == {
        "slides", "out", "bundle", "manifest.csv", "escape.svs",
    }  # fmt: skip


def test_memory_stays_within_its_bound(run: Run) -> None:
    print(f"{run.rss_mib:.0f} MiB at most")
    assert run.rss_mib < LARGEST_RSS_MIB
