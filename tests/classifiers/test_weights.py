"""Other people's files: read where they hold the tensors of a ResNet-50, refused, unrun, where not."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsi_cam.classifiers.bundle import import_state_dict
from wsi_cam.errors import ModelError

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state(network: nn.Module) -> State:
    return {key: value.contiguous() for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def probabilities(network: nn.Module, picture: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.softmax(network(picture), dim=1)


def lightning(state: State) -> dict[str, Any]:
    inner = {f"model.{key}": value for key, value in state.items()}
    return {"epoch": 3, "state_dict": inner | {"criterion.weight": torch.ones(2)}, "optimizer_states": []}


def with_dropout_head(state: State) -> State:
    return {key.replace("fc.", "fc.1."): value for key, value in state.items()}


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "Lightning": lightning,
    "compiled and wrapped": lambda s: {"model": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
    "dropout in the head": with_dropout_head,
    "float16": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    "without counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_state_dict_is_found_in_whatever_it_is_wrapped(
    network: nn.Module, state: State, picture: torch.Tensor, tmp_path: Path, wrapping: str
) -> None:
    file = tmp_path / "weights.pth"
    torch.save(WRAPPINGS[wrapping](state), file)
    imported, card = import_state_dict(file, ("normal", "tumour"), 96, 0.972)
    tolerance = 2e-2 if wrapping == "float16" else 1e-5
    torch.testing.assert_close(
        probabilities(imported, picture), probabilities(network, picture), atol=tolerance, rtol=0
    )
    assert card.name == "weights"
    assert card.head_centred
    head = imported.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    assert float(head.weight.detach().sum(dim=0).abs().max()) < 1e-6
    assert float(head.bias.detach().sum().abs()) < 1e-6
    assert all(p.dtype == torch.float32 for p in imported.parameters())


def test_safetensors_are_read_and_their_stride_is_believed(
    state: State, picture: torch.Tensor, tmp_path: Path
) -> None:
    said = {"ours": {"architecture_variant": "stride_in_conv1"}, "words": {"stride": "first 1x1 convolution"}}
    for name, metadata in said.items():
        save_file(state, tmp_path / f"{name}.safetensors", metadata)
        _, card = import_state_dict(tmp_path / f"{name}.safetensors", ("a", "b"), 96, 1.0)
        assert card.architecture_variant == "stride_in_conv1"
    save_file(state, tmp_path / "silent.safetensors")
    _, card = import_state_dict(tmp_path / "silent.safetensors", ("a", "b"), 96, 1.0)
    assert card.architecture_variant == "stride_in_conv2"
    _, card = import_state_dict(tmp_path / "ours.safetensors", ("a", "b"), 96, 1.0, stride_in="conv2")
    assert card.architecture_variant == "stride_in_conv2"


def test_the_imagenet_weights_say_which_stride_they_were_trained_with(shared_dir: Path) -> None:
    file = shared_dir / "data" / "weights" / "resnet50_imagenet.safetensors"
    names = tuple(f"class {i}" for i in range(1000))
    network, card = import_state_dict(file, names, 224, 1.0)
    assert card.stride_in == "conv1"
    conv1 = network.get_submodule("layer2.0.conv1")
    assert isinstance(conv1, nn.Conv2d)
    assert conv1.stride == (2, 2)


def test_a_sigmoid_head_becomes_two_classes_with_its_probabilities(
    network: nn.Module, state: State, picture: torch.Tensor, tmp_path: Path
) -> None:
    one = state | {"fc.weight": state["fc.weight"][1:], "fc.bias": state["fc.bias"][1:]}
    torch.save(one, tmp_path / "sigmoid.pth")
    imported, _ = import_state_dict(tmp_path / "sigmoid.pth", ("no", "yes"), 96, 1.0)
    with torch.inference_mode():
        expected = torch.sigmoid(network(picture)[:, 1])
    torch.testing.assert_close(probabilities(imported, picture)[:, 1], expected)


def test_importing_draws_no_random_numbers_and_changes_no_file(state: State, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    before, content = torch.get_rng_state(), file.read_bytes()
    import_state_dict(file, ("a", "b"), 96, 1.0)
    assert torch.equal(torch.get_rng_state(), before)
    assert file.read_bytes() == content


# Programs are not run


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "inside a checkpoint"])
def test_a_malicious_pickle_is_refused_without_being_run(state: State, tmp_path: Path, kind: str) -> None:
    file, sprung = tmp_path / "weights.pth", tmp_path / "sprung"
    trap: Any = Trap(sprung)
    if kind == "pickle":
        file.write_bytes(pickle.dumps({"fc.weight": trap}))
    elif kind == "inside a checkpoint":
        torch.save({"state_dict": {"fc.bias": state["fc.bias"]}, "hyper_parameters": trap}, file)
    else:
        torch.save({"fc.weight": trap}, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ModelError, match=r"was not run; save the plain weights .*state_dict") as refused:
        import_state_dict(file, ("a", "b"), 96, 1.0)
    assert "\n" not in str(refused.value)
    assert not sprung.exists()
    # The trap is a real one.
    with contextlib.suppress(RuntimeError):  # a bare pickle runs before torch finds that it is not torch's
        torch.load(file, weights_only=False)
    assert sprung.exists()


def test_a_torchscript_archive_is_refused_with_what_to_export_instead(tmp_path: Path) -> None:
    file = tmp_path / "torchscript_model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is abandoning TorchScript; its files live on
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), str(file))
    with pytest.raises(ModelError, match=r"TorchScript .*cannot be watched; save the plain weights"):
        import_state_dict(file, ("a", "b"), 96, 1.0)


# What is not the weights of a ResNet-50


def changed(state: State, **changes: torch.Tensor | None) -> State:
    merged = {**state, **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in merged.items() if value is not None}


NOT_A_RESNET50: dict[str, tuple[Callable[[State], Any], str]] = {
    "a tensor missing": (lambda s: changed(s, layer2__1__bn2__bias=None), "'layer2.1.bn2.bias' is missing"),
    "a tensor too many": (lambda s: changed(s, extra=torch.ones(1)), "'extra' is not part of it"),
    "a deeper network": (
        lambda s: s | {k.replace("layer3.5", "layer3.6"): v for k, v in s.items() if "layer3.5" in k},
        "'layer3.6.bn1.bias' is not part of it",
    ),
    "another shape": (
        lambda s: changed(s, conv1__weight=torch.ones(64, 1, 7, 7)),
        r"'conv1.weight' is \(64, 1,",
    ),
    "three outputs": (
        lambda s: changed(s, fc__weight=torch.ones(3, 2048), fc__bias=torch.ones(3)),
        "fc has 3 outputs but 2 classes are named",
    ),
    "not finite": (lambda s: changed(s, fc__bias=torch.tensor([0.0, torch.nan])), "'fc.bias' holds values"),
    "no head": (lambda s: changed(s, fc__weight=None, fc__bias=None), "0 linear layers named fc"),
    "two heads": (
        lambda s: with_dropout_head(s) | {"fc.3.weight": torch.ones(2, 2)},
        "2 linear layers named fc",
    ),
    "two networks": (
        lambda s: {f"a.{k}": v for k, v in s.items()} | {f"b.{k}": v for k, v in s.items()},
        r"several networks \(a., b.\)",
    ),
    "another network": (lambda s: {"features.0.weight": torch.ones(3)}, "holds no ResNet-50"),
    "no tensors": (lambda s: {"epoch": 3}, "holds no state dict"),
    "a list": (lambda s: [1, 2], "holds no state dict"),
}


@pytest.mark.parametrize("fault", NOT_A_RESNET50)
def test_weights_that_do_not_fit_are_refused_with_the_reason(
    state: State, tmp_path: Path, fault: str
) -> None:
    make, reason = NOT_A_RESNET50[fault]
    file = tmp_path / "weights.pth"
    torch.save(make(state), file)
    with pytest.raises(ModelError, match=reason) as refused:
        import_state_dict(file, ("a", "b"), 96, 1.0)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"no weights at all", b"PK\x03\x04 a broken zip", b"\x80\x02}q\x00"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.(pth|safetensors): ") as refused:
        import_state_dict(file, ("a", "b"), 96, 1.0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_cut_short_is_refused(state: State, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"weights{suffix}"
    small = {"fc.weight": state["fc.weight"], "fc.bias": state["fc.bias"]}
    if suffix == ".pth":
        torch.save(small, file)
    else:
        save_file(small, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError):
        import_state_dict(file, ("a", "b"), 96, 1.0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such weight file"):
        import_state_dict(tmp_path / "weights.pth", ("a", "b"), 96, 1.0)
