"""Regions as annotations of ASAP, the slide viewer whose XML the CAMELYON challenges made common.

ASAP shows the whole of level 0 whatever bounds a slide states, so coordinates are level-0 pixels always.
It knows no holes: a hole is a polygon of its own, in the group "<class> holes", as CAMELYON wrote
exclusions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import LinearRing

from wsi_cam.export.class_colours import RGB, displayed_class_names
from wsi_cam.export.number_text import rounded
from wsi_cam.export.regions import Region
from wsi_cam.publishing import published

_HOLES: RGB = (255, 255, 255)


def write_asap_xml(
    path: Path, regions: Iterable[Region], class_names: Sequence[str], colours: Mapping[str, RGB]
) -> Path:
    """Write the outlines of regions; gives ``path`` back.

    Each of the model's ``class_names`` has a group, named as in QuPath (``Tumour (model)``) and of its
    colour, whether it has regions or not. Raises OutputError where the file cannot be written.
    """
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    displayed = displayed_class_names(class_names)
    for name in class_names:
        _add_group(groups, displayed[name], colours[name])
    with_holes: set[str] = set()
    for number, region in enumerate(regions):
        group, colour = displayed[region.class_name], colours[region.class_name]
        _add_polygon(annotations, f"region {number}", group, colour, region.polygon.exterior)
        for index, hole in enumerate(region.polygon.interiors):
            with_holes.add(group)
            _add_polygon(annotations, f"region {number} hole {index}", f"{group} holes", _HOLES, hole)
    for group in sorted(with_holes):
        _add_group(groups, f"{group} holes", _HOLES)
    ElementTree.indent(root, space="\t")
    with published(path) as partial:
        text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
        partial.write_bytes(text + b"\n")
    return path


def _add_group(groups: ElementTree.Element, name: str, colour: RGB) -> None:
    attributes = {"Name": name, "PartOfGroup": "None", "Color": _hex(colour)}
    ElementTree.SubElement(ElementTree.SubElement(groups, "Group", attributes), "Attributes")


def _add_polygon(
    annotations: ElementTree.Element, name: str, group: str, colour: RGB, ring: LinearRing
) -> None:
    """A ring without its repeated last point: ASAP closes polygons itself."""
    attributes = {"Name": name, "Type": "Polygon", "PartOfGroup": group, "Color": _hex(colour)}
    coordinates = ElementTree.SubElement(
        ElementTree.SubElement(annotations, "Annotation", attributes), "Coordinates"
    )
    points: NDArray[np.float64] = rounded(shapely.get_coordinates(ring)[:-1])
    for order, (x, y) in enumerate(points.tolist()):
        ElementTree.SubElement(coordinates, "Coordinate", {"Order": str(order), "X": repr(x), "Y": repr(y)})


def _hex(colour: RGB) -> str:
    return "#{:02X}{:02X}{:02X}".format(*colour)
