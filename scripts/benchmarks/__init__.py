"""Benchmarks: one module per part, each with ``measure(work: Path, quick: bool) -> dict``."""
