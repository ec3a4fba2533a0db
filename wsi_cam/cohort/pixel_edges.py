"""The edges of a lattice's cells in mm, cut off where the slide ends: one ruler for areas and lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp, Size


@dataclass(frozen=True, eq=False)
class PixelEdges:
    """Where the columns and rows of a lattice begin and end, in mm from the corner of level 0.

    Cells that hang over the part of the slide that was scanned end at its edge.
    """

    x_mm: NDArray[np.float64]
    """(columns + 1,)"""
    y_mm: NDArray[np.float64]
    """(rows + 1,)"""

    @property
    def widths_mm(self) -> NDArray[np.float64]:
        return np.diff(self.x_mm)

    @property
    def heights_mm(self) -> NDArray[np.float64]:
        return np.diff(self.y_mm)


def pixel_edges(
    size: Size, to_level0: Affine[Heatmap, Level0], mpp: Mpp, shown: Box[Level0] | None
) -> PixelEdges:
    """The edges of a lattice of ``size``, cut to ``shown`` (nothing is cut where it is None)."""
    x = np.arange(size.width + 1) * to_level0.scale_x + to_level0.offset_x
    y = np.arange(size.height + 1) * to_level0.scale_y + to_level0.offset_y
    if shown is not None:
        x, y = np.clip(x, shown.x, shown.right), np.clip(y, shown.y, shown.bottom)
    return PixelEdges(x * mpp.x / 1000, y * mpp.y / 1000)
