"""Timing several ways of one job against each other in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def alternate(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every way in every repeat. Each is run once uncounted, then all in turn: A B C A B C."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median of the ratios of neighbouring runs: drift of the machine's speed cancels."""
    return round(statistics.median(a / b for a, b in zip(numerator, denominator, strict=True)), 3)
