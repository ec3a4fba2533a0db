"""Regions drawn by a person: GeoJSON, as QuPath writes it, to a mask in place of the tissue found.

QuPath's coordinates are pixels of the image as QuPath shows it. Where it crops a slide to its bounds,
their corner is the ``origin`` to give here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from shapely import Polygon

from wsi_cam.errors import SettingsError, TissueError
from wsi_cam.geometry import Affine, Box, Level0, Point, Thumbnail
from wsi_cam.tiling.outlines import read_geojson
from wsi_cam.tiling.rasterise import rasterise, rings
from wsi_cam.tiling.tissue import TissueMask

log = logging.getLogger(__name__)

_SHAPES = ("Polygon", "MultiPolygon")


def read_roi(path: Path, origin: Point[Level0] | None = None) -> list[Polygon]:
    """The polygons of a GeoJSON file, in level-0 pixels.

    Polygons and MultiPolygons count, with their holes; other geometries are passed over with a warning. A
    self-intersecting outline is made valid. ``origin`` is added to all coordinates. Raises SettingsError for
    a file that cannot be read, is not GeoJSON, or holds no polygon.
    """
    passed_over: Counter[str] = Counter()
    polygons: list[Polygon] = []
    for drawn in read_geojson(path):
        if drawn.kind in _SHAPES:
            polygons += drawn.polygons()
        else:
            passed_over[drawn.kind] += 1
    for kind, count in passed_over.items():
        log.warning("%s: %d of type %s passed over, only polygons mark an area", path, count, kind)
    if not polygons:
        raise SettingsError(f"{path}: holds no polygon; draw a closed region in QuPath and export it again")
    if origin is not None:
        corner = np.array([origin.x, origin.y])
        polygons = [shapely.transform(p, lambda xy: xy + corner) for p in polygons]
    return polygons


def mask_from_polygons(
    polygons: Sequence[Polygon],
    thumbnail_shape: tuple[int, int],
    to_level0: Affine[Thumbnail, Level0],
    source: str,
) -> TissueMask:
    """The mask of ``thumbnail_shape`` (height, width) of the pixels whose centre lies in a polygon.

    ``polygons`` are valid, in level-0 pixels, and may overlap. An outline is thus true to half a thumbnail
    pixel (some 4 um). Raises TissueError where no pixel's centre is inside.
    """
    from_level0 = to_level0.inverse()
    # Merged, the outlines do not overlap, and one pass over all their rings decides inside and outside.
    merged = shapely.transform(shapely.union_all(polygons), from_level0.points)
    mask = rasterise(rings(merged), thumbnail_shape)
    if not mask.any():
        height, width = thumbnail_shape
        slide = to_level0.box(Box(0, 0, width, height))
        raise TissueError(
            f"{source}: its regions miss the slide or are smaller than an overview pixel; coordinates are "
            f"level-0 pixels, x {slide.x:.0f} to {slide.right:.0f} and y {slide.y:.0f} to {slide.bottom:.0f}"
        )
    return TissueMask(mask, to_level0, source)
