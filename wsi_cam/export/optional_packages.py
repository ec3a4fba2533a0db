"""Packages that one exporter needs and the others do not."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from wsi_cam.errors import OutputError

#: The package that a format needs, and its extra of wsi-cam, which has the format's name.
_PACKAGES = {"parquet": "pyarrow", "h5": "h5py"}


def require_packages(formats: Iterable[str]) -> None:
    """Raises OutputError for the first of ``formats`` whose package is missing; asked before any work."""
    for name in formats:
        if name in _PACKAGES:
            optional_package(_PACKAGES[name], name)


def optional_package(name: str, extra: str) -> Any:
    """The module ``name``. Raises OutputError that says which extra of wsi-cam brings it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise OutputError(
            f"the format {extra} needs the package {name} ({error}); install it with: "
            f"pip install 'wsi-cam[{extra}]'"
        ) from error
