"""What a run finds in its folder: another run at work, results of other settings, of nobody, of itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from tests.batch.conftest import command, small_slide, started
from wsi_cam import RunSettings
from wsi_cam.batch import plan_batch, run_batch
from wsi_cam.batch.locks import try_slide_lock
from wsi_cam.batch.task import Silent, SlideOutcome, SlideTask, Stop
from wsi_cam.process_list import ProcessRow, read_process_list, write_process_list


def test_two_runs_share_one_folder_and_do_each_slide_once(tmp_path: Path, bundle: Path) -> None:
    slides = [small_slide(tmp_path / "slides" / f"{name}.svs", side=200) for name in "abcd"]
    run = command(slides[0].parent, bundle=bundle, output=tmp_path / "out")
    with started(run) as one, started(run) as other:
        said = [process.communicate(timeout=240) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert [err for _, err in said] == ["", ""]
    did = re.findall(r"slide \d of 4: (\w): \d+ patches in", said[0][0] + said[1][0])
    assert sorted(did) == ["a", "b", "c", "d"]
    rows = read_process_list(tmp_path / "out" / "process_list.csv")
    assert {name: row.status for name, row in rows.items()} == dict.fromkeys("abcd", "done")
    assert not (tmp_path / "out" / ".locks").exists()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return small_slide(tmp_path / "s.svs", side=130)


def kind_and_note(slide: Path, output: Path, settings: RunSettings) -> tuple[str, str]:
    ((_, state),) = plan_batch([slide], output, settings, in_process=True)
    return state.kind, state.note


def test_a_result_goes_stale_by_its_slide_its_record_and_its_settings(
    slide: Path, output: Path, settings: RunSettings
) -> None:
    assert kind_and_note(slide, output, settings) == ("missing", "")
    run_batch([slide], output, settings, in_process=True)
    assert kind_and_note(slide, output, settings) == ("done", "")
    assert kind_and_note(slide, output, replace(settings, num_workers=0)) == ("done", "")
    assert kind_and_note(slide, output, replace(settings, min_tissue=0.5)) == (
        "stale",
        "min_tissue 0.1 -> 0.5",
    )
    asked_for_more = replace(settings, export=("csv", "asap"))
    assert kind_and_note(slide, output, asked_for_more) == (
        "done",
        f"already done, without asap; to write that: wsi-cam export {output} --format asap",
    )
    small_slide(slide, side=130, seed=1)
    assert kind_and_note(slide, output, settings) == ("stale", "slide file changed")
    slide.unlink()
    kind, note = kind_and_note_of_a_lost_slide(slide, output, settings)
    assert kind == "done"
    assert "the slide cannot be compared" in note
    small_slide(slide, side=130)
    (output / "slides" / "s" / "slide.json").write_text("{")
    assert kind_and_note(slide, output, settings) == ("stale", "its slide.json cannot be read")
    result = run_batch([slide], output, settings, redo="stale", in_process=True)
    assert result.counts == {"done": 1}
    assert kind_and_note(slide, output, settings) == ("done", "")


def kind_and_note_of_a_lost_slide(slide: Path, output: Path, settings: RunSettings) -> tuple[str, str]:
    manifest = slide.with_name("slides.csv")
    manifest.write_text(f"image_path\n{slide}\n")
    return kind_and_note(manifest, output, settings)


def test_a_failed_slide_is_tried_again_and_keeps_its_patient(
    slide: Path, output: Path, settings: RunSettings
) -> None:
    manifest = slide.with_name("slides.csv")
    manifest.write_text("image_path,patient_id,label\ns.svs,P1,tumour\n")
    content = slide.read_bytes()
    slide.write_text("no slide")
    assert run_batch([manifest], output, settings, in_process=True).counts == {"failed": 1}
    kind, note = kind_and_note(manifest, output, settings)
    assert (kind, "no reader can open this file" in note) == ("failed before", True)
    assert (output / "logs" / "s.log").exists()
    slide.write_bytes(content)
    assert run_batch([manifest], output, settings, in_process=True).all_done
    row = read_process_list(output / "process_list.csv")["s"]
    assert (row.status, row.error, row.patient_id, row.label) == ("done", "", "P1", "tumour")
    assert not (output / "logs").exists()


def test_a_lost_process_list_is_made_again_and_no_result_changes_hands(
    slide: Path, output: Path, settings: RunSettings, tmp_path: Path
) -> None:
    run_batch([slide], output, settings, in_process=True)
    before = read_process_list(output / "process_list.csv")["s"]
    (output / "process_list.csv").unlink()
    namesake = small_slide(tmp_path / "other" / "s.svs", side=130, seed=1)
    result = run_batch([namesake, slide], output, settings, in_process=True)
    assert result.counts == {"done": 1, "skipped": 1}
    rows = read_process_list(output / "process_list.csv")
    assert {name: row.image_path for name, row in rows.items()} == {
        "s": str(slide),
        "s-other": str(namesake),
    }
    assert rows["s"].patches == before.patches
    record = json.loads((output / "slides" / "s" / "slide.json").read_text())
    assert record["slide"]["path"] == str(slide)


def test_an_id_that_was_edited_into_a_path_leads_nowhere(
    slide: Path, output: Path, settings: RunSettings
) -> None:
    row = ProcessRow("../../elsewhere", str(slide), "pending")
    output.mkdir()
    write_process_list(output / "process_list.csv", {row.sample_id: row})
    assert run_batch([slide], output, settings, in_process=True).all_done
    assert (output / "slides" / "s" / "slide.json").is_file()
    assert sorted(path.name for path in output.parent.iterdir()) == ["out", "s.svs"]


def hidden(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "slides").glob(".*"))


def test_what_a_killed_update_left_beside_a_result_goes_with_the_next_run(
    slide: Path, output: Path, settings: RunSettings
) -> None:
    run_batch([slide], output, settings, in_process=True)
    results, other = output / "slides", replace(settings, overlap=0.5)

    def killed_while_it_grew() -> None:
        (results / ".s.partial").mkdir()
        (results / ".s.partial" / "journal").write_bytes(b"begun")
        copytree(results / "s", results / ".s.replaced")

    # Stale: the journal is that of the update, which may be asked for again.
    killed_while_it_grew()
    assert run_batch([slide], output, other, in_process=True).counts == {"stale": 1}
    assert hidden(output) == [".s.partial"]
    # Done: it is of no use. Not while another run has the slide, though.
    lock = try_slide_lock(output, "s")
    assert lock is not None
    run_batch([slide], output, settings, in_process=True)
    assert hidden(output) == [".s.partial"]
    lock.release()
    assert run_batch([slide], output, settings, in_process=True).counts == {"skipped": 1}
    assert hidden(output) == []
    # Killed between the last file and the renaming: the update is taken as it is.
    run_batch([slide], output.with_name("other"), other, in_process=True)
    output.with_name("other").joinpath("slides", "s").rename(results / ".s.partial")
    assert run_batch([slide], output, other, in_process=True).counts == {"skipped": 1}
    assert hidden(output) == []
    assert kind_and_note(slide, output, other) == ("done", "")


def test_what_was_begun_of_a_slide_that_is_gone_goes_too(
    slide: Path, output: Path, settings: RunSettings
) -> None:
    manifest = slide.with_name("slides.csv")
    manifest.write_text("image_path\ns.svs\n")
    (output / "slides" / ".s.partial").mkdir(parents=True)
    (output / "slides" / ".s.partial" / "journal").write_bytes(b"begun")
    slide.unlink()
    result = run_batch([manifest], output, settings, in_process=True)
    assert "there is no such file" in result.outcomes[0].row.error
    assert hidden(output) == []


class Stopping(Silent):
    """Asks to stop at the first slide that was done before."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def slide_ended(self, task: SlideTask, outcome: SlideOutcome) -> None:
        self.stop.ask()


def test_a_run_is_stopped_among_thousands_that_are_done_already(
    slide: Path, output: Path, settings: RunSettings
) -> None:
    slides = [slide, small_slide(slide.with_name("t.svs"), side=130)]
    assert run_batch(slides, output, settings, in_process=True).all_done
    stop = Stop()
    result = run_batch(slides, output, settings, in_process=True, progress=Stopping(stop), stop=stop)
    assert result.counts == {"skipped": 1}
    assert result.interrupted == "stopped between two slides"
    assert not result.all_done


def test_a_reader_that_leaves_takes_no_slide_with_it(slide: Path, output: Path, bundle: Path) -> None:
    slide.with_name("t.svs").write_text("no slide")
    with started(command(slide, slide.with_name("t.svs"), bundle=bundle, output=output)) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=240) == 1, "and the status is that of the slides"
        assert process.stderr is not None
        assert [line[:13] for line in process.stderr.read().splitlines()] == ["slide 2 of 2:"]
    assert (output / "slides" / "s" / "slide.json").is_file()
