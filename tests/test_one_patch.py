"""One picture without a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.make_models import MARKER_RGB, colour_network, model_card
from wsi_cam import PatchExplainer, explain_patch
from wsi_cam.classifiers.bundle import Classifier
from wsi_cam.errors import SettingsError, SlideError

CARD = model_card(patch_size_px=128, evidence_scale=(5.0, 5.0))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(colour_network(card=CARD), CARD, "cpu")


def test_the_marked_quarter_lights_up_in_the_grey_panel(classifier: Classifier, tmp_path: Path) -> None:
    image = np.full((128, 128, 3), 240, np.uint8)
    image[:64, 64:] = MARKER_RGB
    explained = explain_patch(image, classifier)
    assert set(explained.probabilities) == {"normal", "tumour"}
    assert sum(explained.probabilities.values()) == pytest.approx(1)
    assert (explained.evidence[1, :2, 2:] > 5).all()
    assert (abs(explained.evidence[1, 2:]) < 0.5).all()
    explained.save(tmp_path / "triptych.png")
    with Image.open(tmp_path / "triptych.png") as picture:
        assert picture.width > 2 * picture.height * 0.8


def test_a_file_of_another_size_is_resized(classifier: Classifier, tmp_path: Path) -> None:
    image = np.full((300, 300, 3), 240, np.uint8)
    image[:150, 150:] = MARKER_RGB
    Image.fromarray(image).save(tmp_path / "patch.png")
    explained = explain_patch(tmp_path / "patch.png", classifier, class_name="tumour")
    assert explained.evidence.shape == (2, 4, 4)
    assert explained.evidence[1, 0, 3] > 5


def test_an_explainer_that_is_there_already_says_the_same(classifier: Classifier) -> None:
    image = np.full((128, 128, 3), MARKER_RGB, np.uint8)
    expected = explain_patch(image, classifier, target_layer="layer3")
    got = explain_patch(image, PatchExplainer(classifier, "layer3", batch_size=1))
    np.testing.assert_array_equal(got.evidence, expected.evidence)
    assert got.evidence.shape == (2, 8, 8)


def test_what_is_no_picture_and_a_class_that_is_not_known_are_said(
    classifier: Classifier, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(SlideError, match=r"notes\.png"):
        explain_patch(tmp_path / "notes.png", classifier)
    with pytest.raises(SettingsError, match="normal, tumour"):
        explain_patch(np.zeros((128, 128, 3), np.uint8), classifier, class_name="lung")


def test_a_file_that_claims_to_be_enormous_is_named(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "patch.pbm"
    path.write_bytes(b"P4\n60000 60000\n")
    with pytest.raises(SlideError, match=r"patch\.pbm: not a picture that can be read"):
        explain_patch(path, classifier)
