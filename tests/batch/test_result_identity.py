"""What a result was made of is recognised again, and how it differs is said in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wsi_cam import RunSettings
from wsi_cam.errors import SettingsError
from wsi_cam.result_identity import ModelFacts, differences, result_identity

SLIDE = {"size": 12, "sha256": "ab", "files": 1}
MODEL = ModelFacts(
    bundle_hash="cd",
    class_names=("normal", "tumour"),
    target_class="tumour",
    default_overlap=0.25,
    patch_px=96,
    cell_px=32,
    batch_size=16,
    device="cpu",
    device_name="cpu",
    threads=2,
    torch="2.14",
)


def identity(settings: RunSettings | None = None, model: ModelFacts = MODEL, **slide: Any) -> dict[str, Any]:
    return result_identity({**SLIDE, **slide}, model, settings or RunSettings())


def test_an_identity_is_json_and_comes_back_equal() -> None:
    again = json.loads(json.dumps(identity()))
    assert again == identity()
    assert differences(again, identity()) == []


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (identity(sha256="other"), ["slide file changed"]),
        (identity(model=replace(MODEL, bundle_hash="other")), ["model changed"]),
        (identity(RunSettings(overlap=0.5)), ["overlap 0.25 -> 0.5"]),
        (identity(RunSettings(mpp=0.5, reader="tiff")), ["mpp default -> 0.5", "reader auto -> tiff"]),
        (identity(RunSettings(target_class="normal")), ["target_class tumour -> normal"]),
    ],
)
def test_what_differs_is_said(now: dict[str, Any], said: list[str]) -> None:
    assert differences(identity(), now) == said


@pytest.mark.parametrize(
    "settings",
    [
        RunSettings(overlap=0.25, target_class="tumour"),
        RunSettings(num_workers=3, max_unread=0.5, device="cuda:1", model=Path("elsewhere")),
        RunSettings(export=("csv",)),
    ],
)
def test_asking_for_the_default_or_for_what_has_no_effect_is_no_difference(settings: RunSettings) -> None:
    assert differences(identity(), identity(settings)) == []


def test_another_machine_makes_no_result_stale_but_no_journal_may_go_on_there() -> None:
    elsewhere = identity(model=replace(MODEL, device="cuda", device_name="cuda (H100)", threads=64))
    assert differences(identity(), elsewhere) == []
    assert elsewhere["hash"] == identity()["hash"]
    assert elsewhere != identity()


def test_regions_count_by_what_they_say_and_not_by_where_they_lie(tmp_path: Path) -> None:
    one, two = tmp_path / "one.geojson", tmp_path / "two.geojson"
    one.write_text("[]")
    two.write_text("[]")
    first = identity(RunSettings(tissue=one))
    assert differences(first, identity(RunSettings(tissue=two))) == []
    two.write_text("[1]")
    assert differences(first, identity(RunSettings(tissue=two))) == ["regions of tissue changed"]
    with pytest.raises(SettingsError, match=r"gone\.geojson"):
        identity(RunSettings(tissue=tmp_path / "gone.geojson"))


@pytest.mark.parametrize("recorded", [None, "text", [], {}, {"settings": 3, "hash": 1}])
def test_what_is_no_identity_is_a_difference(recorded: object) -> None:
    assert differences(recorded, identity()) == ["made by a version that recorded no identity"]


def test_a_record_that_was_edited_by_hand_is_a_difference() -> None:
    assert differences({**identity(), "hash": "00"}, identity()) == ["its record does not agree with itself"]
    older = {**identity(), "version": 0, "hash": "00"}
    assert "result version 0 -> 1" in differences(older, identity())[0]
