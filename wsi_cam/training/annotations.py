"""Regions with a class, as people draw them: QuPath's GeoJSON and ASAP's XML."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry import shape

from wsi_cam.errors import DataError

_log = logging.getLogger(__name__)

Regions = dict[str, MultiPolygon]


def read_annotations(path: Path, may_be_empty: bool = False) -> Regions:
    """All areas of each class, merged and valid, in level-0 pixels of the image as annotated.

    Objects without a class and objects that are no area are passed over with a warning. Raises
    DataError for a file that cannot be read or holds no area with a class; with ``may_be_empty`` one without
    any object is an answer too.
    """
    read = _read_asap if path.suffix.lower() == ".xml" else _read_geojson
    polygons: dict[str, list[Polygon]] = {}
    passed_over: Counter[str] = Counter()
    for class_name, outline in read(path):
        areas = [] if outline is None else _areas(outline)
        if not class_name or not areas:
            passed_over["without a class" if areas else "that are no area"] += 1
            continue
        polygons.setdefault(class_name, []).extend(areas)
    for reason, count in passed_over.items():
        _log.warning("%s: passed over %d objects %s", path, count, reason)
    if not polygons and not (may_be_empty and not passed_over):
        raise DataError(f"{path}: no area with a class; give every region its class and export again")
    return {name: _merged(areas) for name, areas in sorted(polygons.items())}


def _read_geojson(path: Path) -> Iterator[tuple[str, Any]]:
    """Class name and geometry of every feature."""
    try:
        data = path.read_bytes()
        content = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (OSError, EOFError, ValueError, zlib.error) as cause:
        raise DataError(f"{path}: no readable GeoJSON ({cause}); export it from QuPath again") from cause
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise DataError(f"{path}: not GeoJSON; export a FeatureCollection from QuPath")
    for number, feature in enumerate(features, start=1):
        properties = feature.get("properties")
        said = properties.get("classification") if isinstance(properties, dict) else None
        name = said.get("name") if isinstance(said, dict) else said
        try:
            with np.errstate(invalid="ignore"):  # NaN gets its own message
                geometry = shape(feature["geometry"]) if feature.get("geometry") else None
            if geometry is not None and not np.isfinite(shapely.get_coordinates(geometry)).all():
                raise ValueError("a coordinate is no number")
        except (
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            shapely.errors.ShapelyError,
        ) as cause:
            raise DataError(f"{path}: object {number} is damaged ({cause}); export it again") from cause
        yield str(name or ""), geometry


def _read_asap(path: Path) -> Iterator[tuple[str, Any]]:
    """Group name and outline of every annotation; ASAP calls no group "None"."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as cause:
        raise DataError(f"{path}: no readable XML ({cause}); save the annotations from ASAP again") from cause
    if root.tag != "ASAP_Annotations":
        raise DataError(
            f"{path}: not ASAP's XML (it begins with <{root.tag}>); save the annotations from ASAP"
        )
    for number, annotation in enumerate(root.iter("Annotation"), start=1):
        group = annotation.get("PartOfGroup", "")
        try:
            corners = sorted(
                (int(float(c.attrib["Order"])), float(c.attrib["X"].replace(",", ".")),
                 float(c.attrib["Y"].replace(",", ".")))
                for c in annotation.iter("Coordinate")
            )  # fmt: skip
        except (KeyError, ValueError) as cause:
            raise DataError(f"{path}: annotation {number} is damaged ({cause}); save it again") from cause
        outline = Polygon([(x, y) for _, x, y in corners]) if len(corners) >= 3 else None
        yield "" if group == "None" else group, outline


def _areas(outline: Any) -> list[Polygon]:
    """The polygons of a geometry, made valid; lines and points left over hold no area."""
    parts = shapely.get_parts(shapely.make_valid(shapely.force_2d(outline)))
    return [p for part in parts for p in shapely.get_parts(part) if isinstance(p, Polygon) and not p.is_empty]


def _merged(areas: list[Polygon]) -> MultiPolygon:
    return MultiPolygon(_areas(shapely.union_all(areas)))
