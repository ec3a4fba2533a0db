"""A bundle is a folder: ``model.json``, the card, and ``weights.safetensors``.

Convolutions are float16 on disk, everything else float32 (a running variance overflows float16);
in memory all is float32. A bundle is complete or it is not there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from wsi_cam.classifiers.card import IMAGENET_MEAN, IMAGENET_STD, ModelCard, Triple, card_from_dict
from wsi_cam.classifiers.classifier import Classifier
from wsi_cam.classifiers.resnet50 import StrideIn, centre_head
from wsi_cam.classifiers.weights import WEIGHT_SUFFIXES, StateDict, build_from_weights, read_resnet50_weights
from wsi_cam.errors import ModelError, OutputError
from wsi_cam.publishing import published_folder

__all__ = ["Classifier", "ModelCard", "import_state_dict", "load_classifier", "save_bundle"]

CARD_FILE, WEIGHTS_FILE, WSINFER_CARD_FILE = "model.json", "weights.safetensors", "config.json"
_PRETRAINED = Path(__file__).parent / "pretrained"
_FLOAT16_MAX = torch.finfo(torch.float16).max


def load_classifier(path: str | Path | None = None, device: str | torch.device = "auto") -> Classifier:
    """The classifier of a bundle folder, of a WSInfer-zoo folder with a state dict, or the bundled one.

    A head that is not centred yet is centred. Raises ModelError, naming the file, where anything is
    missing, damaged, unsafe to read or does not fit together.
    """
    folder = _bundled_folder() if path is None else Path(path)
    card, weights = _read_card(folder), _weights_file(folder)
    _check_architecture(card, weights)
    state, _ = read_resnet50_weights(weights)
    network = build_from_weights(state, len(card.class_names), card.stride_in, weights)
    network, card = _with_centred_head(network, card, weights)
    digest = hashlib.sha256(card.canonical_json().encode())
    digest.update(weights.read_bytes())
    return Classifier(network, card, device, bundle_hash=digest.hexdigest())


def save_bundle(
    folder: str | Path, network: nn.Module, card: ModelCard, replace_existing: bool = False
) -> None:
    """Writes a ResNet-50 and its card as a bundle that appears complete or not at all.

    The head is centred on the way (the network itself stays as it is). Raises ModelError where network
    and card do not fit, OutputError where the folder exists (unless ``replace_existing``) or
    cannot be written.
    """
    folder = Path(folder)
    _check_architecture(card, folder)
    state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    if "fc.weight" not in state:
        raise ModelError(f"{folder}: the network has no layer named fc; only a ResNet-50 can be saved")
    network = build_from_weights(state, len(card.class_names), card.stride_in, folder)
    network, card = _with_centred_head(network, replace(card, head_centred=False), folder)
    text = json.dumps(json.loads(card.canonical_json()), indent=2, ensure_ascii=False)
    if folder.exists() and not replace_existing:
        raise OutputError(f"{folder}: exists already; choose another folder or remove it first")
    with published_folder(folder, "choose another folder") as partial:
        # One entry only: safetensors does not keep the order of several.
        save_file(
            _for_disk(network), partial / WEIGHTS_FILE, {"architecture_variant": card.architecture_variant}
        )
        (partial / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def import_state_dict(
    file: str | Path,
    class_names: tuple[str, ...],
    size_px: int,
    mpp_um: float,
    name: str | None = None,
    stride_in: StrideIn | None = None,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
) -> tuple[nn.Module, ModelCard]:
    """A ResNet-50 that somebody else trained, its head centred, with a card for ``save_bundle``.

    The names are in the order of the network's outputs; for a sigmoid head with one output they are the
    negative and the positive class. A state dict cannot reveal its stride variant: where neither
    ``stride_in`` nor the file's metadata say it, it is torchvision's. Raises ModelError.
    """
    file = Path(file)
    state, stride_said = read_resnet50_weights(file)
    variant = f"stride_in_{stride_in or stride_said or 'conv2'}"
    card = ModelCard(
        name or file.stem, tuple(class_names), size_px, mpp_um, mean, std, architecture_variant=variant
    )
    network = build_from_weights(state, len(card.class_names), card.stride_in, file)
    return _with_centred_head(network, card, file)


def _bundled_folder() -> Path:
    cards = sorted(_PRETRAINED.glob(f"*/{CARD_FILE}"))
    if not cards:
        raise ModelError(f"{_PRETRAINED}: this installation carries no model; name a bundle with --model")
    return cards[0].parent


def _read_card(folder: Path) -> ModelCard:
    if not folder.is_dir():
        fault = "a file, where the folder of a bundle is wanted" if folder.exists() else "no such folder"
        raise ModelError(f"{folder}: {fault}; a bundle is a folder with {CARD_FILE} and {WEIGHTS_FILE}")
    file = next((folder / name for name in (CARD_FILE, WSINFER_CARD_FILE) if (folder / name).is_file()), None)
    if file is None:
        raise ModelError(
            f"{folder}: holds neither {CARD_FILE} nor WSInfer's {WSINFER_CARD_FILE}; name a bundle"
        )
    try:
        return card_from_dict(
            json.loads(file.read_text(encoding="utf-8")), default_name=folder.resolve().name
        )
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error
    except ValueError as error:  # not UTF-8, not JSON
        raise ModelError(f"{file}: not valid JSON ({error}); copy or export it again") from error


def _weights_file(folder: Path) -> Path:
    for suffix in WEIGHT_SUFFIXES:
        files = sorted(folder.glob(f"*{suffix}"))
        if len(files) > 1 and folder / f"weights{suffix}" in files:
            return folder / f"weights{suffix}"
        if len(files) > 1:
            names = ", ".join(f.name for f in files)
            raise ModelError(f"{folder}: several weight files ({names}); call the right one weights{suffix}")
        if files:
            return files[0]
    raise ModelError(f"{folder}: no weight file in it; put {WEIGHTS_FILE} beside the card")


def _check_architecture(card: ModelCard, where: Path) -> None:
    # timm writes a training recipe behind a dot: resnet50.tv_in1k
    if card.architecture.split(".")[0] != "resnet50":
        raise ModelError(f"{where}: architecture is {card.architecture!r}; only resnet50 is supported")


def _with_centred_head(network: nn.Module, card: ModelCard, where: Path) -> tuple[nn.Module, ModelCard]:
    """The network, changed in place, and the card that records it; a false record is an error."""
    head = network.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    weight, bias = centre_head(head.weight.detach(), head.bias.detach())
    if card.head_centred:
        moved = (weight - head.weight.detach()).abs().max()
        if float(moved) > 1e-4 * float(weight.abs().max()) + 1e-6:
            raise ModelError(f"{where}: the card says head_centred, the head is not; it has another card")
        return network, card
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return network, replace(card, head_centred=True)


def _for_disk(network: nn.Module) -> StateDict:
    convolutions = {f"{name}.weight" for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    tensors = {}
    for key, value in network.state_dict().items():
        fits = key in convolutions and bool(value.abs().max() <= _FLOAT16_MAX)
        tensors[key] = (value.half() if fits else value).contiguous()
    return tensors
