"""Regions drawn by a person: GeoJSON, as QuPath writes it, to a mask in place of the tissue found.

QuPath's coordinates are pixels of the image as QuPath shows it. Where it crops a slide to its bounds,
their corner is the ``origin`` to give here.
"""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry import shape

from wsi_cam.errors import SettingsError, TissueError
from wsi_cam.geometry import Affine, Box, Level0, Point, Thumbnail
from wsi_cam.tiling.rasterise import rasterise, rings
from wsi_cam.tiling.tissue import TissueMask

log = logging.getLogger(__name__)

_SHAPES = ("Polygon", "MultiPolygon")


def read_roi(path: Path, origin: Point[Level0] | None = None) -> list[Polygon]:
    """The polygons of a GeoJSON file (``.geojson``, ``.json``, either gzipped), in level-0 pixels.

    Read are a FeatureCollection, a list of features, one feature, and a bare geometry. Polygons and
    MultiPolygons count, with their holes; other geometries are passed over with a warning, and so
    are the objects nested in a feature (``childObjects``). A self-intersecting outline is made valid.
    ``origin`` is added to all coordinates.
    Raises SettingsError for a file that cannot be read, is not GeoJSON, or holds no polygon.
    """
    passed_over: Counter[str] = Counter()
    polygons: list[Polygon] = []
    for number, geometry in enumerate(_geometries(_read_json(path), path), start=1):
        kind = str(geometry.get("type")) if geometry is not None else "no geometry"
        if geometry is None or kind not in _SHAPES:
            passed_over[kind] += 1
            continue
        polygons += _valid_polygons(geometry, f"{path}: geometry {number}")
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


def _read_json(path: Path) -> Any:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        return json.loads(content)
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file; --tissue wants a GeoJSON file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); --tissue wants a GeoJSON file") from error
    except ValueError as error:  # also what is not UTF-8
        raise SettingsError(f"{path}: is not GeoJSON ({error}); export it again as GeoJSON") from error


def _geometries(content: Any, path: Path) -> Iterator[dict[str, Any] | None]:
    """Every geometry object of the file in turn; None for a feature without one."""
    kind = content.get("type") if isinstance(content, dict) else None
    if isinstance(content, list):
        features = content
    elif kind == "FeatureCollection" and isinstance(content.get("features"), list):
        features = content["features"]
    else:
        features = [content]
    for feature in features:
        geometry = feature.get("geometry") if _is_object(feature, "Feature") else feature
        if geometry is not None and not (
            isinstance(geometry, dict) and isinstance(geometry.get("type"), str)
        ):
            raise SettingsError(
                f"{path}: is JSON but not GeoJSON (no type Feature, FeatureCollection or Polygon); "
                "export the regions as GeoJSON"
            )
        yield geometry


def _is_object(value: Any, kind: str) -> bool:
    return isinstance(value, dict) and value.get("type") == kind


def _valid_polygons(geometry: dict[str, Any], name: str) -> list[Polygon]:
    try:
        with np.errstate(invalid="ignore"):  # NaN gets its own message below
            drawn = shapely.force_2d(shape(geometry))
        finite = np.isfinite(shapely.get_coordinates(drawn)).all()
        valid = shapely.make_valid(drawn) if finite else None
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        shapely.errors.ShapelyError,
    ) as error:
        raise SettingsError(f"{name}: is a damaged {geometry['type']} ({error}); export it again") from error
    if valid is None:
        raise SettingsError(f"{name}: has a coordinate that is no number; export it again")
    # Making it valid may leave lines and points behind; they hold no area.
    parts = [part for part in shapely.get_parts(valid) if isinstance(part, Polygon | MultiPolygon)]
    return [p for part in parts for p in shapely.get_parts(part) if not p.is_empty]
