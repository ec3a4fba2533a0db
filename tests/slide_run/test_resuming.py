"""A slide that was stopped, killed or could not write goes on where it was, and ends in the same bytes."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.make_models import colour_network
from tests.result_bytes import result_bytes
from tests.slide_run.conftest import CARD, N_PATCHES, SETTINGS
from wsi_cam import RunSettings, SlideResult, explain_slide, pipeline
from wsi_cam.classifiers.bundle import Classifier
from wsi_cam.errors import Interrupted, ModelError, OutputError, SlideError
from wsi_cam.inference import PatchExplainer
from wsi_cam.loader import PatchReader
from wsi_cam.run_folder import RunFolder


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, slide: Path, explainer: PatchExplainer
) -> dict[str, bytes]:
    result = explain_slide(slide, tmp_path_factory.mktemp("undisturbed"), explainer, SETTINGS)
    assert (result.n_patches, result.resumed_at) == (N_PATCHES, 0)
    return result_bytes(result.folder)


def after(calls: int) -> Callable[[], bool]:
    """Says stop at the call of that number."""
    made = 0

    def should_stop() -> bool:
        nonlocal made
        made += 1
        return made >= calls

    return should_stop


def stopped(
    slide: Path, out: Path, explainer: PatchExplainer, batches: int, settings: RunSettings = SETTINGS
) -> Path:
    """The journal of a run that was asked to stop after so many batches."""
    with pytest.raises(Interrupted):
        explain_slide(slide, out, explainer, settings, should_stop=after(batches))
    journal = RunFolder(out).growing("case").journal
    assert journal.is_file()
    return journal


def everything_below(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def test_a_run_that_is_asked_to_stop_says_where_and_goes_on_from_there(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, undisturbed: dict[str, bytes]
) -> None:
    with pytest.raises(Interrupted, match=r"case\.svs: stopped after 12 of 30 patches; the same command"):
        explain_slide(slide, tmp_path, explainer, SETTINGS, should_stop=after(3))
    assert not RunFolder(tmp_path).is_done("case")
    seen: list[int] = []
    result = explain_slide(slide, tmp_path, explainer, SETTINGS, progress=lambda done, n: seen.append(done))
    assert result.resumed_at == 12
    assert seen[:9] == [0, 4, 8, 12, 16, 20, 24, 28, 30]
    assert result_bytes(result.folder) == undisturbed
    assert [p.name for p in (tmp_path / "slides").iterdir()] == ["case"]
    timing = json.loads((result.folder / "timing.json").read_text())
    assert timing["resumed_at"] == 12
    # All that is done with the 18 patches since counts, whatever goes on beside the network.
    assert timing["seconds"]["looking"] >= timing["seconds"]["network"] + timing["seconds"]["journal"]
    assert timing["patches_per_second"] == pytest.approx(18 / timing["seconds"]["looking"], rel=0.05)


def test_it_may_be_stopped_as_often_as_there_are_batches(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, undisturbed: dict[str, bytes]
) -> None:
    for done in range(4, 32, 4):
        with pytest.raises(Interrupted, match=f"after {done} of 30"):
            explain_slide(slide, tmp_path, explainer, SETTINGS, should_stop=after(1))
    with pytest.raises(Interrupted, match="after 30 of 30"):
        explain_slide(slide, tmp_path, explainer, SETTINGS, should_stop=after(1))
    result = explain_slide(slide, tmp_path, explainer, SETTINGS, should_stop=after(1))
    assert result.resumed_at == 30
    assert result_bytes(result.folder) == undisturbed


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), threads=st.integers(0, 2))
def test_wherever_the_journal_is_torn_the_bytes_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    slide: Path,
    explainer: PatchExplainer,
    undisturbed: dict[str, bytes],
    share: float,
    threads: int,
) -> None:
    out = tmp_path_factory.mktemp("torn")
    journal = stopped(slide, out, explainer, 6)
    content = journal.read_bytes()
    journal.write_bytes(content[: round(share * len(content))])
    # The number of reading threads is no part of the result; it may change.
    result = explain_slide(slide, out, explainer, replace(SETTINGS, num_workers=threads))
    assert result.resumed_at in range(0, 25, 4)
    assert result_bytes(result.folder) == undisturbed


@pytest.mark.parametrize(
    "changes",
    [
        {"overlap": 0.7},
        {"heatmap_mpp": 40.0},
        {"target_layer": "layer3"},
        {"ngff": "0.5"},
        {"top_patches": 4},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_whatever_the_settings_a_slide_goes_on(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, changes: dict[str, object]
) -> None:
    own = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    classifier = explainer.classifier
    looker = PatchExplainer(classifier, own.target_layer, batch_size=4)
    whole = explain_slide(slide, tmp_path / "whole", looker, own)
    stopped(slide, tmp_path / "stopped", looker, 5, own)
    result = explain_slide(slide, tmp_path / "stopped", looker, own)
    assert result.resumed_at == 20
    assert result_bytes(result.folder) == result_bytes(whole.folder)


def test_with_other_settings_it_begins_anew(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, undisturbed: dict[str, bytes]
) -> None:
    stopped(slide, tmp_path, explainer, 5, replace(SETTINGS, overlap=0.7))
    result = explain_slide(slide, tmp_path, explainer, SETTINGS)
    assert result.resumed_at == 0
    assert result_bytes(result.folder) == undisturbed


def test_another_batch_size_moves_the_last_bits_so_it_begins_anew(
    tmp_path: Path, slide: Path, explainer: PatchExplainer
) -> None:
    stopped(slide, tmp_path, explainer, 5)
    other = PatchExplainer(explainer.classifier, batch_size=5)
    assert explain_slide(slide, tmp_path, other, replace(SETTINGS, batch_size=5)).resumed_at == 0


def test_formats_may_be_chosen_otherwise_when_it_goes_on(
    tmp_path: Path, slide: Path, explainer: PatchExplainer
) -> None:
    stopped(slide, tmp_path, explainer, 5)
    result = explain_slide(slide, tmp_path, explainer, replace(SETTINGS, export=("csv", "qupath")))
    assert result.resumed_at == 20
    assert (result.folder / "qupath" / "patches.geojson").is_file()


def test_a_slide_that_is_another_file_now_begins_anew(
    tmp_path: Path, slide: Path, explainer: PatchExplainer
) -> None:
    copy = tmp_path / "case.svs"
    copy.write_bytes(slide.read_bytes())
    stopped(copy, tmp_path / "out", explainer, 5)
    with copy.open("ab") as file:
        file.write(b"one more byte")
    assert explain_slide(copy, tmp_path / "out", explainer, SETTINGS).resumed_at == 0


def test_what_was_begun_goes_when_the_slide_cannot_be_opened_any_more(
    tmp_path: Path, slide: Path, explainer: PatchExplainer
) -> None:
    copy = tmp_path / "case.svs"
    copy.write_bytes(slide.read_bytes())
    stopped(copy, tmp_path / "out", explainer, 5)
    copy.write_bytes(b"no slide any more")
    with pytest.raises(SlideError):
        explain_slide(copy, tmp_path / "out", explainer, SETTINGS)
    assert everything_below(tmp_path / "out") == ["slides"]


def test_ctrl_c_keeps_what_was_seen(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, undisturbed: dict[str, bytes]
) -> None:
    def press(done: int, planned: int) -> None:
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_slide(slide, tmp_path, explainer, SETTINGS, progress=press)
    result = explain_slide(slide, tmp_path, explainer, SETTINGS)
    assert result.resumed_at == 16
    assert result_bytes(result.folder) == undisturbed


def test_an_older_result_stays_until_the_new_one_is_whole(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, undisturbed: dict[str, bytes]
) -> None:
    other = replace(SETTINGS, top_patches=0)
    old = result_bytes(explain_slide(slide, tmp_path, explainer, other).folder)
    stopped(slide, tmp_path, explainer, 5)
    assert result_bytes(tmp_path / "slides" / "case") == old
    result = explain_slide(slide, tmp_path, explainer, SETTINGS)
    assert result.resumed_at == 20
    assert result_bytes(result.folder) == undisturbed


def test_a_model_that_gives_no_numbers_leaves_nothing_behind(tmp_path: Path, slide: Path) -> None:
    network = colour_network(card=CARD)
    network.fc.bias.data[0] = float("nan")  # type: ignore[union-attr, operator]
    with pytest.raises(ModelError):
        explain_slide(slide, tmp_path, Classifier(network, CARD, "cpu"), SETTINGS)
    assert everything_below(tmp_path) == ["slides"]


def damaged_at(places: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """These places of the plan cannot be read, nor can their blocks."""
    read = PatchReader.read

    def read_or_fail(self: PatchReader, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        if found := places & set(indices.tolist()):
            raise SlideError(f"case.svs: tile {min(found)} is damaged")
        return read(self, indices)

    monkeypatch.setattr(PatchReader, "read", read_or_fail)


def test_what_could_not_be_read_is_remembered_with_its_reasons(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks hold 7 x 7 patches at most, so all thirty are in one; its reason comes with the first batch.
    damaged_at({3, 17}, monkeypatch)
    whole = explain_slide(slide, tmp_path / "whole", explainer, SETTINGS)
    assert whole.n_unread == 2
    stopped(slide, tmp_path / "stopped", explainer, 3)
    result = explain_slide(slide, tmp_path / "stopped", explainer, SETTINGS)
    assert (result.n_unread, result.resumed_at) == (2, 12)
    assert result_bytes(result.folder) == result_bytes(whole.folder)
    record = json.loads((result.folder / "slide.json").read_text())
    assert record["patches"]["unread_reasons"] == ["case.svs: tile 3 is damaged"]


def test_more_unreadable_patches_than_allowed_fail_the_slide(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged_at({3, 8, 17, 21}, monkeypatch)
    message = r"case\.svs: 4 of 30 patches cannot be read \(.*tile 3 is damaged\).*above --max-unread 0\.1; "
    with pytest.raises(SlideError, match=message):
        explain_slide(slide, tmp_path, explainer, SETTINGS)
    assert everything_below(tmp_path) == ["slides"]
    # A share that is met exactly is allowed.
    allowed = explain_slide(slide, tmp_path, explainer, replace(SETTINGS, max_unread=4 / 30))
    assert allowed.n_unread == 4


def test_a_slide_of_which_nothing_can_be_read_fails_whatever_is_allowed(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged_at(set(range(30)), monkeypatch)
    with pytest.raises(SlideError, match="no patch can be read"):
        explain_slide(slide, tmp_path, explainer, replace(SETTINGS, max_unread=1.0))


def test_a_write_that_fails_is_one_line_and_the_slide_goes_on_later(
    tmp_path: Path,
    slide: Path,
    explainer: PatchExplainer,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, calls = Path.write_bytes, []

    def full(path: Path, content: bytes) -> int:
        if ".ome.zarr" in str(path):
            calls.append(path)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device") as raised:
        explain_slide(slide, tmp_path, explainer, SETTINGS)
    assert "\n" not in str(raised.value)
    assert calls
    monkeypatch.undo()
    result = explain_slide(slide, tmp_path, explainer, SETTINGS)
    # The heatmap is so small that its first chunk was written when all had been seen.
    assert result.resumed_at == 30
    assert result_bytes(result.folder) == undisturbed


def test_a_record_that_is_there_before_its_folder_has_its_name_is_not_lost(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def killed(*args: object) -> None:
        raise SystemExit

    monkeypatch.setattr(RunFolder, "_give_name", killed)
    with pytest.raises(SystemExit):
        explain_slide(slide, tmp_path, explainer, SETTINGS)
    monkeypatch.undo()
    folder = RunFolder(tmp_path)
    assert not folder.is_done("case")
    folder.settle("case")
    assert result_bytes(folder.slide("case").path) == undisturbed


def test_the_next_slide_is_read_while_this_one_is_looked_at(
    tmp_path: Path, slide: Path, explainer: PatchExplainer, undisturbed: dict[str, bytes]
) -> None:
    first = pipeline.prepare_slide(slide, tmp_path, explainer, SETTINGS, sample_id="first")
    second = pipeline.prepare_slide(slide, tmp_path, explainer, SETTINGS, sample_id="second")
    assert (first.sample_id, first.n_patches) == ("first", 30)
    results: list[SlideResult] = [pipeline.explain_prepared(prepared) for prepared in (first, second)]
    assert [result.sample_id for result in results] == ["first", "second"]
    tables = [(result.folder / "patches.csv").read_bytes() for result in results]
    assert tables == [undisturbed["patches.csv"]] * 2
    assert all(result.waited_for_reading >= 0 and result.reading_waited >= 0 for result in results)


def test_a_prepared_slide_that_is_not_wanted_leaves_nothing(
    tmp_path: Path, slide: Path, explainer: PatchExplainer
) -> None:
    with pipeline.prepare_slide(slide, tmp_path, explainer, SETTINGS) as prepared:
        assert prepared.n_patches == 30
    prepared.close()
    assert everything_below(tmp_path) == ["slides"]


def test_each_format_that_is_written_is_a_sign_of_life(
    tmp_path: Path, slide: Path, explainer: PatchExplainer
) -> None:
    def signs(*formats: str) -> list[int]:
        heard: list[int] = []
        own = replace(SETTINGS, export=("csv", *formats))
        explain_slide(
            slide, tmp_path / str(len(formats)), explainer, own, progress=lambda done, _: heard.append(done)
        )
        return heard

    few, more = signs(), signs("qupath", "png")
    assert few[:9] == [0, 4, 8, 12, 16, 20, 24, 28, 30]
    assert set(few[9:]) == {30}, "the table, the pictures"
    assert len(more) == len(few) + 2
