from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.make_models import MARKER_RGB, colour_network, model_card
from wsi_cam.classifiers.classifier import PREDICT_BATCH_SIZE, Classifier
from wsi_cam.errors import ModelError


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(colour_network(), model_card(), device="cpu")


def patches(n: int, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


def test_the_colour_network_knows_its_colour(classifier: Classifier) -> None:
    images = np.full((3, 64, 64, 3), 240, np.uint8)
    images[1, :32, :32] = MARKER_RGB
    images[2] = MARKER_RGB
    tumour = classifier.predict(images)[:, 1]
    assert tumour[0] < 0.01
    assert tumour[1] == pytest.approx(0.5, abs=0.01)
    assert tumour[2] > 0.99


def test_pixels_are_normalised_as_the_card_says_and_lie_channels_last(classifier: Classifier) -> None:
    images = patches(3)
    got = classifier.normalise(images)
    expected = (images / 255.0 - classifier.card.mean) / classifier.card.std
    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(got.numpy(), expected.transpose(0, 3, 1, 2), atol=2e-6)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 20])
def test_an_image_gets_the_same_bits_whatever_comes_with_it(network: nn.Module, n: int) -> None:
    classifier = Classifier(network, model_card(patch_size_px=32), device="cpu")
    images = patches(20, size=32)
    alone = classifier.predict(images)[:n]
    together = classifier.predict(images[:n])
    assert together.shape == (n, 2)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, alone)
    if n:
        np.testing.assert_array_equal(classifier.predict(images[n - 1 : n]), alone[-1:])


def test_predictions_are_the_calibrated_softmax_of_the_network(network: nn.Module) -> None:
    classifier = Classifier(network, model_card(patch_size_px=32, temperature=2.5), device="cpu")
    images = patches(PREDICT_BATCH_SIZE["cpu"], size=32)
    with torch.inference_mode():
        expected = torch.softmax(network(classifier.normalise(images)) / 2.5, dim=1)
    np.testing.assert_array_equal(classifier.predict(images), expected.numpy())


def test_tensors_read_only_arrays_and_views_are_images_too(classifier: Classifier) -> None:
    images = patches(2)
    expected = classifier.predict(images)
    frozen = images.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(classifier.predict(torch.from_numpy(images)), expected)
    np.testing.assert_array_equal(classifier.predict(frozen), expected)
    np.testing.assert_array_equal(classifier.predict(images[::-1])[::-1], expected)


@pytest.mark.parametrize(
    "images",
    [
        patches(1)[0],
        patches(1).astype(np.float32),
        patches(1)[..., :1],
        patches(1).transpose(0, 3, 1, 2),
        patches(1, size=96),
        torch.zeros(1, 64, 64, 3),
    ],
    ids=["one picture", "float", "grey", "channels first", "another size", "float tensor"],
)
def test_other_pictures_are_refused(classifier: Classifier, images: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"takes uint8 RGB \(n, 64, 64, 3\) at 1 um/px"):
        classifier.predict(images)


def test_networks_made_in_memory_have_an_identity_of_card_and_weights() -> None:
    one = Classifier(colour_network(), model_card(), device="cpu")
    same = Classifier(colour_network(), model_card(), device="cpu")
    other_card = Classifier(colour_network(), model_card(temperature=2.0), device="cpu")
    other_weights = Classifier(colour_network(gain=21.0), model_card(), device="cpu")
    hashes = {c.bundle_hash for c in (one, same, other_card, other_weights)}
    assert one.bundle_hash == same.bundle_hash
    assert len(hashes) == 3
    assert all(len(h) == 64 for h in hashes)


def test_a_network_in_double_precision_and_training_mode_is_brought_into_shape() -> None:
    classifier = Classifier(colour_network().double().train(), model_card(), device="cpu")
    assert not classifier.network.training
    assert classifier.predict(patches(1)).dtype == np.float32
