"""What both ways of finding tissue (a picture, a drawn region) hand to the plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.geometry import Affine, Level0, Mpp, Thumbnail


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Where there is tissue: one bool per thumbnail pixel, each standing for its whole square."""

    mask: NDArray[np.bool_]
    """(height, width) bool; True is tissue."""
    to_level0: Affine[Thumbnail, Level0]
    source: str
    """Where the mask comes from, in words for messages and provenance: ``saturation`` or a file's path."""

    def area_mm2(self, mpp: Mpp) -> float:
        """Area of the tissue in mm2; ``mpp`` is the spacing of level 0."""
        return float(np.count_nonzero(self.mask)) * thumbnail_pixel_mm2(self.to_level0, mpp)


def thumbnail_pixel_mm2(to_level0: Affine[Thumbnail, Level0], mpp: Mpp) -> float:
    """Area of one thumbnail pixel in mm2; ``mpp`` is the spacing of level 0."""
    return to_level0.scale_x * mpp.x * to_level0.scale_y * mpp.y * 1e-6
