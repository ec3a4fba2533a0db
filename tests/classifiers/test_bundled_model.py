"""The model that ships: whole, within its size, honest about itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wsi_cam.classifiers import bundle
from wsi_cam.classifiers.bundle import Classifier, load_classifier
from wsi_cam.training.evaluating import evaluate_bundle

FOLDER = Path(bundle.__file__).parent / "pretrained" / "lymph-node-pcam"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_classifier(device="cpu")


def test_it_is_what_is_loaded_where_nobody_names_a_model(classifier: Classifier) -> None:
    card = classifier.card
    assert card.name == "lymph-node-pcam"
    assert card.class_names == ("normal", "tumour")
    assert (card.patch_size_px, card.mpp_um, card.label_region_px) == (96, 0.972, 32)
    assert card.head_centred
    assert card.evidence_scale is not None


def test_it_is_below_50_mb_and_readable_by_everybody() -> None:
    files = list(FOLDER.iterdir())
    assert sorted(file.name for file in files) == ["model.json", "weights.safetensors"]
    assert sum(file.stat().st_size for file in files) < 50_000_000


def test_its_card_says_what_people_have_to_know() -> None:
    card = json.loads((FOLDER / "model.json").read_text())
    assert "esearch use only" in card["research_use"]
    for key in (
        "data",
        "licences",
        "intended_use",
        "limits",
        "metrics",
        "calibration",
        "training",
        "versions",
    ):
        assert card[key], key


def test_the_cards_numbers_are_those_that_evaluate_gives(shared_dir: Path) -> None:
    measured, part = evaluate_bundle(FOLDER, shared_dir / "data" / "pcam" / "valid.zip")
    said = json.loads((FOLDER / "model.json").read_text())["metrics"]
    assert "report" in part
    # The batches of another processor may move a probability by 1e-6, and a picture over a border.
    found = measured.as_dict()
    assert found["pictures"] == said["pictures"]
    for name in ("accuracy", "auroc", "calibration_error"):
        np.testing.assert_allclose(found[name], said[name], atol=2e-3)
