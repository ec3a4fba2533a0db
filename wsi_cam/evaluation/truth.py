"""Where the target truly is on a slide: outlines that people drew, or a mask picture.

Both answer the same three questions in level-0 pixels, whatever lattice they are asked on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon

from wsi_cam.errors import DataError
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp, Size, Thumbnail
from wsi_cam.tiling import mask_picture
from wsi_cam.tiling.outlines import polygons_in
from wsi_cam.tiling.rasterise import rasterise, rings
from wsi_cam.training.annotated_slides import covered_share
from wsi_cam.training.annotations import Regions, read_annotations

#: A mask is kept at this spacing: level 4 of the 0.243 um/px of CAMELYON's slides. A byte per 15 um2.
MASK_UM = 0.243 * 2**4
#: Points along each side of a patch's label region at which a mask is asked.
_POINTS = 8
_BOXES_AT_A_TIME = 10_000
#: No slide is longer: 300 mm.
_LONGEST_UM = 300_000
#: Not PNG: beside annotations those are previews.
MASK_SUFFIXES = mask_picture.TIFF_SUFFIXES


class Truth(Protocol):
    """Where the target is on one slide."""

    @property
    def box(self) -> Box[Level0] | None:
        """A box around all of the target; None where there is none."""

    def raster(self, to_level0: Affine[Heatmap, Level0], size: Size) -> NDArray[np.bool_]:
        """(height, width): whether the centre of each pixel of a lattice lies in the target."""

    def share(self, level0_boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,): share of each box (n, 4; left, top, right, bottom) that is target."""


@dataclass(frozen=True)
class TruthClasses:
    """What class names in annotations and labels mean; upper and lower case count as equal."""

    target: tuple[str, ...]
    others: tuple[str, ...] = ()
    """Known classes that are not the target."""
    excluded: tuple[str, ...] = ()
    """Areas that are taken out of the target: holes, as CAMELYON's group _2."""

    def known(self, name: str) -> bool | None:
        """Whether a class is the target; None for a name that nobody explained."""
        if name.casefold() in _folded(self.target):
            return True
        return False if name.casefold() in _folded((*self.others, *self.excluded)) else None

    def is_target(self, name: str, where: str) -> bool:
        """Raises DataError for a name that nobody explained, with those that are known."""
        said = self.known(name)
        if said is None:
            known = ", ".join((*self.target, *self.others, *self.excluded))
            raise DataError(
                f"{where}: class {name!r} is unknown; known are {known}; say what it is with --target-name, "
                "--other-name or --hole-name"
            )
        return said


def _folded(names: Collection[str]) -> set[str]:
    return {name.casefold() for name in names}


class DrawnTruth:
    """Outlines, valid and merged, in level-0 pixels; no outline is a slide without the target."""

    def __init__(self, area: MultiPolygon) -> None:
        self.area = area

    @cached_property
    def box(self) -> Box[Level0] | None:
        if self.area.is_empty:
            return None
        left, top, right, bottom = self.area.bounds
        return Box(left, top, right - left, bottom - top)

    @cached_property
    def _rings(self) -> list[NDArray[np.float64]]:
        return rings(self.area)

    def raster(self, to_level0: Affine[Heatmap, Level0], size: Size) -> NDArray[np.bool_]:
        from_level0 = to_level0.inverse()
        outlines = [from_level0.points(ring) for ring in self._rings]
        # An outline wholly above or below these rows crosses none of them.
        near = [o for o in outlines if o[:, 1].max() >= 0 and o[:, 1].min() <= size.height]
        return rasterise(near, (size.height, size.width))

    def share(self, level0_boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        return covered_share(np.asarray(shapely.box(*level0_boxes.T)), self.area)


class MaskTruth:
    """A mask over the whole of level 0, kept as one byte per pixel of about ``MASK_UM``.

    ``mask`` (height, width); its pixels lead to level 0 by ``to_level0``. Questions are answered by the
    nearest of its pixels.
    """

    def __init__(self, mask: NDArray[np.bool_], to_level0: Affine[Thumbnail, Level0]) -> None:
        self.mask = mask
        self._from_level0 = to_level0.inverse()
        self._to_level0 = to_level0

    @cached_property
    def box(self) -> Box[Level0] | None:
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        if len(rows) == 0:
            return None
        width, height = int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1
        return self._to_level0.box(Box(int(columns[0]), int(rows[0]), width, height))

    def raster(self, to_level0: Affine[Heatmap, Level0], size: Size) -> NDArray[np.bool_]:
        to_mask = to_level0.then(self._from_level0)
        x = to_mask.scale_x * (np.arange(size.width) + 0.5) + to_mask.offset_x
        y = to_mask.scale_y * (np.arange(size.height) + 0.5) + to_mask.offset_y
        return self._at(x[None], y[:, None])

    def share(self, level0_boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        steps = (np.arange(_POINTS) + 0.5) / _POINTS
        shares = np.empty(len(level0_boxes))
        for first in range(0, len(shares), _BOXES_AT_A_TIME):
            rows = slice(first, first + _BOXES_AT_A_TIME)
            corners = self._from_level0.points(level0_boxes[rows].reshape(-1, 2, 2))
            begin, side = corners[:, 0, :, None], (corners[:, 1] - corners[:, 0])[:, :, None]
            places = begin + side * steps  # (boxes, x and y, points)
            shares[rows] = self._at(places[:, 0, None, :], places[:, 1, :, None]).mean(axis=(1, 2))
        return shares

    def _at(self, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """The mask at places of its own frame; outside of it there is no target."""
        height, width = self.mask.shape
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        column, row = (np.clip(np.floor(v), 0, n - 1).astype(np.int64) for v, n in ((x, width), (y, height)))
        found: NDArray[np.bool_] = inside & self.mask[row, column]
        return found


def read_truth(
    path: Path, classes: TruthClasses, size: Size | None, mpp: Mpp, bounds: Box[Level0] | None
) -> Truth:
    """The truth of a slide of this size, spacing and bounds, from GeoJSON, ASAP's XML or a mask TIFF.

    QuPath's coordinates begin at the slide's bounds where it has some, ASAP's and a mask's at the corner of
    level 0. In a mask every value but 0 is the target. ``size`` None (a slide that could not be opened)
    takes the mask's own size. Outlines end at the slide's edge. Raises DataError for files that cannot be
    read, class names that are not known, outlines mostly off the slide, a mask that has not its shape.
    """
    if path.suffix.lower() in MASK_SUFFIXES:
        return read_mask(path, size, mpp)
    area = target_area(read_annotations(path, may_be_empty=True), classes, path)
    if bounds is not None and path.suffix.lower() != ".xml":
        corner = np.array([bounds.x, bounds.y])
        area = shapely.transform(area, lambda xy: xy + corner)
    # Without a size, any slide that could be: it bounds the memory that lesions take.
    size = size or Size(round(_LONGEST_UM / mpp.x), round(_LONGEST_UM / mpp.y))
    return DrawnTruth(_on_slide(area, size, path))


def _on_slide(area: MultiPolygon, size: Size, path: Path) -> MultiPolygon:
    """The part on the slide: outlines are drawn over its edge, but not mostly off it."""
    left, top, right, bottom = (0, 0, 0, 0) if area.is_empty else area.bounds
    if min(left, top) >= 0 and right <= size.width and bottom <= size.height:
        return area
    inside = shapely.intersection(area, shapely.box(0, 0, size.width, size.height))
    if inside.area < area.area / 2:
        raise DataError(
            f"{path}: most of the target lies off the slide (x {left:.0f} to {right:.0f}, y {top:.0f} to "
            f"{bottom:.0f}, of {size.width} x {size.height} px); is it another slide's, or not in level-0 px?"
        )
    return MultiPolygon(polygons_in(inside))


def target_area(regions: Regions, classes: TruthClasses, path: Path) -> MultiPolygon:
    """All areas of the target without those that are excluded."""
    targets = [area for name, area in regions.items() if classes.is_target(name, str(path))]
    holes = [area for name, area in regions.items() if name.casefold() in _folded(classes.excluded)]
    return MultiPolygon(polygons_in(shapely.difference(shapely.union_all(targets), shapely.union_all(holes))))


def read_mask(path: Path, size: Size | None, mpp: Mpp) -> MaskTruth:
    """A mask TIFF at about ``MASK_UM``; see :func:`wsi_cam.tiling.mask_picture.read_mask`."""
    return MaskTruth(*mask_picture.read_mask(path, size, mpp, MASK_UM))
