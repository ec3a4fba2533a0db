"""How much each cell of a patch's map counts where patches overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def window(map_cells: int, stride_cells: int) -> NDArray[np.float64]:
    """Weights (map_cells, map_cells) of a patch's cells, all positive, the largest at most 1.

    Uniform where patches do not overlap (``stride_cells >= map_cells``); otherwise the separable raised
    cosine ``sin^2(pi (i + 1/2) / map_cells)``, which counts the middle of a patch more than its rim, where
    the surroundings were cut off, and no cell as nothing: a rim that one patch alone covers is still seen.
    The stitcher divides by the sum of weights, so their scale does not matter.

    Raises ValueError for sizes below one cell.
    """
    if map_cells < 1 or stride_cells < 1:
        raise ValueError(f"a map of {map_cells} cells with a stride of {stride_cells} cannot be laid out")
    if stride_cells >= map_cells:
        return np.ones((map_cells, map_cells))
    profile = np.sin(np.pi * (np.arange(map_cells) + 0.5) / map_cells) ** 2
    return np.outer(profile, profile)
