"""What the workers of a cluster have, asked in a way that works even where wsi-cam is not installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_PACKAGES = ("wsi-cam", "distributed")


def worker_facts() -> Callable[..., dict[str, Any]]:
    """A function to run on each worker; it travels by value, so it needs none of this package there."""
    packages = _PACKAGES

    def facts(dask_worker: Any) -> dict[str, Any]:
        import importlib.metadata
        import platform

        versions = {"Python": platform.python_version()}
        for name in packages:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = "none"
        return {"versions": versions, "resources": dict(dask_worker.state.total_resources)}

    return facts


def versions_here() -> dict[str, str]:
    """The same versions in this process."""
    import importlib.metadata
    import platform

    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"Python": platform.python_version(), **found}


def differing_versions(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """In words, what a worker has otherwise; empty where all is the same. Of Python, 3.x counts."""

    def counts(name: str, version: str) -> str:
        return ".".join(version.split(".")[:2]) if name == "Python" else version

    differing = [name for name in here if counts(name, here[name]) != counts(name, there.get(name, "none"))]
    return ", ".join(f"{name} {there.get(name, 'none')} and not {here[name]}" for name in differing)


def has_gpu(facts: Mapping[str, Any]) -> bool:
    """Whether a worker was started with the resource ``GPU``."""
    return bool(facts["resources"].get("GPU", 0) >= 1)
