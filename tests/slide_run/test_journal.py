"""What was written whole comes back to the bit; what was torn, altered or of other work does not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_cam.errors import OutputError
from wsi_cam.geometry import Affine, Level, Level0, Mpp, Size, Thumbnail
from wsi_cam.slide_run.journal import Journal, SeenBatch, plan_digest
from wsi_cam.tiling.patch_plan import PatchPlan, plan_patches
from wsi_cam.tiling.tissue import TissueMask

KEY = {"identity": {"hash": "ab"}, "plan": "cd"}
CLASSES, CELLS = 3, 2


def batches(count: int, size: int = 5, last: int = 2) -> list[SeenBatch]:
    """Batches with all that is hard to keep: NaN, infinities, minus zero, names that cannot be decoded."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(count):
        n = size if number < count - 1 else last
        evidence = generator.standard_normal((n, CLASSES, CELLS, CELLS)).astype(np.float32)
        evidence[0, 0] = -0.0
        probabilities = generator.random((n, CLASSES)).astype(np.float32)
        probabilities[-1], evidence[-1] = np.nan, np.nan
        reasons = ("a\udcff.svs: a tile is \u00e4 damaged", "two") if number == 1 else ()
        found.append(SeenBatch(number * size, probabilities, evidence, reasons))
    return found


def written(path: Path, seen: list[SeenBatch]) -> Path:
    with journal(path) as opened:
        for batch in seen:
            opened.write(batch)
    return path


def journal(path: Path, key: dict[str, object] = KEY) -> Journal:
    return Journal(path, key, CLASSES, CELLS)


def same(one: SeenBatch, other: SeenBatch) -> bool:
    return (
        one.start == other.start
        and one.reasons == other.reasons
        and one.probabilities.tobytes() == other.probabilities.tobytes()
        and one.evidence.tobytes() == other.evidence.tobytes()
        and one.evidence.shape == other.evidence.shape
    )


def test_batches_come_back_to_the_bit(tmp_path: Path) -> None:
    seen = batches(4)
    again = journal(written(tmp_path / "journal", seen))
    assert again.patches == 17
    assert all(map(same, again.replay(), seen))
    assert len(list(again.replay())) == 4


def test_where_there_is_none_nothing_is_recorded(tmp_path: Path) -> None:
    empty = journal(tmp_path / "journal")
    assert empty.patches == 0
    assert list(empty.replay()) == []


@pytest.mark.parametrize(
    "other",
    [
        {**KEY, "plan": "ce"},
        {**KEY, "identity": {"hash": "ab", "computing": {"threads": 2}}},
        {},
    ],
)
def test_the_journal_of_other_work_is_begun_anew(tmp_path: Path, other: dict[str, object]) -> None:
    path = written(tmp_path / "journal", batches(4))
    assert journal(path, other).patches == 0
    with journal(path, other) as anew:
        anew.write(batches(1, last=5)[0])
    assert journal(path, other).patches == 5
    assert journal(path).patches == 0


def test_maps_of_another_shape_are_not_taken(tmp_path: Path) -> None:
    path = written(tmp_path / "journal", batches(4))
    assert Journal(path, KEY, CLASSES, CELLS + 1).patches == 0
    assert Journal(path, KEY, CLASSES - 1, CELLS).patches == 0


@pytest.mark.parametrize("content", [b"", b"wsi_cam", b"\0" * 5000, b"wsi_cam journal 1\n" + b"\xff" * 50])
def test_a_file_that_is_no_journal_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    assert journal(path).patches == 0
    assert journal(written(path, batches(2))).patches == 7


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_cut_anywhere_it_goes_on_from_the_last_whole_batch(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal"
    seen = batches(5)
    ends = [0]
    with journal(path) as opened:
        for batch in seen:
            opened.write(batch)
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole)), label="bytes that are left")
    path.write_bytes(whole[:length])
    left = sum(end <= length for end in ends[1:])
    with journal(path) as cut:
        assert cut.patches == (seen[left - 1].stop if left else 0)
        assert len(list(cut.replay())) == left
        for batch in seen[left:]:
            cut.write(batch)
    assert path.read_bytes() == whole


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_altered_byte_is_replayed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    seen = batches(5)
    path = written(tmp_path_factory.mktemp("altered") / "journal", seen)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1), label="place")
    content[place] ^= data.draw(st.integers(1, 255), label="change")
    path.write_bytes(content)
    altered = journal(path)
    replayed = list(altered.replay())
    assert len(replayed) < 5
    assert all(map(same, replayed, seen))
    with altered:
        for batch in seen[len(replayed) :]:
            altered.write(batch)
    assert journal(path).patches == 22


def test_a_batch_that_does_not_follow_ends_it(tmp_path: Path) -> None:
    one, _, three, four = batches(4)
    assert journal(written(tmp_path / "journal", [one, three, four])).patches == 5


def test_a_journal_that_is_changed_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "journal", batches(4))
    again = journal(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OutputError, match="changed by another program"):
        list(again.replay())


def test_a_disk_that_takes_less_than_it_was_given_gets_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(tmp_path / "whole", batches(3)).read_bytes()

    class Reluctant(io.FileIO):
        def write(self, content: object) -> int:
            return super().write(memoryview(content)[:7])  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering=-1: Reluctant(str(path), mode))
    with journal(tmp_path / "bits") as opened:
        for batch in batches(3):
            opened.write(batch)
    monkeypatch.undo()
    assert (tmp_path / "bits").read_bytes() == whole


def plan(overlap: float = 0.25, side: int = 3000, mpp: float = 0.5) -> PatchPlan:
    everywhere = TissueMask(np.ones((8, 8), np.bool_), Affine[Thumbnail, Level0](side / 8, side / 8), "all")
    level0: Affine[Level, Level0] = Affine(1, 1)
    return plan_patches(everywhere, Size(side, side), Mpp(mpp, mpp), [level0], 128, 1.0, overlap)


def test_the_digest_of_a_plan_knows_every_place() -> None:
    assert plan_digest(plan()) == plan_digest(plan())
    digests = {plan_digest(p) for p in (plan(), plan(overlap=0.5), plan(side=3001), plan(mpp=0.5001))}
    # One more pixel of slide adds no patch, so nothing that was seen has changed.
    assert len(digests) == (3 if len(plan()) == len(plan(side=3001)) else 4)
