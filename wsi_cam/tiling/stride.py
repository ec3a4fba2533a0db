"""How far apart patches lie: whole cells of the heatmap, so that laying them back resamples nothing."""

from __future__ import annotations

import math

_ROUNDING = 1e-9


def stride_in_cells(size_px: int, cell_px: int, overlap: float) -> int:
    """Cells between neighbours: the most that leave ``overlap``, a fraction of a patch; at least one."""
    return max(1, math.floor((1 - overlap) * size_px / cell_px + _ROUNDING))


def effective_overlap(size_px: int, cell_px: int, overlap: float) -> float:
    """The overlap of patches that lie so: the one asked for or more, unless one cell is too far for it."""
    return 1 - stride_in_cells(size_px, cell_px, overlap) * cell_px / size_px
