"""A bundle from weights that were trained elsewhere."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wsi_cam.classifiers.bundle import import_state_dict, save_bundle
from wsi_cam.classifiers.card import IMAGENET_MEAN, IMAGENET_STD, Triple
from wsi_cam.classifiers.resnet50 import StrideIn
from wsi_cam.errors import OutputError
from wsi_cam.training.annotated_slides import CuttingSettings
from wsi_cam.training.card import describe_owner_facts, describe_split, owner_fields
from wsi_cam.training.data import read_data
from wsi_cam.training.metrics import Metrics
from wsi_cam.training.pixels import PatchPixels
from wsi_cam.training.publish import OnProgress, publish
from wsi_cam.training.splits import DEFAULT_SHARES, split_in_halves


@dataclass(frozen=True)
class ImportRequest:
    """A weight file, what it does not say itself, and labelled pictures to fit and measure on, if any."""

    file: Path
    bundle: Path
    class_names: tuple[str, ...]
    size_px: int
    mpp_um: float
    stride_in: StrideIn | None = None
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    fit_on: Path | None = None
    groups: Path | None = None
    device: str = "auto"
    replace_existing: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


def import_model(request: ImportRequest, on_progress: OnProgress | None = None) -> Metrics | None:
    """Write the bundle; metrics of the reporting half of ``fit_on``, None without it."""
    if request.bundle.exists() and not request.replace_existing:
        raise OutputError(f"{request.bundle}: exists already; choose another -o, or --force to replace it")
    network, card = import_state_dict(
        request.file,
        request.class_names,
        request.size_px,
        request.mpp_um,
        stride_in=request.stride_in,
        mean=request.mean,
        std=request.std,
    )
    origin = {"weights": request.file.name, "sha256": hashlib.sha256(request.file.read_bytes()).hexdigest()}
    extra = {**describe_owner_facts(request.facts), "training": {"imported_from": origin}}
    card = replace(card, extra=extra, **owner_fields(request.facts))
    if request.fit_on is None:
        save_bundle(request.bundle, network, card, request.replace_existing)
        return None
    cutting = CuttingSettings(request.size_px, request.mpp_um, card.label_region_px)
    with tempfile.TemporaryDirectory(prefix="wsi-cam-patches-") as scratch:
        cut_into = Path(scratch) / "patches"
        patches = read_data(
            request.fit_on, cut_into, cutting, request.class_names, request.groups, on_progress
        )
        split = split_in_halves(patches)
        fit_part, report_part = (PatchPixels(part, request.size_px) for part in (split.fit, split.report))
        return publish(
            request.bundle,
            network,
            replace(card, extra={**extra, "split": describe_split(split, 0, DEFAULT_SHARES)}),
            fit_part,
            report_part,
            request.device,
            request.replace_existing,
            on_progress,
        )
