"""How much of a slide the patches of a class answer for, in mm2.

A heatmap pixel between a patch of tumour and one without has half of both probabilities. Counted whole or
not at all by a threshold, such pixels add or take half a stride on every side of a region: with a stride of
two cells of three that is 13 % of areas made of a few dozen patches, up or down by chance. So it is the
patches that are held against the threshold, and each counts for the share of the pixels that it has in the
stitching: a pixel that two patches cover equally, one above and one below, counts half. Without overlap
that is each patch's square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_cam.cohort.pixel_edges import pixel_edges
from wsi_cam.export.tables import PatchTable
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.stitcher import BandStitcher
from wsi_cam.tiling.patch_grid import ceil_but_rounding

_BAND_CELLS = 64  # rows of cells that are stitched together: bounds the memory


@dataclass(frozen=True)
class PatchLattice:
    """The lattice of cells on which a run laid its patches; one cell is one pixel of its heatmap, unless
    the run was asked for another spacing (``--heatmap-mpp``).
    """

    size: Size
    to_level0: Affine[Heatmap, Level0]
    mpp: Mpp
    """Of level 0."""
    map_cells: int
    stride_cells: int
    cell_um: float

    @property
    def resolution_mm(self) -> float:
        """The diagonal of a patch in the heatmap: a focus no longer may be one patch's mark.

        With overlap too: where its neighbours are just below the threshold, one patch lifts all of its
        pixels above it.
        """
        return math.sqrt(2) * self.map_cells * self.cell_um / 1000


def patch_lattice(record: dict[str, Any]) -> PatchLattice:
    """The lattice of a slide from its ``slide.json``.

    Raises KeyError, TypeError or ValueError for a damaged one.
    """
    slide, model, effective = record["slide"], record["model"], record["settings"]["effective"]
    cell_px, mpp_um = int(effective["cell_px"]), float(model["mpp_um"])
    slide_mpp = Mpp(*(float(axis) for axis in effective["mpp_um"]))
    cell_um = cell_px * mpp_um
    to_level0 = Affine[Heatmap, Level0](cell_um / slide_mpp.x, cell_um / slide_mpp.y)
    width, height = slide["size"]["width"], slide["size"]["height"]
    patch_px, stride_px = int(model["patch_size_px"]), int(effective["stride_px"])
    return PatchLattice(
        Size(ceil_but_rounding(width / to_level0.scale_x), ceil_but_rounding(height / to_level0.scale_y)),
        to_level0,
        slide_mpp,
        map_cells=-(-patch_px // cell_px),
        stride_cells=stride_px // cell_px,
        cell_um=cell_um,
    )


def answered_areas_mm2(
    table: PatchTable, lattice: PatchLattice, threshold: float, shown: Box[Level0] | None
) -> NDArray[np.float64]:
    """(c,): mm2 of the slide for which patches of each class have a probability of at least ``threshold``.

    ``shown`` is the part of level 0 that counts. Memory is flat in the slide's height. Raises ValueError
    where the patches do not lie on the lattice.
    """
    edges = pixel_edges(lattice.size, lattice.to_level0, lattice.mpp, shown)
    areas = np.zeros(len(table.class_names))

    def add_up(first_row: int, shares: NDArray[np.float32]) -> None:
        heights = edges.heights_mm[first_row : first_row + shares.shape[1]]
        areas[:] += np.einsum("crw,r,w->c", np.nan_to_num(shares), heights, edges.widths_mm)

    stitcher = BandStitcher(
        lattice.size, len(table.class_names), lattice.map_cells, lattice.stride_cells, add_up
    )
    readable = table.readable
    above = (table.probabilities[readable] >= threshold).astype(np.float32)
    scale = [lattice.to_level0.scale_x, lattice.to_level0.scale_y]
    cell_xy = np.rint(table.level0_xy[readable] / scale).astype(np.int64)
    order = np.argsort(cell_xy[:, 1], kind="stable")
    cell_xy, above = cell_xy[order], above[order]
    bands = cell_xy[:, 1] // _BAND_CELLS
    starts = np.flatnonzero(np.diff(bands, prepend=-1)).tolist()
    for start, stop in pairwise([*starts, len(cell_xy)]):
        stitcher.finish_above(int(cell_xy[start, 1]))
        stitcher.add(cell_xy[start:stop], above[start:stop])
    stitcher.close()
    return areas
