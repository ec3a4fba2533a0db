"""The one error that an address of the viewer can earn by itself."""

from __future__ import annotations


class NotFoundError(LookupError):
    """There is no such slide, level, tile, class or file; the browser gets 404."""
