"""Measuring a bundle on labelled pictures, its own report part recognised."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from wsi_cam.classifiers.bundle import ModelCard, load_classifier
from wsi_cam.errors import DataError
from wsi_cam.training.annotated_slides import CuttingSettings
from wsi_cam.training.data import read_data
from wsi_cam.training.metrics import Metrics
from wsi_cam.training.patches import PatchSet
from wsi_cam.training.pixels import PatchPixels
from wsi_cam.training.publish import OnProgress, measure_classifier
from wsi_cam.training.splits import PARTS, digest_of_set, divide

#: ``auto``: the report part where the data are those that the bundle was made with, else all.
Part = Literal["auto", "all", "fit", "report"]
EVALUATION_PARTS: tuple[Part, ...] = get_args(Part)


def evaluate_bundle(
    bundle: Path,
    data: Path,
    groups: Path | None = None,
    part: Part = "auto",
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> tuple[Metrics, str]:
    """Metrics of a bundle on (a part of) labelled pictures, and which part that was, in words.

    Raises DataError for a label that the bundle does not know, and where a part is asked for
    that these data do not hold.
    """
    classifier = load_classifier(bundle, device)
    card = classifier.card

    def measured(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress("measuring", done, total, None)

    with tempfile.TemporaryDirectory(prefix="wsi-cam-patches-") as scratch:
        cut_into = Path(scratch) / "patches"
        patches = read_data(data, cut_into, _cutting_of(card), card.class_names, groups, on_progress)
        chosen, words = choose_part(patches, card.extra.get("split"), part)
        pixels = PatchPixels(chosen, card.patch_size_px)
        metrics, _ = measure_classifier(classifier, pixels, measured)
    return metrics, words


def _cutting_of(card: ModelCard) -> CuttingSettings:
    """As the patches were cut that the bundle was made with, so that its own are found again."""
    said = card.extra.get("cutting")
    known = said if isinstance(said, Mapping) else {}
    return CuttingSettings(
        size_px=card.patch_size_px,
        mpp_um=card.mpp_um,
        label_region_px=card.label_region_px,
        max_patches=int(known.get("max_patches", 0)),
        seed=int(known.get("seed", 0)),
    )


def choose_part(patches: PatchSet, split: object, part: Part) -> tuple[PatchSet, str]:
    """The pictures to measure on. ``split`` is what the card says of the split it was made with."""
    if part == "all":
        return patches, "all pictures"
    name = "report" if part == "auto" else part
    found = None if not isinstance(split, Mapping) else _same_part(patches, split, name)
    if found is not None:
        return found, f"the {name} part, as in the model card"
    if part == "auto":
        return patches, "all pictures; they are not those of the model card"
    raise DataError(
        f"{patches.path}: does not hold the {part} part of this bundle; give its own data, or --part all"
    )


def _same_part(patches: PatchSet, split: Mapping[str, Any], name: str) -> PatchSet | None:
    """The part by the card's rule, if its content is the one that the card names."""
    digests = patches.content_digests()
    try:
        part_of = divide(patches, digests, split["rule"], split["seed"], split["shares"])
        wanted, left_out = split["parts"][name]["sha256"], set(split["left_out_copies"])
    except (DataError, KeyError, TypeError):
        return None
    part = PARTS.index(name)
    members = [i for i, p in enumerate(part_of.tolist()) if p == part and digests[i] not in left_out]
    found = patches.subset(members)
    return found if digest_of_set(found, [digests[i] for i in members]) == wanted else None
