"""Dividing pictures so that what belongs together stays together.

Pictures of one group (patient, slide, source image) belong together, and so do byte-identical
pictures. The smallest sets closed under both are called units here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def find_units(digests: Sequence[str], groups: Sequence[str] | None) -> Indices:
    """Unit of every picture, numbered in order of appearance, from content digests and group names."""
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


def halve(digests: Sequence[str], groups: Sequence[str] | None) -> NDArray[np.bool_]:
    """True for the half to fit on: its hash begins with a hex digit below 8.

    The hash is the sha256 of the picture's bytes, or of the least name among its unit's groups.
    """
    if groups is None:
        return np.array([digest[0] < "8" for digest in digests], dtype=np.bool_)
    units = find_units(digests, groups)
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in _least_names(units, groups)]
    return np.array([hashes[unit][0] < "8" for unit in units.tolist()], dtype=np.bool_)


def divide_in_three(
    labels: Indices, units: Indices, names: Sequence[str], shares: Sequence[float], seed: int
) -> Indices | int:
    """Part 0, 1 or 2 of every picture, whole units at a time, each class near its three ``shares``.

    Units come in an order drawn by hashing ``seed`` with their least name, so the division does not
    depend on the order of the pictures. The result is a class index where a class cannot be in all three.
    """
    counts = np.zeros((units.max() + 1, labels.max() + 1))
    np.add.at(counts, (units, labels), 1)
    least = _least_names(units, names)
    hashes = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in least]
    order = sorted(range(len(counts)), key=lambda unit: (hashes[unit], least[unit]))
    target = np.outer(shares, counts.sum(axis=0))
    have = np.zeros_like(target)
    part_of = np.full(len(counts), -1)

    def put(unit: int, part: int) -> None:
        part_of[unit] = part
        have[part] += counts[unit]

    # First every class gets into every part, the class with the fewest units first.
    for label in np.argsort((counts > 0).sum(axis=0), kind="stable").tolist():
        for part in (2, 1, 0):
            if not have[part, label]:
                unit = next((u for u in order if part_of[u] < 0 and counts[u, label]), None)
                if unit is None:
                    return int(label)
                put(unit, part)
    # Then every unit goes where its classes lack most, relative to what the part should hold.
    for unit in order:
        if part_of[unit] < 0:
            lack = ((target - have) / np.maximum(target, 1e-9)) @ counts[unit]
            put(unit, int(np.argmax(lack)))
    parts: Indices = part_of[units]
    return parts


def _least_names(units: Indices, names: Sequence[str]) -> list[str]:
    """The alphabetically first name in each unit."""
    least: dict[int, str] = {}
    for unit, name in zip(units.tolist(), names, strict=True):
        least[unit] = min(name, least.get(unit, name))
    return [least[unit] for unit in range(len(least))]
