"""The OME-XML of the overlay: one RGB picture, its spacing, and where it lies on the slide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5
from xml.etree import ElementTree

from wsi_cam.export.origin import Displayed, Origin
from wsi_cam.export.slide_scaling import Scaled
from wsi_cam.geometry import Affine, Size

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_IDS = UUID("2d4d8c5a-6f5f-5a0e-8f0e-1c9a0d7e5b33")
_KEYS = "wsi_cam/overlay"


def overlay_tiff_xml(
    name: str,
    description: str,
    size: Size,
    um_per_px: float,
    to_displayed: Affine[Scaled, Displayed],
    origin: Origin,
    provenance: Mapping[str, Any],
    fingerprint: bytes,
) -> bytes:
    """OME-XML (2016-06) in UTF-8 for one RGB image of uint8 in the file's first IFD.

    The annotation holds ``to_displayed``, which leads to full-resolution pixels of the slide as another
    program shows it by ``origin``, and the provenance as JSON. The file's UUID derives from all this and
    from ``fingerprint``, a sample of the heatmap.
    """
    root = ElementTree.Element(
        "OME",
        {
            "xmlns": _NAMESPACE,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{_NAMESPACE} {_NAMESPACE}/ome.xsd",
            "Creator": "wsi_cam",
        },
    )
    image = ElementTree.SubElement(root, "Image", {"ID": "Image:0", "Name": name})
    ElementTree.SubElement(image, "Description").text = description
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        {
            "ID": "Pixels:0",
            "DimensionOrder": "XYCZT",
            "Type": "uint8",
            "SignificantBits": "8",
            "BigEndian": "false",
            "Interleaved": "true",
            "SizeX": str(size.width),
            "SizeY": str(size.height),
            "SizeC": "3",
            "SizeZ": "1",
            "SizeT": "1",
            "PhysicalSizeX": repr(float(um_per_px)),
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": repr(float(um_per_px)),
            "PhysicalSizeYUnit": "µm",
        },
    )
    ElementTree.SubElement(pixels, "Channel", {"ID": "Channel:0:0", "SamplesPerPixel": "3"})
    ElementTree.SubElement(
        pixels, "TiffData", {"IFD": "0", "PlaneCount": "1", "FirstC": "0", "FirstZ": "0", "FirstT": "0"}
    )
    ElementTree.SubElement(image, "AnnotationRef", {"ID": "Annotation:0"})
    annotations = ElementTree.SubElement(root, "StructuredAnnotations")
    annotation = ElementTree.SubElement(
        annotations, "MapAnnotation", {"ID": "Annotation:0", "Namespace": _KEYS}
    )
    value = ElementTree.SubElement(annotation, "Value")
    facts = {
        "origin": origin,
        "scale_x": repr(to_displayed.scale_x),
        "scale_y": repr(to_displayed.scale_y),
        "offset_x": repr(to_displayed.offset_x),
        "offset_y": repr(to_displayed.offset_y),
        "provenance": json.dumps(provenance, sort_keys=True, ensure_ascii=False, allow_nan=False),
    }
    for key, text in facts.items():
        ElementTree.SubElement(value, "M", {"K": key}).text = text
    content = hashlib.sha256(ElementTree.tostring(root) + fingerprint).hexdigest()
    root.set("UUID", f"urn:uuid:{uuid5(_IDS, content)}")
    xml: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return xml
