"""What a person sees on a terminal while slides are worked on, and what a file sees instead."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from wsi_cam.batch.task import SlideOutcome, SlideTask
from wsi_cam.cli.progress import TerminalProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell_of_a_slide(progress: TerminalProgress) -> None:
    task = SlideTask(number=1, total=2, sample_id="a", path=Path("/slides/a.svs"))
    with progress:
        progress.waiting("loading the model")
        progress.slide_started(task)
        progress.patches_done(task, 0, 0)
        progress.patches_done(task, 0, 64)
        progress.patches_done(task, 64, 64)
        progress.slide_ended(task, SlideOutcome("done", task.row("done")))


def test_a_terminal_says_what_goes_on_before_the_first_and_after_the_last_patch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    tell_of_a_slide(TerminalProgress())
    seen = terminal.getvalue()
    places = [
        seen.index(words)
        for words in ("loading the model ...", "slide 1 of 2: a: opening ...", "0/64", "writing files")
    ]
    assert places == sorted(places)
    assert seen.endswith("\r"), "and nothing of it stays"
    assert capsys.readouterr().out.startswith("slide 1 of 2: a: ")


@pytest.mark.parametrize("quiet", [False, True])
def test_a_file_gets_a_line_for_each_slide_and_no_bar(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_of_a_slide(TerminalProgress(quiet))
    said = capsys.readouterr()
    assert said.err == ""
    assert len(said.out.splitlines()) == (0 if quiet else 1)
