"""Regions with a class, as people draw them: QuPath's GeoJSON and ASAP's XML."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import shapely
from shapely import MultiPolygon, Polygon

from wsi_cam.errors import DataError
from wsi_cam.tiling.outlines import read_geojson, valid_polygons

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
    for class_name, areas in read(path):
        if not class_name or not areas:
            passed_over["without a class" if areas else "that are no area"] += 1
            continue
        polygons.setdefault(class_name, []).extend(areas)
    for reason, count in passed_over.items():
        _log.warning("%s: objects %s passed over: %d", path, reason, count)
    if not polygons and not (may_be_empty and not passed_over):
        raise DataError(f"{path}: no area with a class; give every region its class and export again")
    return {
        name: MultiPolygon(valid_polygons(shapely.union_all(areas)))
        for name, areas in sorted(polygons.items())
    }


def _read_geojson(path: Path) -> Iterator[tuple[str, list[Polygon]]]:
    """Class name and areas of every object."""
    for drawn in read_geojson(path):
        yield drawn.class_name, drawn.polygons()


def _read_asap(path: Path) -> Iterator[tuple[str, list[Polygon]]]:
    """Group name and areas of every annotation; ASAP calls no group "None"."""
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
            if not all(math.isfinite(x) and math.isfinite(y) for _, x, y in corners):
                raise ValueError("a coordinate is no number")
        except (KeyError, ValueError, OverflowError) as cause:
            raise DataError(f"{path}: annotation {number} is damaged ({cause}); save it again") from cause
        areas = valid_polygons(Polygon([(x, y) for _, x, y in corners])) if len(corners) >= 3 else []
        yield "" if group == "None" else group, areas
