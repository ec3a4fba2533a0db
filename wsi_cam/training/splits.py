"""Who is trained on, who is fitted on, who is reported: three parts that share nothing.

What is chosen with labelled data beyond the weights (when to stop, the temperature, the evidence
scales) is chosen on the ``fit`` part; the numbers of the model card come from the ``report`` part, which
nothing has seen. Pictures of one group (patient, slide, source image) stay together, and so do byte-identical
pictures: the smallest sets closed under both are called units here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import DataError
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
    """Three disjoint patch sets. ``rule`` is a key of RULES; ``left_out`` counts copies that would leak."""

    train: PatchSet
    fit: PatchSet
    report: PatchSet
    rule: str
    left_out: int
    digest_of: dict[str, str]

    def part(self, name: str) -> PatchSet:
        return {"train": self.train, "fit": self.fit, "report": self.report}[name]


def make_split(
    patches: PatchSet, valid: PatchSet | None = None, seed: int = 0, shares: Sequence[float] = DEFAULT_SHARES
) -> Split:
    """Divide ``patches`` into parts, or train on all of it and halve ``valid``.

    A split column rules where there is one. Raises DataError where a group stands on two sides of a
    given split, or a part lacks a class.
    """
    digests = patches.content_digests()
    conflicts = labels_conflict(patches, digests)
    if conflicts:
        _log.warning("%s: %d pictures have an identical copy under another label", patches.path, conflicts)
    if valid is not None:
        for each in (patches, valid):
            if each.splits is not None:
                raise DataError(
                    f"{each.path}: a split column beside a separate validation set; leave one out"
                )
        return _with_separate_valid(patches, digests, valid)
    if patches.splits is not None:
        return _as_given(patches, digests)
    units = _units(digests, patches.groups)
    names = patches.groups or digests
    part_of = divide_units(patches.labels, units, names, shares, seed)
    if isinstance(part_of, int):
        what = "groups" if patches.groups else "different pictures"
        raise DataError(
            f"{patches.path}: class {patches.class_names[part_of]!r} has too few {what} to train, "
            "fit and report on different ones; give at least three, or a separate validation set"
        )
    if patches.groups is None:
        _log.warning(
            "%s: no groups given, so pictures are split one by one; where several come from one patient or "
            "slide the reported figures will be too good: give --groups or a group column",
            patches.path,
        )
    chosen = [np.flatnonzero(part_of == i) for i in range(3)]
    return _split(patches, patches, chosen, digests, digests, "groups" if patches.groups else "content", 0)


def divide_units(
    labels: NDArray[np.int64],
    units: NDArray[np.int64],
    names: Sequence[str],
    shares: Sequence[float],
    seed: int,
) -> NDArray[np.int64] | int:
    """Part 0, 1 or 2 of every picture, whole units at a time, each class near its ``shares``.

    Units come in an order drawn by hashing ``seed`` with their least name, so the division does not depend
    on the order of the pictures. The result is a class index where a class cannot be in all three parts.
    """
    counts = np.zeros((units.max() + 1, labels.max() + 1))
    np.add.at(counts, (units, labels), 1)
    name_of: dict[int, str] = {}
    for unit, name in zip(units.tolist(), names, strict=True):
        name_of[unit] = min(name, name_of.get(unit, name))
    hashes = {unit: hashlib.sha256(f"{seed}:{name}".encode()).digest() for unit, name in name_of.items()}
    free = sorted(name_of, key=lambda unit: (hashes[unit], name_of[unit]))
    target = np.outer(shares, counts.sum(axis=0))
    have = np.zeros_like(target)
    part_of_unit = np.full(len(counts), -1)

    def put(unit: int, part: int) -> None:
        part_of_unit[unit] = part
        have[part] += counts[unit]

    # First every class gets into every part, the class with the fewest units first.
    for label in np.argsort((counts > 0).sum(axis=0), kind="stable").tolist():
        for part in (2, 1, 0):
            if not have[part, label]:
                unit = next((u for u in free if part_of_unit[u] < 0 and counts[u, label]), None)
                if unit is None:
                    return int(label)
                put(unit, part)
    # Then every unit goes where its classes lack most, relative to what the part should hold.
    for unit in free:
        if part_of_unit[unit] < 0:
            lack = ((target - have) / np.maximum(target, 1e-9)) @ counts[unit]
            put(unit, int(np.argmax(lack)))
    return part_of_unit[units]


def halve(patches: PatchSet, digests: Sequence[str]) -> NDArray[np.bool_]:
    """True for the half to fit on: its unit's hash begins with a hex digit below 8.

    The hash is the sha256 of the picture's bytes, or of the least name among the unit's groups.
    """
    if patches.groups is None:
        return np.array([digest[0] < "8" for digest in digests])
    units = _units(digests, patches.groups)
    least: dict[int, str] = {}
    for unit, group in zip(units.tolist(), patches.groups, strict=True):
        least[unit] = min(group, least.get(unit, group))
    fits = {unit: hashlib.sha256(group.encode()).hexdigest()[0] < "8" for unit, group in least.items()}
    return np.array([fits[unit] for unit in units.tolist()])


def digest_of_set(patches: PatchSet, digests: Sequence[str]) -> str:
    """One sha256 for a set of labelled pictures, whatever their order and names."""
    labels = [patches.class_names[label] for label in patches.labels.tolist()]
    lines = sorted(f"{digest} {label}\n" for digest, label in zip(digests, labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _units(digests: Sequence[str], groups: Sequence[str] | None) -> NDArray[np.int64]:
    """Unit of every picture: connected by equal bytes or an equal group, numbered in order of appearance."""
    parent = list(range(len(digests)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for keys in (digests, groups or ()):
        first: dict[str, int] = {}
        for i, key in enumerate(keys):
            parent[root(i)] = root(first.setdefault(key, i))
    roots = [root(i) for i in range(len(digests))]
    number = {r: n for n, r in enumerate(dict.fromkeys(roots))}
    return np.array([number[r] for r in roots], dtype=np.int64)


def _with_separate_valid(patches: PatchSet, digests: list[str], valid: PatchSet) -> Split:
    shared = sorted(set(patches.groups or ()) & set(valid.groups or ()))
    if shared:
        raise DataError(
            f"{valid.path}: group {shared[0]!r} is in {patches.path.name} too ({len(shared)} such groups); "
            "a group must not be trained on and measured on"
        )
    valid_digests = valid.content_digests()
    seen = set(digests)
    fresh = np.array([digest not in seen for digest in valid_digests])
    fits = halve(valid, valid_digests)
    chosen = [np.arange(len(patches)), np.flatnonzero(fresh & fits), np.flatnonzero(fresh & ~fits)]
    return _split(patches, valid, chosen, digests, valid_digests, "halves", int((~fresh).sum()))


def _as_given(patches: PatchSet, digests: list[str]) -> Split:
    assert patches.splits is not None
    words = np.array(patches.splits)
    kinds = [words == "train", words == "fit", np.isin(words, ["report", "test"])]
    part = np.select(kinds, [0, 1, 2], default=-1)
    undecided = np.flatnonzero(part < 0)
    half = halve(patches.subset(undecided), [digests[i] for i in undecided])
    part[undecided] = np.where(half, 1, 2)
    side: dict[str, int] = {}
    for group, p in zip(patches.groups or (), part.tolist(), strict=bool(patches.groups)):
        if side.setdefault(group, p) != p:
            raise DataError(
                f"{patches.path}: group {group!r} stands in {PARTS[side[group]]} and in {PARTS[p]}; "
                "correct the split column so that every group keeps to one part"
            )
    # A copy of an earlier part's picture is left out: training comes first, the report last.
    earlier: set[str] = set()
    chosen = []
    for p in range(3):
        members = np.flatnonzero(part == p)
        members = members[[digests[i] not in earlier for i in members]]
        earlier |= {digests[i] for i in members}
        chosen.append(members)
    left_out = len(patches) - sum(map(len, chosen))
    return _split(patches, patches, chosen, digests, digests, "given", left_out)


def _split(
    patches: PatchSet,
    valid: PatchSet,
    chosen: Sequence[NDArray[np.int64]],
    digests: Sequence[str],
    valid_digests: Sequence[str],
    rule: str,
    left_out: int,
) -> Split:
    sets, digest_of = [], {}
    for name, indices, whole, keys in zip(
        PARTS, chosen, (patches, valid, valid), (digests, valid_digests, valid_digests), strict=True
    ):
        part = whole.subset(indices)
        _require_all_classes(part, name, rule)
        sets.append(part)
        digest_of[name] = digest_of_set(part, [keys[i] for i in indices])
    if left_out:
        _log.warning(
            "%s: %d byte-identical copies of pictures in an earlier part are left out", valid.path, left_out
        )
    return Split(sets[0], sets[1], sets[2], rule, left_out, digest_of)


def _require_all_classes(part: PatchSet, name: str, rule: str) -> None:
    missing = [c for c, count in part.counts().items() if not count]
    if missing:
        raise DataError(
            f"{part.path}: the {name} part has no picture of class {missing[0]!r} (split: {RULES[rule]}); "
            "give more data or groups, or a split column that says train, fit, report"
        )


def labels_conflict(patches: PatchSet, digests: Iterable[str]) -> int:
    """How many pictures have a byte-identical copy under another label."""
    labels_of: dict[str, set[int]] = {}
    keyed = list(zip(digests, patches.labels.tolist(), strict=True))
    for digest, label in keyed:
        labels_of.setdefault(digest, set()).add(label)
    return sum(len(labels_of[digest]) > 1 for digest, _ in keyed)
