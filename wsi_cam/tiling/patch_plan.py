"""Which patches of a slide are looked at, in which order, and where each lies. No pixels here.

One lattice rules everything: the cells of the target layer (``cell_px`` model pixels), laid over
level 0 from its corner. A patch starts at a whole cell, so its origin in level 0 is an integer times
a float scale and no error accumulates; the heatmap's pixels are the same cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import SettingsError, SpacingError, TissueError
from wsi_cam.geometry import Affine, Heatmap, Level, Level0, Mpp, Size
from wsi_cam.tiling.patch_grid import GridAxis, TissueFractions, ceil_but_rounding
from wsi_cam.tiling.stride import effective_overlap, stride_in_cells
from wsi_cam.tiling.tissue import TissueMask

DEFAULT_MIN_TISSUE = 0.1
"""Smallest share of tissue a patch needs, of its part inside the slide.

A label often speaks of the centre of a patch only (the central 32 of 96 px: a ninth of its area).
With less tissue than that the patch cannot hold an answer, so a tenth drops hardly anything a model could
speak about, while a margin lost at the tissue's edge stays below a tenth of a patch (about 10 um) and
needle biopsies, fragments and pale tissue, of which the mask sees only a part, stay in. The price
is small: only patches on the outline are affected.
"""
LEVEL_TOLERANCE = 0.05
"""A level up to 5 % coarser than the model counts as fine enough: 1.0 um/px for a model at 0.972.

The level below has 4 to 16 times the pixels; scanners of one nominal magnification differ by as much.
"""
MAX_UPSAMPLING = 1.25
"""A slide coarser than the model by more than this is refused: interpolation adds no nuclei."""


@dataclass(frozen=True, eq=False)
class PatchPlan:
    """Patches in reading order, on the lattice of heatmap cells.

    Order: rows of blocks from the top, blocks from the left, and inside a block row by row. A block is
    about 2048 level pixels a side, so that a storage tile is decoded about once.
    """

    size_px: int
    """Side of a patch in model pixels."""
    mpp_um: float
    """Spacing of the model in um per pixel."""
    cell_px: int
    """Side of a heatmap cell in model pixels: the total stride of the target layer."""
    stride_cells: int
    map_cells: int
    """Cells along the side of one patch's map; the last may reach past the patch."""
    requested_overlap: float
    effective_overlap: float
    min_tissue: float
    level: int
    """Level of the slide to read: the coarsest that is fine enough."""
    level_to_level0: Affine[Level, Level0]
    slide_size: Size
    slide_mpp: Mpp
    cell_xy: NDArray[np.int64]
    """(n, 2): column and row of each patch's first cell on the heatmap's lattice."""
    tissue_fraction: NDArray[np.float32]
    """(n,): share of tissue in the part of the patch that lies inside the slide."""
    block_starts: NDArray[np.int64]
    """Index of the first patch of each reading block; the first is 0."""

    def __len__(self) -> int:
        return len(self.cell_xy)

    @property
    def heatmap_to_level0(self) -> Affine[Heatmap, Level0]:
        return _cells_to_level0(self.cell_px, self.mpp_um, self.slide_mpp)

    @property
    def heatmap_size(self) -> Size:
        """Cells that cover all of level 0; the last row and column may reach past its edge."""
        cell = self.heatmap_to_level0
        return Size(
            ceil_but_rounding(self.slide_size.width / cell.scale_x),
            ceil_but_rounding(self.slide_size.height / cell.scale_y),
        )

    @property
    def patch_level0(self) -> tuple[float, float]:
        """Width and height of a patch in level-0 pixels, not rounded."""
        return _patch_level0(self.size_px, self.mpp_um, self.slide_mpp)

    @property
    def level0_xy(self) -> NDArray[np.float64]:
        """(n, 2): upper left corner of each patch in level-0 pixels, not rounded."""
        return self.heatmap_to_level0.points(self.cell_xy.astype(np.float64))

    @property
    def resize_factors(self) -> tuple[float, float]:
        """Model pixels per level pixel, along x and y; above 1 the level is enlarged for the model."""
        level = self.level_to_level0
        return (
            level.scale_x * self.slide_mpp.x / self.mpp_um,
            level.scale_y * self.slide_mpp.y / self.mpp_um,
        )

    def blocks(self) -> Iterator[slice]:
        """The patches of each reading block in turn, as slices into the plan's arrays."""
        for start, stop in zip(self.block_starts, [*self.block_starts[1:], len(self)], strict=True):
            yield slice(int(start), int(stop))


def plan_patches(
    tissue: TissueMask,
    slide_size: Size,
    slide_mpp: Mpp,
    levels: Sequence[Affine[Level, Level0]],
    size_px: int,
    mpp_um: float,
    overlap: float = 0.0,
    min_tissue: float = DEFAULT_MIN_TISSUE,
    cell_px: int = 32,
) -> PatchPlan:
    """Lays patches of ``size_px`` model pixels at ``mpp_um`` over the tissue.

    The grid starts at the corner of level 0 and ends with the first patch that reaches the far edge, so
    the last row and column may reach past it and nothing is lost there. The stride is a
    whole number of cells: ``overlap`` (a fraction of a patch) is rounded to the next smaller such stride,
    at least one cell. A patch is kept when the mask covers at least ``min_tissue`` of its part inside
    the slide (exact area of the mask's squares under the patch's float box), and any of it.

    ``levels`` are the maps of the slide's levels onto level 0, the finest first.
    Raises SettingsError for numbers that make no plan, SpacingError where the slide is coarser than the
    model by more than ``MAX_UPSAMPLING``, TissueError where no patch is left.
    """
    _check_settings(size_px, mpp_um, overlap, min_tissue, cell_px)
    stride_cells = stride_in_cells(size_px, cell_px, overlap)
    level = choose_level(levels, slide_mpp, mpp_um)
    cell = _cells_to_level0(cell_px, mpp_um, slide_mpp)
    patch = _patch_level0(size_px, mpp_um, slide_mpp)
    columns = GridAxis(slide_size.width, patch[0], cell.scale_x, stride_cells, levels[level].scale_x)
    rows = GridAxis(slide_size.height, patch[1], cell.scale_y, stride_cells, levels[level].scale_y)
    fractions = TissueFractions(tissue, columns)
    grid_xy, fraction, block_starts = _select(columns, rows, fractions, min_tissue)
    if len(grid_xy) == 0:
        raise TissueError(_why_nothing(tissue, columns, rows, fractions, min_tissue))
    return PatchPlan(
        size_px=size_px,
        mpp_um=mpp_um,
        cell_px=cell_px,
        stride_cells=stride_cells,
        map_cells=math.ceil(size_px / cell_px),
        requested_overlap=overlap,
        effective_overlap=effective_overlap(size_px, cell_px, overlap),
        min_tissue=min_tissue,
        level=level,
        level_to_level0=levels[level],
        slide_size=slide_size,
        slide_mpp=slide_mpp,
        cell_xy=grid_xy * stride_cells,
        tissue_fraction=fraction,
        block_starts=block_starts,
    )


def choose_level(levels: Sequence[Affine[Level, Level0]], slide_mpp: Mpp, mpp_um: float) -> int:
    """The coarsest level whose pixels are, along both axes, no larger than the model's (5 % apart at most).

    Where none is, the finest level, which is then enlarged. Raises SpacingError where that would be by
    more than ``MAX_UPSAMPLING``.
    """
    coarser_axis = [max(to0.scale_x * slide_mpp.x, to0.scale_y * slide_mpp.y) for to0 in levels]
    fine_enough = [i for i, um in enumerate(coarser_axis) if um <= mpp_um * (1 + LEVEL_TOLERANCE)]
    if fine_enough:
        return max(fine_enough, key=lambda i: levels[i].scale_x * levels[i].scale_y)
    finest = min(range(len(levels)), key=lambda i: coarser_axis[i])
    if coarser_axis[finest] > mpp_um * MAX_UPSAMPLING:
        raise SpacingError(
            f"the slide's finest pixels are {coarser_axis[finest]:.4g} um, the model needs {mpp_um:.4g} um: "
            "choose a model for a coarser spacing, or correct the slide's spacing with --mpp"
        )
    return finest


def _select(
    columns: GridAxis, rows: GridAxis, fractions: TissueFractions, min_tissue: float
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Grid positions (n, 2) with enough tissue in reading order, their fractions, and block starts."""
    grid_xy, kept, starts, planned = [], [], [], 0
    for first in range(0, rows.count, rows.per_block):
        fraction = fractions.of_rows(rows, first, min(first + rows.per_block, rows.count))
        row, column = np.nonzero((fraction >= min_tissue) & (fraction > 0))
        if len(row) == 0:
            continue
        # np.nonzero goes row by row; a stable sort by block keeps that order inside each block.
        block = column // columns.per_block
        order = np.argsort(block, kind="stable")
        row, column, block = row[order], column[order], block[order]
        grid_xy.append(np.stack([column, row + first], axis=1))
        kept.append(fraction[row, column].astype(np.float32))
        starts.append(planned + np.flatnonzero(np.diff(block, prepend=-1)))
        planned += len(row)
    if not grid_xy:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32), np.empty(0, np.int64)
    return np.concatenate(grid_xy), np.concatenate(kept), np.concatenate(starts)


def _why_nothing(
    tissue: TissueMask,
    columns: GridAxis,
    rows: GridAxis,
    fractions: TissueFractions,
    min_tissue: float,
) -> str:
    if not tissue.mask.any():
        return f"0 patches: the tissue mask ({tissue.source}) is empty; give a drawn region with --tissue"
    best = max(
        float(fractions.of_rows(rows, first, min(first + rows.per_block, rows.count)).max())
        for first in range(0, rows.count, rows.per_block)
    )
    if best == 0:
        return f"0 patches: the tissue ({tissue.source}) lies outside the slide; is it in level-0 pixels?"
    return (
        f"0 patches: the fullest patch holds {best:.3g} of tissue ({tissue.source}), --min-tissue asks for "
        f"{min_tissue:.3g}; lower it"
    )


def _check_settings(size_px: int, mpp_um: float, overlap: float, min_tissue: float, cell_px: int) -> None:
    if cell_px < 1 or size_px < cell_px:
        raise SettingsError(
            f"a patch of {size_px} px is smaller than one cell of {cell_px} px of the target layer"
        )
    if not (math.isfinite(mpp_um) and mpp_um > 0):
        raise SettingsError(f"the model's spacing is {mpp_um} um per pixel; it must be above 0")
    if not 0 <= overlap < 1:
        raise SettingsError(
            f"--overlap is a fraction of a patch from 0 to below 1, not {overlap:g} (0.5: half of it)"
        )
    if not 0 <= min_tissue <= 1:
        raise SettingsError(f"--min-tissue is a fraction from 0 to 1, not {min_tissue:g}")


def _cells_to_level0(cell_px: int, mpp_um: float, slide_mpp: Mpp) -> Affine[Heatmap, Level0]:
    return Affine(cell_px * mpp_um / slide_mpp.x, cell_px * mpp_um / slide_mpp.y)


def _patch_level0(size_px: int, mpp_um: float, slide_mpp: Mpp) -> tuple[float, float]:
    return size_px * mpp_um / slide_mpp.x, size_px * mpp_um / slide_mpp.y
