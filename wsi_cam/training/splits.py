"""Who is trained on, who is fitted on, who is reported: three parts that share nothing.

What is chosen with labelled data beyond the weights (when to stop, the temperature, the evidence
scales) is chosen on the ``fit`` part; the numbers of the model card come from the ``report`` part, which
nothing has seen.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import DataError
from wsi_cam.training.dividing import Indices, divide_in_three, find_units, halve
from wsi_cam.training.patches import PatchSet

_log = logging.getLogger(__name__)

PARTS = ("train", "fit", "report")
DEFAULT_SHARES = (0.7, 0.15, 0.15)

#: How a split came about, by its name in the card.
RULES = {
    "halves": "a separate set, halved by the sha256 of each picture or its group (first digit below 8 fits)",
    "groups": "one set, divided by group",
    "content": "one set without groups, divided picture by picture: near-copies may stand on both sides",
    "given": "as the split column says",
}


@dataclass(frozen=True)
class Split:
    """Three disjoint patch sets. ``rule`` is a key of RULES.

    ``left_out`` are the content digests of pictures that are in no part, being copies of pictures in an
    earlier one; ``digest_of`` identifies the content of each part (:func:`digest_of_set`).
    """

    train: PatchSet
    fit: PatchSet
    report: PatchSet
    rule: str
    left_out: tuple[str, ...]
    digest_of: dict[str, str]

    def part(self, name: str) -> PatchSet:
        return {"train": self.train, "fit": self.fit, "report": self.report}[name]


def make_split(
    patches: PatchSet, valid: PatchSet | None = None, seed: int = 0, shares: Sequence[float] = DEFAULT_SHARES
) -> Split:
    """Divide ``patches`` into parts, or train on all of it and halve ``valid``.

    A split column rules where there is one. Raises DataError where a group stands on two sides, or a
    part would lack a class.
    """
    digests = patches.content_digests()
    _warn_of_contradictions(patches, digests)
    if valid is not None:
        return _with_separate_valid(patches, digests, valid)
    rule = "given" if patches.splits else "groups" if patches.groups else "content"
    if rule == "content":
        _log.warning(
            "%s: no groups given, so pictures are split one by one; where several come from one patient or "
            "slide the reported figures will be too good: give --groups or a group column",
            patches.path,
        )
    part_of = divide(patches, digests, rule, seed, shares)
    left_out = [digest for digest, part in zip(digests, part_of.tolist(), strict=True) if part < 0]
    return _collect([(patches, digests, part_of == p) for p in range(3)], rule, left_out)


def split_in_halves(patches: PatchSet) -> Split:
    """Two halves, to fit and to report on, for a network that was trained elsewhere; none to train on."""
    digests = patches.content_digests()
    part_of = divide(patches, digests, "halves", 0, DEFAULT_SHARES)
    parts = [(patches, digests, part_of == p) for p in range(3)]
    return _collect(parts, "halves", [], may_be_empty="train")


def divide(
    patches: PatchSet, digests: Sequence[str], rule: str, seed: int, shares: Sequence[float]
) -> Indices:
    """Part of every picture by a rule of RULES: 0 train, 1 fit, 2 report, -1 left out as a copy."""
    if rule == "halves":
        return np.where(halve(digests, patches.groups), 1, 2)
    if rule == "given":
        return _as_given(patches, digests)
    names = patches.groups or digests
    part_of = divide_in_three(patches.labels, find_units(digests, patches.groups), names, shares, seed)
    if isinstance(part_of, int):
        what = "groups" if patches.groups else "different pictures"
        raise DataError(
            f"{patches.path}: class {patches.class_names[part_of]!r} has too few {what} to train, "
            "fit and report on different ones; give at least three, or a separate validation set"
        )
    return part_of


def digest_of_set(patches: PatchSet, digests: Sequence[str]) -> str:
    """One sha256 for a set of labelled pictures, whatever their order and names."""
    labels = [patches.class_names[label] for label in patches.labels.tolist()]
    lines = sorted(f"{digest} {label}\n" for digest, label in zip(digests, labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _with_separate_valid(patches: PatchSet, digests: Sequence[str], valid: PatchSet) -> Split:
    for each in (patches, valid):
        if each.splits is not None:
            raise DataError(f"{each.path}: a split column beside a separate validation set; leave one out")
    shared = sorted(set(patches.groups or ()) & set(valid.groups or ()))
    if shared:
        raise DataError(
            f"{valid.path}: group {shared[0]!r} is in {patches.path.name} too ({len(shared)} such groups); "
            "a group must not be trained on and measured on"
        )
    valid_digests = valid.content_digests()
    seen = set(digests)
    fresh = np.array([digest not in seen for digest in valid_digests])
    part_of = divide(valid, valid_digests, "halves", 0, DEFAULT_SHARES)
    everything = np.ones(len(patches), dtype=np.bool_)
    halves = [(valid, valid_digests, fresh & (part_of == p)) for p in (1, 2)]
    left_out = [digest for digest in valid_digests if digest in seen]
    return _collect([(patches, digests, everything), *halves], "halves", left_out)


def _as_given(patches: PatchSet, digests: Sequence[str]) -> Indices:
    words = np.array(patches.splits if patches.splits is not None else ["valid"] * len(patches))
    kinds = [words == "train", words == "fit", np.isin(words, ["report", "test"])]
    part_of = np.select(kinds, [0, 1, 2], default=-1)
    undecided = np.flatnonzero(part_of < 0).tolist()
    groups = None if patches.groups is None else [patches.groups[i] for i in undecided]
    part_of[undecided] = np.where(halve([digests[i] for i in undecided], groups), 1, 2)
    side: dict[str, int] = {}
    for group, part in zip(patches.groups or (), part_of.tolist(), strict=patches.groups is not None):
        if side.setdefault(group, part) != part:
            raise DataError(
                f"{patches.path}: group {group!r} stands in {PARTS[side[group]]} and in {PARTS[part]}; "
                "correct the split column so that every group keeps to one part"
            )
    # A copy of a picture in an earlier part is left out: training comes first, the report last.
    first_part: dict[str, int] = {}
    for digest, part in zip(digests, part_of.tolist(), strict=True):
        first_part[digest] = min(part, first_part.get(digest, part))
    first = np.array([first_part[digest] for digest in digests])
    return np.where(part_of == first, part_of, -1)


def _collect(
    choices: Sequence[tuple[PatchSet, Sequence[str], NDArray[np.bool_]]],
    rule: str,
    left_out: Sequence[str],
    may_be_empty: str = "",
) -> Split:
    parts, digest_of = [], {}
    for name, (patches, digests, chosen) in zip(PARTS, choices, strict=True):
        members = np.flatnonzero(chosen).tolist()
        part = patches.subset(members)
        missing = [class_name for class_name, count in part.counts().items() if not count]
        if missing and (len(part) or name != may_be_empty):
            raise DataError(
                f"{patches.path}: no picture of class {missing[0]!r} to {name} on (split: {RULES[rule]}); "
                "give more data or groups, or a split column that says train, fit, report"
            )
        parts.append(part)
        digest_of[name] = digest_of_set(part, [digests[i] for i in members])
    if left_out:
        where = choices[2][0].path
        _log.warning("%s: left out %d copies of pictures in an earlier part", where, len(left_out))
    return Split(parts[0], parts[1], parts[2], rule, tuple(left_out), digest_of)


def _warn_of_contradictions(patches: PatchSet, digests: Sequence[str]) -> None:
    labels_of: dict[str, set[int]] = {}
    for digest, label in zip(digests, patches.labels.tolist(), strict=True):
        labels_of.setdefault(digest, set()).add(label)
    twofold = sum(len(labels) > 1 for labels in labels_of.values())
    if twofold:
        _log.warning("%s: %d pictures stand under two labels, byte by byte the same", patches.path, twofold)
