"""ResNet-50 weights out of other people's files, without ever running what is inside them.

A pickle is a program. Only tensors and plain containers are read (``weights_only``); a file that
wants more is refused with the way to export it. What remains is naming: wrappers put prefixes before
the keys and dictionaries around them, and a sigmoid head has one logit where two classes are meant.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from wsi_cam.classifiers.resnet50 import StrideIn, build_resnet50
from wsi_cam.errors import ModelError

log = logging.getLogger(__name__)

StateDict = dict[str, torch.Tensor]

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
#: Under which keys training programs keep the state dict of the network in their checkpoints.
_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model", "network", "net")
_HOW_TO_EXPORT = "save the plain weights with torch.save(model.state_dict(), 'weights.pth')"


def read_resnet50_weights(file: Path) -> tuple[StateDict, StrideIn | None]:
    """A ResNet-50's tensors under torchvision's names, and the stride variant if the file says it.

    Reads ``.safetensors`` and whatever ``torch.save`` wrote of tensors alone; unwraps checkpoints and the
    prefixes of DataParallel, Lightning and the like; finds a head kept in a Sequential beside
    a dropout. Raises ModelError for files that are missing, damaged, unsafe or of another network.
    """
    if not file.is_file():
        raise ModelError(f"{file}: no such weight file; give one of {', '.join(WEIGHT_SUFFIXES)}")
    if file.suffix == ".safetensors":
        state, metadata = _read_safetensors(file)
    else:
        state, metadata = _read_torch(file), {}
    return _named_as_torchvision(state, file), _stride_of(metadata)


def build_from_weights(state: StateDict, n_classes: int, stride_in: StrideIn, file: Path) -> nn.Module:
    """A float32 ResNet-50 that holds these tensors. Raises ModelError where they do not fit.

    A head of one logit (sigmoid) becomes two classes with the same probabilities.
    """
    state = dict(state)
    if n_classes == 2 and state["fc.weight"].shape[0] == 1:
        # sigmoid(y) = softmax(-y/2, y/2): this head is centred already.
        for key in ("fc.weight", "fc.bias"):
            if key in state:
                state[key] = torch.cat([-state[key] / 2, state[key] / 2])
    # Without memory of its own: no time is lost on random weights, and no random numbers are drawn.
    with torch.device("meta"):
        network = build_resnet50(n_classes, stride_in)
    wanted = network.state_dict()
    for key, tensor in wanted.items():
        if key.endswith("num_batches_tracked"):  # counts batches of a training, not needed to infer
            state.setdefault(key, torch.zeros((), dtype=tensor.dtype))
    _check_fit(state, wanted, n_classes, file)
    own = {key: state[key].to(dtype=wanted[key].dtype, copy=True) for key in wanted}
    network.load_state_dict(own, assign=True)
    return network.requires_grad_(True).eval()


def _check_fit(state: StateDict, wanted: dict[str, Any], n_classes: int, file: Path) -> None:
    head = state["fc.weight"]
    if head.ndim == 2 and head.shape[0] != n_classes:
        raise ModelError(
            f"{file}: fc has {head.shape[0]} outputs but {n_classes} classes are named; name all"
        )
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected:
        what = f"{missing[0]!r} is missing" if missing else f"{unexpected[0]!r} is not part of it"
        more = len(missing) + len(unexpected) - 1
        raise ModelError(f"{file}: not a ResNet-50: {what}" + (f" (and {more} more)" if more else "")
                         + "; only ResNet-50 weights can be used")  # fmt: skip
    for key, tensor in wanted.items():
        if state[key].shape != tensor.shape:
            raise ModelError(f"{file}: not a ResNet-50: {key!r} is {tuple(state[key].shape)}, expected "
                             f"{tuple(tensor.shape)}; only ResNet-50 weights can be used")  # fmt: skip
        if tensor.is_floating_point() and not bool(torch.isfinite(state[key].float()).all()):
            raise ModelError(f"{file}: {key!r} holds values that are not finite; export the weights again")


def _read_safetensors(file: Path) -> tuple[StateDict, dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{file}: not a safetensors file ({_brief(error)}); copy or export it again"
        ) from error


def _read_torch(file: Path) -> StateDict:
    if _is_torchscript(file):
        raise ModelError(
            f"{file}: a TorchScript archive is a compiled program whose layers cannot be watched; "
            + _HOW_TO_EXPORT
        )
    try:
        with warnings.catch_warnings():
            # Another pickle protocol than torch's usual one: it works, or the refusal below says more.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file}: holds more than tensors, or is damaged, and was not run; {_HOW_TO_EXPORT}"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: not a readable weight file ({_brief(error)}); {_HOW_TO_EXPORT}") from error
    return _find_state_dict(content, file)


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(re.fullmatch(r"[^/]+/constants\.pkl", name) for name in archive.namelist())


def _find_state_dict(content: object, file: Path) -> StateDict:
    """The tensors, where they are or under one of the keys that checkpoints use."""
    if isinstance(content, dict):
        for key in _CHECKPOINT_KEYS:
            if isinstance(content.get(key), dict):
                return _find_state_dict(content[key], file)
        tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
        if tensors:
            return tensors
    raise ModelError(f"{file}: holds no state dict; {_HOW_TO_EXPORT}")


def _named_as_torchvision(state: StateDict, file: Path) -> StateDict:
    """The keys of one ResNet-50 without what stands before them."""
    mark = "layer4.0.conv1.weight"
    prefixes = sorted(key.removesuffix(mark) for key in state if key.endswith(mark))
    if len(prefixes) != 1:
        found = f"several networks ({', '.join(prefixes)})" if prefixes else "no ResNet-50"
        raise ModelError(f"{file}: holds {found}; export the weights of one ResNet-50")
    prefix = prefixes[0]
    dropped = [key for key in state if not key.startswith(prefix)]
    if dropped:
        log.info("%s: %d tensors beside the network are left out (%s ...)", file, len(dropped), dropped[0])
    state = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    heads = [key for key in state if re.fullmatch(r"fc(\.\d+)?\.weight", key) and state[key].ndim == 2]
    if len(heads) != 1:
        raise ModelError(
            f"{file}: holds {len(heads)} linear layers named fc; after the pooling there must be exactly one"
        )
    head = heads[0].removesuffix(".weight")
    return {("fc" + key.removeprefix(head) if key.startswith(head) else key): t for key, t in state.items()}


def _stride_of(metadata: dict[str, str]) -> StrideIn | None:
    """The variant, in our words or in a sentence about the 1x1 or the 3x3 convolution."""
    said = metadata.get("architecture_variant") or metadata.get("stride") or ""
    if "conv1" in said or "1x1" in said:
        return "conv1"
    return "conv2" if "conv2" in said or "3x3" in said else None


def _brief(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
