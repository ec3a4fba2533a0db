"""Versions of this package and of those whose numbers could change a result."""

from __future__ import annotations

import platform
from importlib import metadata

_PACKAGES = (
    "wsi-cam", "torch", "torchvision", "numpy", "scipy", "scikit-image", "scikit-learn", "pillow",
    "openslide-python", "openslide-bin", "tifffile", "imagecodecs", "zarr", "numcodecs", "shapely",
    "safetensors",
)  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Version by package name, ``"missing"`` where a package is not installed; Python's own first."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions
