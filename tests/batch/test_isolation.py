"""A slide that takes its process down fails alone; those beside it are done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.batch.conftest import long_slide, small_slide
from tests.conftest import REPOSITORY
from wsi_cam import RunSettings
from wsi_cam.batch import BatchResult, run_batch
from wsi_cam.batch.task import Silent, SlideTask
from wsi_cam.process_list import read_process_list


class Watching(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.started: list[str] = []

    def slide_started(self, task: SlideTask) -> None:
        self.started.append(task.sample_id)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def crashed(
    tmp_path_factory: pytest.TempPathFactory, settings: RunSettings
) -> tuple[Path, BatchResult, Watching]:
    """Two good slides and between them one that aborts its process when it is opened."""
    folder = tmp_path_factory.mktemp("batch")
    slides = [small_slide(folder / f"{name}.svs") for name in ("a", "aborts", "b")]
    (folder / "out" / "logs").mkdir(parents=True)
    (folder / "out" / "failed").mkdir()
    (folder / "out" / "logs" / "a.log").write_text("of an earlier failure")
    (folder / "out" / "failed" / "a.tissue.png").write_text("of an earlier failure")
    watching = Watching()
    with pytest.MonkeyPatch.context() as patch:
        # Python reads sitecustomize.py there as the worker starts; this process has started already.
        patch.setenv("PYTHONPATH", str(REPOSITORY / "tests" / "hostile" / "failing_decoders"))
        result = run_batch(slides, folder / "out", settings, progress=watching)
    return folder, result, watching


def test_the_good_slides_are_done_and_the_bad_ones_have_their_reasons(
    crashed: tuple[Path, BatchResult, Watching],
) -> None:
    folder, result, _ = crashed
    rows = read_process_list(folder / "out" / "process_list.csv")
    assert {name: row.status for name, row in rows.items()} == {"a": "done", "aborts": "failed", "b": "done"}
    assert "aborts.svs: crashed the process that read it (SIGABRT), twice" in rows["aborts"].error
    assert not result.all_done
    assert result.counts == {"done": 2, "failed": 1}
    assert not (folder / "out" / ".locks").exists()
    assert list((folder / "out" / "slides").glob(".*")) == []


def test_a_slide_beside_which_the_process_died_is_tried_again_alone(
    crashed: tuple[Path, BatchResult, Watching],
) -> None:
    _, _, watching = crashed
    assert watching.started.count("aborts") <= 2, "it was tried alone at most once, and prepared once"
    assert any(": SIGABRT; trying it again alone" in note for note in watching.notes)


def test_the_place_of_the_crash_is_in_the_log(crashed: tuple[Path, BatchResult, Watching]) -> None:
    folder = crashed[0] / "out"
    assert "Fatal Python error: Aborted" in (folder / "logs" / "aborts.log").read_text()


def test_traces_of_an_earlier_failure_go_when_the_slide_is_done(
    crashed: tuple[Path, BatchResult, Watching],
) -> None:
    folder = crashed[0] / "out"
    assert not (folder / "logs" / "a.log").exists()
    assert not (folder / "failed").exists()


def test_a_slide_that_ran_out_of_time_is_gone_on_with_when_it_gets_more(
    tmp_path: Path, settings: RunSettings
) -> None:
    slide, output = long_slide(tmp_path / "long.svs"), tmp_path / "out"
    slow = replace(settings, batch_size=1)
    result = run_batch([slide], output, slow, slide_timeout_s=1.0)
    assert "long.svs: took longer than 1 s; give it more with --slide-timeout" in result.outcomes[0].row.error
    assert "most recent call first" in (output / "logs" / "long.log").read_text(), "where it was then"
    assert [p.name for p in (output / "slides").glob(".*")] == [".long.partial"]

    result = run_batch([slide], output, slow, in_process=True)
    assert result.all_done
    assert list((output / "slides").glob(".*")) == []
    assert sorted(p.name for p in output.iterdir()) == ["process_list.csv", "run.json", "slides"]


def test_a_batch_that_is_too_large_for_the_memory_is_said_in_a_line(
    tmp_path: Path, settings: RunSettings
) -> None:
    slide = small_slide(tmp_path / "a.svs")
    asked = replace(settings, batch_size=10**11)  # more bytes than a processor has addresses
    assert run_batch([slide], tmp_path / "out", asked).counts == {"failed": 1}
    reason = read_process_list(tmp_path / "out" / "process_list.csv")["a"].error
    assert reason.startswith(f"{slide}: out of memory (")
    assert reason.endswith("take a smaller --batch-size or fewer --num-workers")
    assert len(reason) < len(str(slide)) + 300
