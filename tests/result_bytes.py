"""The bytes of a result, to hold against those of another one."""

from __future__ import annotations

from pathlib import Path


def result_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a slide's folder by its name in it, but for the one that holds times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timing.json"
    }
