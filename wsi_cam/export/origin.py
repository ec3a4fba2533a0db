"""Where other programs put the origin of a slide.

A slide can say which part of its level 0 was scanned (``openslide.bounds-*``; MIRAX and others do).
QuPath crops to that part by default, so its pixel (0, 0) is the corner of the bounds.
"""

from __future__ import annotations

from typing import Literal

from wsi_cam.geometry import Affine, Box, Frame, Level0

#: ``qupath``: the corner of the slide's bounds, as QuPath shows it; ``level0``: the corner of level 0.
Origin = Literal["qupath", "level0"]


class Displayed(Frame):
    """Full-resolution pixels of the image as the other program shows it."""


def level0_to_displayed(bounds: Box[Level0] | None, origin: Origin = "qupath") -> Affine[Level0, Displayed]:
    """The shift from level 0 to what is shown; the identity without bounds or for ``level0``."""
    if origin not in ("qupath", "level0"):
        raise ValueError(f"origin is {origin!r}; it must be 'qupath' or 'level0'")
    if bounds is None or origin == "level0":
        return Affine(1.0, 1.0)
    return Affine(1.0, 1.0, -bounds.x, -bounds.y)
