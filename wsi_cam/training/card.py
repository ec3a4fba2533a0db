"""The card of a trained model: what the run knows, and what only its owner can say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from wsi_cam.classifiers.card import ModelCard
from wsi_cam.errors import SettingsError
from wsi_cam.training.calibration import N_BINS
from wsi_cam.training.fit import Fitted
from wsi_cam.training.measuring import EVIDENCE_PERCENTILE
from wsi_cam.training.metrics import Metrics
from wsi_cam.training.recipe import Recipe
from wsi_cam.training.splits import PARTS, RULES, Split
from wsi_cam.versions import installed_versions

#: Fields of the card that an owner may set; every other key of a card file is kept as it is.
OWNER_FIELDS = (
    "name", "label_region_px", "default_overlap", "target_class", "class_colors", "research_use",
)  # fmt: skip
#: Keys that are measured and so cannot be given.
MEASURED_KEYS = ("training", "split", "cutting", "calibration", "evidence", "metrics", "versions")

INTENDED_USE = "Research on tissue of the kind and staining it was trained on."
LIMITS = (
    "Measured on pictures from the same sources as the training data; other laboratories, scanners, stains "
    "and organs are not covered. Probabilities hold for the class shares that it was fitted on."
)


def gather_card_facts(file: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of facts says, with the ``given`` values (those not None) laid over it."""
    facts = read_card_facts(file) if file else {}
    return facts | {name: value for name, value in given.items() if value is not None}


def read_card_facts(path: Path) -> dict[str, Any]:
    """An owner's JSON object: data, licences, intended use, limits, and any of OWNER_FIELDS."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise SettingsError(
            f"{path}: no readable JSON ({cause}); give an object of facts for the card"
        ) from cause
    if not isinstance(facts, dict):
        raise SettingsError(f'{path}: not a JSON object; give facts as {{"data": ..., "licences": ...}}')
    taken = {f.name for f in fields(ModelCard)} - set(OWNER_FIELDS) | set(MEASURED_KEYS)
    wrong = sorted(taken & set(facts))
    if wrong:
        raise SettingsError(f"{path}: {wrong[0]!r} is measured or set by options; leave it out")
    return facts


def owner_fields(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name in OWNER_FIELDS}


def describe_owner_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What of an owner's facts goes beside the fields, completed by what holds for every model."""
    free = {name: value for name, value in facts.items() if name not in OWNER_FIELDS}
    return {"intended_use": INTENDED_USE, "limits": LIMITS, **free}


def describe_training(
    recipe: Recipe, fitted: Fitted, origin: Mapping[str, str], device_type: str
) -> dict[str, Any]:
    """How the weights came to be."""
    return {
        "recipe": asdict(recipe),
        "initial_weights": dict(origin),
        "device": device_type,
        "steps": len(fitted.losses),
        "stopped_early": fitted.stopped_early,
        "fit_part_by_epoch": [{k: round(v, 5) for k, v in entry.items()} for entry in fitted.history],
    }


def describe_split(split: Split, seed: int, shares: Sequence[float]) -> dict[str, Any]:
    """Who was where; enough to divide the same data again and to recognise it."""
    parts = {}
    for name in PARTS:
        part = split.part(name)
        groups = {} if part.groups is None else {"groups": len(set(part.groups))}
        parts[name] = {
            "source": part.path.name,
            "pictures": len(part),
            "per_class": part.counts(),
            **groups,
            "sha256": split.digest_of[name],
        }
    return {
        "rule": split.rule,
        "rule_in_words": RULES[split.rule],
        "seed": seed,
        "shares": list(shares),
        "left_out_copies": sorted(set(split.left_out)),
        "parts": parts,
    }


def describe_measuring(metrics: Metrics, error_before: float) -> dict[str, Any]:
    """Metrics of the report part, and what the temperature did to them."""
    error = metrics.measures["calibration_error"].value
    return {
        "calibration": {
            "temperature_fitted_on": "fit part",
            "bins": N_BINS,
            "error_before": round(error_before, 5),
            "error_after": round(error, 5),
            "measured_on": "report part",
        },
        "evidence": {
            "scale": f"percentile {EVIDENCE_PERCENTILE} of the positive evidence, own class, fit part"
        },
        "metrics": {"measured_on": "report part", **metrics.as_dict()},
        "versions": installed_versions(),
    }
