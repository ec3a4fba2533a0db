"""The whole story of a training: labelled pictures in, a bundle out."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from wsi_cam.classifiers.card import ModelCard
from wsi_cam.classifiers.device import choose_device
from wsi_cam.classifiers.resnet50 import StrideIn
from wsi_cam.errors import OutputError, SettingsError
from wsi_cam.publishing import published
from wsi_cam.training.annotated_slides import CuttingSettings
from wsi_cam.training.card import describe_owner_facts, describe_split, describe_training, owner_fields
from wsi_cam.training.data import read_data
from wsi_cam.training.fit import FitOptions, Normalisation, fit
from wsi_cam.training.initial import InitialNetwork, initial_network
from wsi_cam.training.metrics import Metrics
from wsi_cam.training.patches import require_trainable
from wsi_cam.training.pictures import draw_confusion, draw_training_curves
from wsi_cam.training.pixels import PatchPixels
from wsi_cam.training.publish import OnProgress, publish
from wsi_cam.training.recipe import Recipe
from wsi_cam.training.slide_manifest import is_slide_manifest
from wsi_cam.training.splits import DEFAULT_SHARES, PARTS, Split, make_split


@dataclass(frozen=True)
class TrainingRequest:
    """What to train on, into which bundle, and how. ``facts`` are the owner's words for the card."""

    data: Path
    bundle: Path
    size_px: int
    mpp_um: float
    valid: Path | None = None
    groups: Path | None = None
    class_names: tuple[str, ...] | None = None
    init: str = "imagenet"
    stride_in: StrideIn | None = None
    recipe: Recipe = field(default_factory=Recipe)
    max_patches: int = 0
    shares: tuple[float, float, float] = DEFAULT_SHARES
    device: str = "auto"
    num_workers: int = 0
    resume: bool = False
    checkpoint: Path | None = None
    replace_existing: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cutting(self) -> CuttingSettings:
        """How patches are cut where the data are annotated slides."""
        return CuttingSettings(
            size_px=self.size_px,
            mpp_um=self.mpp_um,
            label_region_px=self.facts.get("label_region_px"),
            max_patches=self.max_patches,
            seed=self.recipe.seed,
        )

    @property
    def cuts_slides(self) -> bool:
        return any(is_slide_manifest(data) for data in (self.data, self.valid) if data is not None)

    @property
    def notes_folder(self) -> Path:
        """Beside the bundle: checkpoint, split, curves, confusion matrix."""
        return self.bundle.with_name(f"{self.bundle.name}.training")


def train_classifier(request: TrainingRequest, on_progress: OnProgress | None = None) -> Metrics:
    """Train, calibrate, measure and write the bundle; returns the metrics of the report part.

    ``on_progress(stage, done, total, loss)`` hears how far it is; ``loss`` is None outside training.
    Raises a WsiCamError for data, weights, settings or a place to write that will not do.
    """
    if request.bundle.exists() and not request.replace_existing:
        raise OutputError(f"{request.bundle}: exists already; choose another -o, or --force to replace it")
    if not min(request.shares) > 0:
        raise SettingsError("fit share and report share must be above 0 and leave something to train on")
    device = choose_device(request.device)
    split = _read_split(request, on_progress)
    initial = initial_network(request.init, split.train.class_names, request.recipe.seed, request.stride_in)
    card = _card_before_training(request, split, initial)
    pixels = _decode(split, request.size_px, on_progress)
    _write_split(request.notes_folder / "split.csv", split)
    options = FitOptions(
        device=device,
        num_workers=request.num_workers,
        checkpoint=request.checkpoint or request.notes_folder / "checkpoint.pt",
        resume=request.resume,
    )
    fitted = fit(
        initial.network,
        pixels["train"],
        pixels["fit"],
        request.recipe,
        Normalisation(initial.mean, initial.std),
        options,
        run=_identity(request, split, initial),
        on_step=None if on_progress is None else partial(on_progress, "training"),
    )
    head_steps = request.recipe.plan(len(split.train)).head
    draw_training_curves(request.notes_folder / "curves.png", fitted.losses, fitted.history, head_steps)
    initial.network.load_state_dict(fitted.weights)
    trained = {"training": describe_training(request.recipe, fitted, initial.origin, device.type)}
    metrics = publish(
        request.bundle,
        initial.network,
        replace(card, extra={**card.extra, **trained}),
        pixels["fit"],
        pixels["report"],
        request.device,
        request.replace_existing,
        on_progress,
    )
    draw_confusion(request.notes_folder / "confusion.png", metrics)
    return metrics


def _read_split(request: TrainingRequest, on_progress: OnProgress | None) -> Split:
    notes, cutting = request.notes_folder, request.cutting
    patches = read_data(
        request.data, notes / "patches", cutting, request.class_names, request.groups, on_progress
    )
    require_trainable(patches)
    valid = None
    if request.valid is not None:
        valid = read_data(
            request.valid,
            notes / "valid_patches",
            cutting,
            patches.class_names,
            request.groups,
            on_progress,
        )
    return make_split(patches, valid, seed=request.recipe.seed, shares=request.shares)


def _card_before_training(request: TrainingRequest, split: Split, initial: InitialNetwork) -> ModelCard:
    """All that is known before; made early, so that a wrong value does not end a run of hours."""
    return ModelCard(
        **{"name": request.bundle.name, **owner_fields(request.facts)},
        class_names=split.train.class_names,
        patch_size_px=request.size_px,
        mpp_um=request.mpp_um,
        mean=initial.mean,
        std=initial.std,
        architecture_variant=f"stride_in_{initial.stride_in}",
        extra={
            **describe_owner_facts(request.facts),
            "split": describe_split(split, request.recipe.seed, request.shares),
            **({"cutting": asdict(request.cutting)} if request.cuts_slides else {}),
        },
    )


def _decode(split: Split, size_px: int, on_progress: OnProgress | None) -> dict[str, PatchPixels]:
    pixels = {}
    for name in PARTS:
        on_read = None if on_progress is None else partial(_report_reading, on_progress, name)
        pixels[name] = PatchPixels(split.part(name), size_px, on_progress=on_read)
    return pixels


def _report_reading(on_progress: OnProgress, part: str, done: int, total: int) -> None:
    on_progress(f"reading {part}", done, total, None)


def _identity(request: TrainingRequest, split: Split, initial: InitialNetwork) -> dict[str, Any]:
    """What a checkpoint must have in common with the run that continues it."""
    train = split.train
    order = hashlib.sha256("\n".join([split.digest_of["train"], *train.names]).encode()).hexdigest()
    return {
        "class names": list(train.class_names),
        "patch size": request.size_px,
        "training pictures": order,
        "fit pictures": split.digest_of["fit"],
        "initial weights": initial.origin,
    }


def _write_split(path: Path, split: Split) -> None:
    """CSV part,path,label,group of every picture, so that anyone can check who was where."""
    with (
        published(path, "choose another -o") as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "path", "label", "group"])
        for name in PARTS:
            part = split.part(name)
            for i, (picture, label) in enumerate(zip(part.names, part.labels.tolist(), strict=True)):
                group = part.groups[i] if part.groups else ""
                writer.writerow([name, picture, part.class_names[label], group])
