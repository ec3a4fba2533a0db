"""The weights that a training starts from."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torchvision.models import ResNet50_Weights

from wsi_cam.classifiers.bundle import load_classifier
from wsi_cam.classifiers.card import IMAGENET_MEAN, IMAGENET_STD, Triple
from wsi_cam.classifiers.resnet50 import StrideIn, build_resnet50
from wsi_cam.classifiers.weights import read_resnet50_weights
from wsi_cam.errors import ModelError, SettingsError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialNetwork:
    """A network ready to train, what its input must be normalised with, and its origin for the card."""

    network: nn.Module
    stride_in: StrideIn
    mean: Triple
    std: Triple
    origin: dict[str, str]


def initial_network(
    init: str, class_names: Sequence[str], seed: int, stride_in: StrideIn | None = None
) -> InitialNetwork:
    """A ResNet-50 with the trunk that ``init`` names and a head drawn with ``seed``.

    ``init`` is ``"imagenet"`` (torchvision's, downloaded), ``"random"``, a file with a ResNet-50 state dict,
    or a bundle, whose head is kept if its classes are the same. ``stride_in`` is what the file means where it
    does not say so itself. Raises ModelError where weights cannot be had, SettingsError for a contradiction.
    """
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    keep_head = False
    if init == "random":
        state: Mapping[str, torch.Tensor] = {}
        said, origin = stride_in or "conv2", {"weights": "random"}
    elif init == "imagenet":
        state, said, origin = (
            _torchvision_weights(),
            "conv2",
            {"weights": str(ResNet50_Weights.IMAGENET1K_V2)},
        )
    elif Path(init).is_dir():
        classifier = load_classifier(init, device="cpu")
        card = classifier.card
        state, said, mean, std = classifier.network.state_dict(), card.stride_in, card.mean, card.std
        keep_head = card.class_names == tuple(class_names)
        origin = {"weights": f"bundle {card.name}", "bundle_hash": classifier.bundle_hash}
    else:
        file = Path(init)
        state, in_file = read_resnet50_weights(file)
        said = in_file or stride_in or "conv2"
        if in_file is None and stride_in is None:
            _log.warning(
                "%s does not say its stride variant; torchvision's is assumed (--stride-in conv2)", file
            )
        origin = {"weights": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    if stride_in is not None and stride_in != said:
        raise SettingsError(f"{init}: its stride is in {said}, not in {stride_in}; leave --stride-in out")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_resnet50(len(class_names), said)
    _load(network, state, keep_head, init)
    return InitialNetwork(network, said, mean, std, {**origin, "stride_in": said})


def _load(network: nn.Module, state: Mapping[str, torch.Tensor], keep_head: bool, init: str) -> None:
    if not state:
        return
    own = network.state_dict()
    wanted = {k: v.to(own[k].dtype) for k, v in state.items() if keep_head or not k.startswith("fc.")}
    try:
        missing, strange = network.load_state_dict(wanted, strict=False)
    except RuntimeError as cause:
        raise ModelError(f"{init}: does not fit a ResNet-50 ({' '.join(str(cause).split())})") from cause
    missing = [k for k in missing if not k.startswith("fc.") and not k.endswith("num_batches_tracked")]
    if missing or strange:
        odd = f"{missing[0]} is missing" if missing else f"{strange[0]} is not part of one"
        raise ModelError(f"{init}: not the weights of a ResNet-50 ({odd}); give a ResNet-50 state dict")


def _torchvision_weights() -> Mapping[str, torch.Tensor]:
    try:
        weights: Mapping[str, torch.Tensor] = ResNet50_Weights.IMAGENET1K_V2.get_state_dict(
            progress=False, check_hash=True
        )
        return weights
    except (URLError, OSError, RuntimeError) as cause:
        raise ModelError(
            f"torchvision's ImageNet weights cannot be downloaded ({cause}); "
            "give --init FILE with a ResNet-50 state dict that is already here"
        ) from cause
