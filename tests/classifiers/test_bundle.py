from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.make_models import colour_network, model_card, random_resnet50, write_bundle
from wsi_cam.classifiers import bundle as bundle_module
from wsi_cam.classifiers.bundle import Classifier, load_classifier, save_bundle
from wsi_cam.errors import ModelError, OutputError


def patches(n: int = 3, size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


@pytest.fixture
def folder(bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(bundle, tmp_path / "model"))


def edit_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | changes))


# There and back


def test_a_bundle_gives_back_the_classifier_that_was_saved(network: nn.Module, bundle: Path) -> None:
    loaded = load_classifier(bundle, device="cpu")
    expected = Classifier(network, model_card(), device="cpu").predict(patches())
    # Half-precision convolutions are the difference.
    np.testing.assert_allclose(loaded.predict(patches()), expected, atol=0.01)
    assert loaded.card == replace(model_card(), head_centred=True)
    assert all(p.dtype == torch.float32 for p in loaded.network.parameters())
    assert not loaded.network.training


def test_on_disk_convolutions_are_half_and_everything_else_is_single(bundle: Path) -> None:
    for key, tensor in load_file(bundle / "weights.safetensors").items():
        is_convolution = tensor.ndim == 4
        assert tensor.dtype == (
            torch.float16 if is_convolution else torch.int64 if "batches" in key else torch.float32
        )
    assert sum(f.stat().st_size for f in bundle.iterdir()) < 50e6


def test_the_head_is_centred_on_the_way_and_the_given_network_is_not_touched(
    network: nn.Module, bundle: Path
) -> None:
    saved = load_file(bundle / "weights.safetensors")
    assert float(saved["fc.weight"].sum(dim=0).abs().max()) < 1e-6
    assert float(saved["fc.bias"].sum().abs()) < 1e-6
    head = network.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    assert float(head.weight.detach().sum(dim=0).abs().max()) > 1e-3
    assert json.loads((bundle / "model.json").read_text())["head_centred"] is True


def test_saving_and_loading_again_changes_nothing_and_writes_the_same_bytes(
    bundle: Path, tmp_path: Path
) -> None:
    loaded = load_classifier(bundle, device="cpu")
    save_bundle(tmp_path / "again", loaded.network, loaded.card)
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes()
    assert load_classifier(tmp_path / "again", device="cpu").bundle_hash == loaded.bundle_hash


def test_the_identity_follows_weights_and_card_and_not_the_layout_of_the_json(folder: Path) -> None:
    before = load_classifier(folder, device="cpu").bundle_hash
    edit_card(folder)
    assert load_classifier(folder, device="cpu").bundle_hash == before
    edit_card(folder, temperature=1.5)
    assert load_classifier(folder, device="cpu").bundle_hash != before


def test_the_stride_variant_of_the_card_is_the_one_that_is_built(tmp_path: Path) -> None:
    card = model_card(architecture_variant="stride_in_conv1")
    loaded = load_classifier(write_bundle(tmp_path / "model", card), device="cpu")
    conv1 = loaded.network.get_submodule("layer3.0.conv1")
    assert isinstance(conv1, nn.Conv2d)
    assert conv1.stride == (2, 2)


def test_a_weight_beyond_half_precision_stays_single(tmp_path: Path) -> None:
    network = random_resnet50(seed=3)
    conv = network.get_submodule("layer1.0.conv1")
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.weight[0, 0] = 1e5
    loaded = load_classifier(write_bundle(tmp_path / "model", network=network), device="cpu")
    weight = loaded.network.get_submodule("layer1.0.conv1").weight
    assert isinstance(weight, torch.Tensor)
    assert torch.equal(weight, conv.weight)


# WSInfer's folders


def test_a_wsinfer_folder_with_a_state_dict_is_loaded_and_its_head_centred(
    network: nn.Module, tmp_path: Path
) -> None:
    config = {
        "spec_version": "1.0",
        "architecture": "resnet50.tv_in1k",
        "num_classes": 2,
        "class_names": ["notumor", "tumor"],
        "patch_size_pixels": 128,
        "spacing_um_px": 0.25,
        "transform": [
            {"name": "Resize", "arguments": {"size": 64}},
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
        ],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    loaded = load_classifier(tmp_path, device="cpu")
    assert (loaded.card.patch_size_px, loaded.card.mpp_um) == (64, 0.5)
    assert loaded.card.head_centred
    head = loaded.network.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    assert float(head.weight.detach().sum(dim=0).abs().max()) < 1e-6
    expected = Classifier(network, model_card(), device="cpu").predict(patches())
    np.testing.assert_allclose(loaded.predict(patches()), expected, atol=1e-5)


# The bundled model


def test_without_a_path_the_bundled_model_is_loaded(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "_PRETRAINED", bundle.parent)
    assert load_classifier(device="cpu").card.name == "test model"


def test_an_installation_without_a_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "_PRETRAINED", tmp_path)
    with pytest.raises(ModelError, match="carries no model; name a bundle with --model"):
        load_classifier(device="cpu")


# What does not fit


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_classifier(path, device="cpu")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert ";" in message or ": it must be" in message  # what to do
    return message


def test_a_path_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nothing")
    assert "holds neither model.json nor" in refused(tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"x")
    assert "a file, where the folder of a bundle is wanted" in refused(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "'patch_size_pixels' is missing"),
    ],
)
def test_a_damaged_card_is_refused(folder: Path, text: bytes, reason: str) -> None:
    (folder / "model.json").write_bytes(text)
    assert reason in refused(folder)


def test_missing_or_doubled_weights_are_refused(folder: Path) -> None:
    (folder / "weights.safetensors").rename(folder / "a.safetensors")
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    assert "several weight files (a.safetensors, b.safetensors)" in refused(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    assert "no weight file in it; put weights.safetensors beside the card" in refused(folder)


def test_a_card_of_more_classes_than_the_head_has_is_refused(folder: Path) -> None:
    edit_card(folder, num_classes=3, class_names=["a", "b", "c"], target_class="c")
    assert "fc has 2 outputs but 3 classes are named" in refused(folder)


def test_weights_cut_short_are_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "not a safetensors file" in refused(folder)


def test_weights_of_another_card_are_refused(folder: Path, network: nn.Module) -> None:
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "weights.safetensors")
    assert "the card says head_centred, the head is not" in refused(folder)


def test_another_architecture_is_refused(folder: Path) -> None:
    edit_card(folder, architecture="resnet34")
    assert "architecture is 'resnet34'; only resnet50 is supported" in refused(folder)


def test_only_a_resnet50_that_fits_its_card_can_be_saved(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a ResNet-50"):
        save_bundle(tmp_path / "model", colour_network(), model_card())
    with pytest.raises(ModelError, match="no layer named fc"):
        save_bundle(tmp_path / "model", nn.Identity(), model_card())
    with pytest.raises(ModelError, match="fc has 2 outputs but 3 classes"):
        save_bundle(tmp_path / "model", network, model_card(class_names=("a", "b", "c")))
    with pytest.raises(ModelError, match="only resnet50"):
        save_bundle(tmp_path / "model", network, model_card(architecture="resnet18"))
    assert not any(tmp_path.iterdir())


# Complete or not there


def test_an_existing_folder_is_kept_unless_it_is_to_be_replaced(network: nn.Module, folder: Path) -> None:
    before = (folder / "model.json").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        save_bundle(folder, network, model_card(name="new"))
    assert (folder / "model.json").read_bytes() == before
    save_bundle(folder, network, model_card(name="new"), replace_existing=True)
    assert load_classifier(folder, device="cpu").card.name == "new"
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_nothing_behind(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        save_bundle(tmp_path / "file" / "model", network, model_card())

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_module, "save_file", full_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        save_bundle(tmp_path / "model", network, model_card())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_loading_leaves_the_compiler_of_torch_alone(bundle: Path) -> None:
    """Its import takes two seconds, which every command would wait for."""
    program = "import sys, wsi_cam; wsi_cam.load_classifier(sys.argv[1], 'cpu'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(bundle)], capture_output=True, text=True, check=True
    )
    assert "torch._dynamo" not in done.stdout.split()
