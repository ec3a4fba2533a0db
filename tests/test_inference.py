from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from tests.make_models import MARKER_RGB, colour_network, model_card, random_resnet50
from wsi_cam.cam.explain import Explainer
from wsi_cam.classifiers.classifier import Classifier
from wsi_cam.errors import ModelError
from wsi_cam.inference import PatchExplainer, default_batch_size, mixed_precision_dtype


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Pictures here are so small that threads would spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(
        random_resnet50(3), model_card(class_names=("a", "b", "c"), temperature=1.5), device="cpu"
    )


def patches(n: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


def test_a_batch_comes_back_as_probabilities_logits_and_evidence(classifier: Classifier) -> None:
    explainer = PatchExplainer(classifier, batch_size=4)
    batch = explainer.explain(patches(4))
    assert explainer.closed_form
    assert (explainer.cell_px, explainer.map_cells) == (32, 2)
    assert (batch.probabilities.shape, batch.logits.shape, batch.evidence.shape) == (
        (4, 3),
        (4, 3),
        (4, 3, 2, 2),
    )
    assert {a.dtype for a in (batch.probabilities, batch.logits, batch.evidence)} == {np.dtype(np.float32)}
    logits, evidence = (t.numpy() for t in Explainer(classifier.network)(classifier.normalise(patches(4))))
    np.testing.assert_allclose(batch.logits, logits, atol=1e-5 * np.abs(logits).max())
    np.testing.assert_allclose(batch.evidence, evidence, atol=1e-5 * np.abs(evidence).max())
    np.testing.assert_allclose(batch.probabilities, classifier.predict(patches(4)), atol=1e-5)


@pytest.mark.parametrize("target_layer", ["layer4", "layer3"])
def test_a_patch_gets_the_same_bits_whatever_comes_with_it(classifier: Classifier, target_layer: str) -> None:
    explainer = PatchExplainer(classifier, target_layer, batch_size=3)
    together = explainer.explain(patches(3))
    for i in range(3):
        alone = explainer.explain(patches(3)[i : i + 1])
        for name in ("probabilities", "logits", "evidence"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[i])


@pytest.mark.parametrize(
    ("size", "target_layer", "cells"),
    [(96, "layer4", 3), (224, "layer4", 7), (250, "layer4", 8), (96, "layer3", 6)],
)
def test_patches_of_any_size_are_covered_by_whole_cells(size: int, target_layer: str, cells: int) -> None:
    classifier = Classifier(colour_network(), model_card(patch_size_px=size), device="cpu")
    explainer = PatchExplainer(classifier, target_layer, batch_size=2)
    image = np.full((1, size, size, 3), 240, np.uint8)
    image[0, -32:, :32] = MARKER_RGB
    batch = explainer.explain(image)
    assert explainer.map_cells == cells
    assert batch.evidence.shape == (1, 2, cells, cells)
    highest = np.unravel_index(batch.evidence[0, 1].argmax(), (cells, cells))
    assert highest[0] >= cells - 32 // explainer.cell_px
    assert highest[1] < 32 // explainer.cell_px
    # Without a ReLU: white cells say nothing for or against.
    assert batch.evidence[0, 1, 0, -1] == 0


def test_the_batch_size_found_by_itself_suits_the_patch(classifier: Classifier) -> None:
    assert PatchExplainer(classifier).batch_size == default_batch_size(64, torch.device("cpu")) == 32
    assert default_batch_size(224, torch.device("cpu")) == 16
    assert default_batch_size(224, torch.device("cuda")) > 16


def test_several_batches_may_be_under_way_at_once(classifier: Classifier) -> None:
    explainer = PatchExplainer(classifier, batch_size=2)
    images = patches(4)
    pending = [explainer.submit(images[:2]), explainer.submit(images[2:])]
    for start, batch in zip((0, 2), pending, strict=True):
        expected = explainer.explain(images[start : start + 2])
        np.testing.assert_array_equal(batch.result().evidence, expected.evidence)


def test_an_empty_batch_is_an_empty_answer(classifier: Classifier) -> None:
    batch = PatchExplainer(classifier, batch_size=2).explain(patches(0))
    assert batch.probabilities.shape == (0, 3)
    assert batch.evidence.shape == (0, 3, 2, 2)


def test_the_classifiers_network_is_left_as_it_was(classifier: Classifier) -> None:
    before = classifier.bundle_hash
    PatchExplainer(classifier, batch_size=1).explain(patches(1))
    after = Classifier(classifier.network, classifier.card, device="cpu")
    assert after.bundle_hash == before
    assert any(isinstance(m, nn.BatchNorm2d) for m in classifier.network.modules())


def test_batches_that_do_not_fit_are_refused(classifier: Classifier) -> None:
    explainer = PatchExplainer(classifier, batch_size=2)
    with pytest.raises(ModelError, match="3 images at once, but the batch size is 2"):
        explainer.explain(patches(3))
    with pytest.raises(ModelError, match="takes uint8 RGB"):
        explainer.explain(patches(1, size=96))
    with pytest.raises(ModelError, match="batch size 0"):
        PatchExplainer(classifier, batch_size=0)
    with pytest.raises(ModelError, match="no such layer"):
        PatchExplainer(classifier, "layer5")


def test_a_layer_whose_cells_do_not_cover_the_patch_is_refused() -> None:
    valid = nn.Sequential(nn.Conv2d(3, 2, 32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    explainer = PatchExplainer(
        Classifier(valid, model_card(patch_size_px=80), device="cpu"), "0", batch_size=1
    )
    with pytest.raises(ModelError, match=r"its maps are \(2, 2\) cells, where 3 along each side"):
        explainer.explain(patches(1, size=80))


def test_half_precision_is_for_cuda_only() -> None:
    assert mixed_precision_dtype(torch.device("cpu")) is None
    assert mixed_precision_dtype(torch.device("cuda:1")) == torch.float16


def test_a_batch_that_overflows_in_half_precision_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def explained(features_times: float) -> np.ndarray:
        network = colour_network()
        with torch.no_grad():
            for parameter in network.get_submodule("layer1").parameters():
                parameter.mul_(features_times)
            network.get_parameter("fc.weight").div_(features_times)
        return (
            PatchExplainer(Classifier(network, model_card(), device="cpu"), batch_size=2)
            .explain(images)
            .evidence
        )

    images = np.full((2, 64, 64, 3), 240, np.uint8)
    images[0, :40, :40] = MARKER_RGB
    usual, enormous = explained(1.0), explained(1e6)
    monkeypatch.setattr("wsi_cam.inference.mixed_precision_dtype", lambda device: torch.float16)
    np.testing.assert_array_equal(explained(1e6), enormous)
    # And where nothing overflows, half precision it is.
    assert 0 < np.abs(explained(1.0) - usual).max() < 0.01 * np.ptp(usual)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_on_a_gpu_mixed_precision_stays_close_to_single_on_the_cpu(classifier: Classifier) -> None:
    on_gpu = Classifier(random_resnet50(3), classifier.card, device="cuda")
    expected = PatchExplainer(classifier, batch_size=8).explain(patches(8))
    got = PatchExplainer(on_gpu, batch_size=8).explain(patches(8))
    np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=5e-3)
    np.testing.assert_allclose(got.evidence, expected.evidence, atol=0.01 * np.ptp(expected.evidence))


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")),
    ],
)
def test_batches_that_are_sent_ahead_do_not_mix(classifier: Classifier, device: str) -> None:
    explainer = PatchExplainer(Classifier(random_resnet50(3), classifier.card, device), batch_size=4)
    batches = [patches(12)[start : start + 4] for start in (0, 4, 8)]
    alone = [explainer.explain(batch).logits for batch in batches]
    for pending, expected in zip([explainer.submit(batch) for batch in batches], alone, strict=True):
        np.testing.assert_array_equal(pending.result().logits, expected)
