"""What a slide's result was made of: by this a later run knows whether it is still what is asked for.

An identity is plain JSON with the parts ``slide``, ``model``, ``settings``, ``version`` and ``computing``,
and ``hash``, which covers all of them but ``computing``: device, threads and batch size move the last bits of
a number and not what it says, so a finished result does not go stale by them. Work that is taken up in
the middle has to fit to the byte: there the whole identity must be equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wsi_cam.errors import SettingsError
from wsi_cam.settings import RunSettings
from wsi_cam.slides.identity import slide_identity

if TYPE_CHECKING:
    from wsi_cam.inference import PatchExplainer

#: Goes up by one when the same slide, model and settings would give another result than before.
RESULT_VERSION: Final = 1

#: Where ``slide.json`` keeps the identity.
RECORD_KEY: Final = "identity"

#: Settings that say how work is done and not what comes of it, or that stand in the identity otherwise.
_WITHOUT_EFFECT = {"model", "device", "num_workers", "batch_size", "max_unread", "export", "tissue"}


@dataclass(frozen=True)
class ModelFacts:
    """What a run has to know of the loaded model without holding it; plain values, so it travels as JSON."""

    bundle_hash: str
    class_names: tuple[str, ...]
    target_class: str
    """The card's; settings may name another."""
    default_overlap: float
    """The card's; settings may name another."""
    patch_px: int
    cell_px: int
    """Model pixels that one cell of a heatmap spans."""
    batch_size: int
    device: str
    """Kind of device, without its number: cpu, cuda or mps."""
    device_name: str
    """For people, such as ``cuda (NVIDIA H100)``."""
    threads: int
    """Threads of the network on the CPU."""
    torch: str
    """Its version."""


def model_facts(explainer: PatchExplainer) -> ModelFacts:
    """The facts of a model that is loaded."""
    import torch

    from wsi_cam.classifiers.device import device_name

    classifier = explainer.classifier
    return ModelFacts(
        bundle_hash=classifier.bundle_hash,
        class_names=tuple(classifier.card.class_names),
        target_class=classifier.card.target_class,
        default_overlap=classifier.card.default_overlap,
        patch_px=classifier.card.patch_size_px,
        cell_px=explainer.cell_px,
        batch_size=explainer.batch_size,
        device=classifier.device.type,
        device_name=device_name(classifier.device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


def result_identity(slide: Mapping[str, Any], model: ModelFacts, settings: RunSettings) -> dict[str, Any]:
    """The identity of the result that these would give now.

    ``slide`` is what :func:`wsi_cam.slides.identity.slide_identity` says of the file; ``settings`` are the
    slide's own (a manifest may give it a spacing or regions). A default that the card sets counts as
    if it had been asked for; regions of interest count by their content. Raises SettingsError where
    the file of regions cannot be read.
    """
    asked = {name: value for name, value in settings.as_dict().items() if name not in _WITHOUT_EFFECT}
    if settings.overlap is None:
        asked["overlap"] = model.default_overlap
    asked["target_class"] = settings.target_class or model.target_class
    asked["tissue_sha256"] = _file_hash(settings.tissue)
    meant = {
        "version": RESULT_VERSION,
        "slide": dict(slide),
        "model": model.bundle_hash,
        "settings": asked,
    }
    text = json.dumps(meant, sort_keys=True, allow_nan=False)
    computing = {
        "device": model.device,
        "threads": model.threads,
        "batch_size": model.batch_size,
        "torch": model.torch,
    }
    return {"hash": hashlib.sha256(text.encode()).hexdigest(), **meant, "computing": computing}


def identity_of(path: Path, explainer: PatchExplainer, settings: RunSettings) -> dict[str, Any]:
    """The identity of the result that a loaded model would give of a slide. Raises as its parts do."""
    return result_identity(slide_identity(path), model_facts(explainer), settings)


def differences(recorded: object, now: Mapping[str, Any]) -> list[str]:
    """In words, why a recorded result is not the one that ``now`` would give; empty where it is.

    ``recorded`` may be anything that a file held. ``computing`` is left out: see the head of the module.
    """
    if not isinstance(recorded, Mapping) or not isinstance(recorded.get("settings"), Mapping):
        return ["made by a version that recorded no identity"]
    if recorded.get("hash") == now["hash"]:
        return []
    said = []
    if recorded.get("slide") != now["slide"]:
        said.append("slide file changed")
    if recorded.get("model") != now["model"]:
        said.append("model changed")
    then, asked = recorded["settings"], now["settings"]
    for name in dict.fromkeys([*asked, *then]):
        before, after = then.get(name), asked.get(name)
        if before == after:
            continue
        if name == "tissue_sha256":
            said.append("regions of tissue changed")
        else:
            said.append(f"{name} {_show(before)} -> {_show(after)}")
    if recorded.get("version") != now["version"]:
        said.append(
            f"computed in another way since (result version {recorded.get('version')} -> {now['version']})"
        )
    return said or ["its record does not agree with itself"]


def _show(value: object) -> str:
    if value is None:
        return "default"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _file_hash(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(
            f"{path}: the regions cannot be read ({error.strerror or error}); check the path"
        ) from error
