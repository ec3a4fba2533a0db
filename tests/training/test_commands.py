"""From pictures to a bundle and back: train, evaluate and import-model, as commands."""

from __future__ import annotations

import argparse
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.make_patches import write_class_folders, write_csv
from wsi_cam.cam.explain import Explainer
from wsi_cam.classifiers import resnet50
from wsi_cam.classifiers.bundle import Classifier, load_classifier
from wsi_cam.classifiers.resnet50 import StrideIn, build_resnet50
from wsi_cam.cli import evaluate, import_model, train
from wsi_cam.errors import DataError, ModelError, OutputError, SettingsError
from wsi_cam.training.calibration import fit_temperature
from wsi_cam.training.card import describe_split
from wsi_cam.training.evaluating import choose_part
from wsi_cam.training.initial import initial_network
from wsi_cam.training.patches import read_patch_set
from wsi_cam.training.pixels import PatchPixels
from wsi_cam.training.splits import make_split


def command(module: ModuleType, *words: object) -> int:
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())
    name = module.__name__.rsplit(".", 1)[-1].replace("_", "-")
    args = parser.parse_args([name, *map(str, words)])
    status: int = args.run(args)
    return status


#: Two steps of the head and one of all layers: enough to pass through everything.
QUICK: Sequence[object] = (
    "--size-px", 32, "--mpp", 1.0, "--batch-size", 8, "--epochs-head", 1, "--epochs", 0.5, "--init", "random",
    "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _narrow_networks() -> Iterator[None]:
    """ResNet-50 with few channels inside its blocks: all keys and layers, an eighth of the time."""

    def narrow_stage(n_in: int, width: int, n_blocks: int, stride: int, stride_in: StrideIn) -> nn.Sequential:
        blocks = [make_block(n_in, width, stride, stride_in)]
        blocks += [make_block(4 * width, width, 1, stride_in) for _ in range(n_blocks - 1)]
        return nn.Sequential(*blocks)

    def make_block(n_in: int, width: int, stride: int, stride_in: StrideIn) -> nn.Module:
        block = resnet50.Bottleneck(n_in, width, stride, stride_in)
        strides = [block.conv1.stride, block.conv2.stride]
        block.conv1, block.bn1 = nn.Conv2d(n_in, 8, 1, strides[0], bias=False), nn.BatchNorm2d(8)
        block.conv2, block.bn2 = nn.Conv2d(8, 8, 3, strides[1], padding=1, bias=False), nn.BatchNorm2d(8)
        block.conv3 = nn.Conv2d(8, 4 * width, 1, bias=False)
        return block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet50, "_stage", narrow_stage)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    return (
        write_class_folders(folder / "train", 8),
        write_class_folders(folder / "valid", 10, first_seed=100),
    )


@pytest.fixture(scope="module")
def bundle(pictures: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    facts = folder.with_name("facts.json")
    facts.write_text(json.dumps({"name": "tiny model", "data": "made up", "licences": {"data": "CC0"}}))
    data, valid = pictures
    options = ("--label-region-px", 16, "--card", facts)
    assert command(train, data, "--valid", valid, "-o", folder, *QUICK, *options) == 0
    return folder


def test_training_leaves_a_bundle_that_loads_and_a_card_that_says_how_it_came_to_be(bundle: Path) -> None:
    card = load_classifier(bundle, "cpu").card
    assert (card.name, card.class_names, card.patch_size_px) == ("tiny model", ("normal", "tumour"), 32)
    assert (card.mpp_um, card.label_region_px, card.head_centred) == (1.0, 16, True)
    assert card.extra["data"] == "made up"
    assert card.extra["licences"] == {"data": "CC0"}
    assert card.extra["training"]["recipe"]["batch_size"] == 8
    assert card.extra["training"]["initial_weights"] == {"weights": "random", "stride_in": "conv2"}
    assert card.extra["training"]["device"] == "cpu"
    assert card.extra["split"]["rule"] == "halves"
    for key in ("intended_use", "limits", "versions", "calibration", "evidence"):
        assert card.extra[key]
    notes = bundle.with_name("tiny.training")
    assert {p.name for p in notes.iterdir()} == {"checkpoint.pt", "split.csv", "curves.png", "confusion.png"}
    assert (notes / "split.csv").read_text().splitlines()[1] == "train,normal/patch000.png,normal,"


def test_evaluate_prints_the_numbers_of_the_card(
    bundle: Path, pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(evaluate, bundle, pictures[1], "--json", tmp_path / "m.json", "--device", "cpu") == 0
    said = json.loads((tmp_path / "m.json").read_text())
    card = load_classifier(bundle, "cpu").card.extra["metrics"]
    assert said.pop("measured_on") == "the report part, as in the model card"
    assert said == {name: value for name, value in card.items() if name != "measured_on"}
    printed = capsys.readouterr().out
    assert f"{card['pictures']} pictures (the report part" in printed
    assert f"{card['auroc'][0]:.4f}" in printed


def test_temperature_and_scales_are_measured_on_the_network_as_shipped(
    bundle: Path, pictures: tuple[Path, Path]
) -> None:
    classifier = load_classifier(bundle, "cpu")
    patches = read_patch_set(pictures[1])
    fits = [i for i, digest in enumerate(patches.content_digests()) if digest[0] < "8"]
    pixels = PatchPixels(patches.subset(fits), 32)
    images = pixels.batch(range(len(pixels))).permute(0, 2, 3, 1).contiguous()
    logits, evidence = Explainer(classifier.network)(classifier.normalise(images))
    labels = torch.from_numpy(pixels.patches.labels)
    for label, scale in enumerate(classifier.card.evidence_scale or ()):
        cells = evidence[labels == label, label].numpy()
        positive = cells[cells > 0]
        assert scale == pytest.approx(np.percentile(positive, 99.5) if len(positive) else 1.0, rel=1e-4)
    assert classifier.card.temperature == pytest.approx(
        fit_temperature(logits.numpy(), pixels.patches.labels), rel=1e-4
    )


def test_a_finished_checkpoint_goes_straight_on_to_the_bundle(
    bundle: Path, pictures: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A checkpoint of the oldest kind, with nothing in it but what training itself needs.
    whole = torch.load(bundle.with_name("tiny.training") / "checkpoint.pt", weights_only=True)
    kept = ("network", "optimizer", "schedule", "average", "step", "losses")
    torch.save({name: whole[name] for name in kept}, tmp_path / "old.pt")
    monkeypatch.setattr("wsi_cam.training.fit._Work.take_step", None)
    data, valid = pictures
    words = (data, "--valid", valid, "-o", tmp_path / "again", *QUICK)
    assert command(train, *words, "--resume", "--checkpoint", tmp_path / "old.pt", "-q") == 0
    first, again = load_classifier(bundle, "cpu"), load_classifier(tmp_path / "again", "cpu")
    for (name, one), other in zip(
        first.network.state_dict().items(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert first.card.temperature == again.card.temperature
    assert first.card.evidence_scale == again.card.evidence_scale
    assert first.card.extra["metrics"] == again.card.extra["metrics"]


def test_the_report_part_is_found_again_without_the_copies_that_were_left_out(tmp_path: Path) -> None:
    valid = write_class_folders(tmp_path / "valid", 12)
    train_folder = write_class_folders(tmp_path / "train", 4, first_seed=300)
    for i in range(4):
        shutil.copy(valid / "tumour" / f"patch{i:03}.png", train_folder / "tumour")
    split = make_split(read_patch_set(train_folder), read_patch_set(valid))
    found, words = choose_part(read_patch_set(valid), describe_split(split, 0, (0.7, 0.15, 0.15)), "auto")
    assert words == "the report part, as in the model card"
    assert found.names == split.report.names


def test_other_data_are_measured_whole_and_parts_of_them_refused(
    bundle: Path, pictures: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command(evaluate, bundle, pictures[0], "--device", "cpu")
    assert "16 pictures (all pictures; they are not those of the model card)" in capsys.readouterr().out
    with pytest.raises(DataError, match="does not hold the report part of this bundle"):
        command(evaluate, bundle, pictures[0], "--part", "report", "--device", "cpu")
    command(evaluate, bundle, pictures[1], "--part", "all", "--device", "cpu")
    assert "20 pictures (all pictures)" in capsys.readouterr().out


def test_evaluate_refuses_a_label_that_the_bundle_does_not_know(bundle: Path, tmp_path: Path) -> None:
    write_class_folders(tmp_path, 1, classes=("normal", "stroma"))
    with pytest.raises(DataError, match="labelled 'stroma'"):
        command(evaluate, bundle, tmp_path, "--device", "cpu")


def test_a_bundle_is_not_overwritten_by_accident(bundle: Path, pictures: tuple[Path, Path]) -> None:
    with pytest.raises(OutputError, match="exists already"):
        command(train, pictures[0], "-o", bundle, *QUICK)


def test_a_card_file_cannot_claim_what_is_measured(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text('{"metrics": {"auroc": 1.0}}')
    with pytest.raises(SettingsError, match="'metrics' is measured"):
        command(train, pictures[0], "-o", tmp_path / "b", *QUICK, "--card", tmp_path / "facts.json")


def test_shares_must_leave_something_to_train_on(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="leave something to train on"):
        command(train, pictures[0], "-o", tmp_path / "b", *QUICK, "--fit-share", 0.6, "--report-share", 0.4)


class TestInitialWeights:
    def test_a_file_gives_the_trunk_and_its_stride(self, tmp_path: Path) -> None:
        theirs = build_resnet50(5, "conv1")
        torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
        ours = initial_network(str(tmp_path / "theirs.pth"), ("a", "b"), seed=4, stride_in="conv1")
        assert ours.stride_in == "conv1"
        assert torch.equal(ours.network.get_submodule("layer3.0.conv1").weight, theirs.layer3[0].conv1.weight)  # type: ignore[arg-type,union-attr,index]
        torch.manual_seed(4)
        assert torch.equal(ours.network.get_submodule("fc").weight, build_resnet50(2, "conv1").fc.weight)  # type: ignore[arg-type,union-attr]

    def test_a_file_that_does_not_say_its_stride_is_taken_for_torchvisions_with_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        torch.save(build_resnet50(2).state_dict(), tmp_path / "theirs.pth")
        assert initial_network(str(tmp_path / "theirs.pth"), ("a", "b"), seed=0).stride_in == "conv2"
        assert "does not say its stride variant" in caplog.text

    def test_a_bundle_gives_its_head_to_the_same_classes_only(self, bundle: Path) -> None:
        head = load_classifier(bundle, "cpu").network.get_submodule("fc").weight
        same = initial_network(str(bundle), ("normal", "tumour"), seed=0).network.get_submodule("fc").weight
        turned = initial_network(str(bundle), ("tumour", "normal"), seed=0).network.get_submodule("fc").weight
        assert torch.equal(head, same)  # type: ignore[arg-type]
        assert not torch.equal(head, turned)  # type: ignore[arg-type]

    def test_imagenet_weights_that_cannot_be_downloaded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_network(*args: object, **options: object) -> None:
            raise OSError("no route to host")

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
        with pytest.raises(ModelError, match=r"cannot be downloaded \(no route to host\); give --init FILE"):
            initial_network("imagenet", ("a", "b"), seed=0)

    def test_a_file_that_is_not_there(self) -> None:
        with pytest.raises(ModelError, match=r"gone\.pth: no such weight file"):
            initial_network("gone.pth", ("a", "b"), seed=0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Lightning checkpoint of a one-logit network, as others save it."""
    state = {f"model.{name}": value for name, value in build_resnet50(1).state_dict().items()}
    file = tmp_path_factory.mktemp("theirs") / "last.ckpt"
    torch.save({"state_dict": state, "epoch": 7, "pytorch-lightning_version": "2.4.0"}, file)
    return file


def importing(file: Path, bundle: Path, names: str, size_px: int) -> tuple[object, ...]:
    return (file, "-o", bundle, "--class-names", names, "--size-px", size_px, "--mpp", 0.5)


class TestImporting:
    def test_a_sigmoid_head_becomes_two_classes_with_the_same_probabilities(
        self, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = importing(weights, tmp_path / "b", "normal,tumour", 64)
        assert command(import_model, *words) == 0
        assert "nothing measured" in capsys.readouterr().out
        ours = load_classifier(tmp_path / "b", "cpu")
        theirs = build_resnet50(1)
        theirs.load_state_dict(
            {k.removeprefix("model."): v for k, v in torch.load(weights)["state_dict"].items()}
        )
        images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
        with torch.inference_mode():
            expected = torch.sigmoid(theirs.eval()(ours.normalise(images)))[:, 0]
        np.testing.assert_allclose(ours.predict(images)[:, 1], expected, atol=2e-3)  # float16 convolutions

    def test_labelled_pictures_calibrate_an_imported_model(
        self, weights: Path, pictures: tuple[Path, Path], tmp_path: Path
    ) -> None:
        words = importing(weights, tmp_path / "b", "normal,tumour", 32)
        assert command(import_model, *words, "--fit-on", pictures[1], "--device", "cpu") == 0
        classifier = load_classifier(tmp_path / "b", "cpu")
        assert classifier.card.evidence_scale is not None
        card = classifier.card.extra
        assert card["split"]["parts"]["train"]["pictures"] == 0
        assert card["metrics"]["pictures"] == card["split"]["parts"]["report"]["pictures"]

    def test_torchscript_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
            archive.writestr("m/constants.pkl", b"")
            archive.writestr("m/code/__torch__.py", b"")
        words = importing(tmp_path / "m.pt", tmp_path / "b", "a,b", 32)
        with pytest.raises(ModelError, match="TorchScript"):
            command(import_model, *words)
        assert not (tmp_path / "b").exists()


def test_groups_decide_what_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_class_folders(tmp_path / "p", 8)
    rows = [f"{c}/patch{i:03}.png,case{i // 2}" for c in ("normal", "tumour") for i in range(8)]
    groups = write_csv(tmp_path / "groups.csv", "path,group", *rows)
    assert command(train, data, "--groups", groups, "-o", tmp_path / "b", *QUICK, "--epochs", 0) == 0
    parts = load_classifier(tmp_path / "b", "cpu").card.extra["split"]["parts"]
    assert sum(part["groups"] for part in parts.values()) == 4
    capsys.readouterr()
    command(evaluate, tmp_path / "b", data, "--groups", groups, "--device", "cpu")
    assert "the report part, as in the model card" in capsys.readouterr().out


def test_the_classifier_measured_is_the_one_that_is_written(bundle: Path) -> None:
    """Saving a bundle that was loaded changes nothing, so what was measured holds for the files."""
    classifier = load_classifier(bundle, "cpu")
    again = Classifier(classifier.network, classifier.card, "cpu")
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(again.predict(images), load_classifier(bundle, "cpu").predict(images))
