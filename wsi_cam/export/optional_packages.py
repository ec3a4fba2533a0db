"""Packages that one exporter needs and the others do not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from wsi_cam.errors import OutputError


def optional_package(name: str, extra: str) -> Any:
    """The module ``name``. Raises OutputError that says which extra of wsi-cam brings it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise OutputError(
            f"the format {extra} needs the package {name} ({error}); install it with: "
            f"pip install 'wsi-cam[{extra}]'"
        ) from error
