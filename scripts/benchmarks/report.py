"""``docs/benchmark.md`` out of the stored results, so that no figure is copied by hand."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "benchmark.md"
_HEAD = """\
# Speed and memory

Written by `scripts/benchmark` from what it measured; repeat it with that command. What is compared is run in
turn, in one session on one machine, and the ratios are medians of neighbouring runs: they travel between
machines, the seconds do not.
"""


def write_report(kept: Mapping[str, Any], parts: Mapping[str, str]) -> None:
    """Write the page: for every part that was measured, what it is, on which machine, and its figures."""
    lines = [_HEAD]
    for part, module_name in parts.items():
        if part not in kept:
            continue
        module = importlib.import_module(f"scripts.benchmarks.{module_name}")
        machine = kept[part]["machine"]
        title, _, rest = (module.__doc__ or "").strip().partition("\n")
        versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "numpy", "zarr"))
        lines += [
            f"## {part}\n\n{title}\n{rest.rstrip()}\n",
            f"{machine['processor']}, {machine['cores']} cores, {machine['torch_threads']} threads of torch, "
            f"GPU: {machine['gpu'] or 'none'}; {versions}.\n",
            "| Figure | Value |\n|---|---|",
            *(f"| {name} | {value} |" for name, value in _flat(kept[part]) if not name.startswith("machine")),
            "",
        ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else value
