"""The OME-XML inside our TIFF files: sizes, spacings, channels, and where the picture lies on the slide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5
from xml.etree import ElementTree

from wsi_cam.export.class_colours import RGB
from wsi_cam.export.origin import Displayed, Origin
from wsi_cam.geometry import Affine, Heatmap, Mpp, S, Size
from wsi_cam.heatmap.ome_xml import add_channel, add_image, ome_root

_IDS = UUID("0a3fd0a8-1c6b-5a3c-8a3f-5b5a3e0f6c11")
_KEYS = "wsi_cam/heatmap"


@dataclass(frozen=True)
class TiffChannel:
    """Name and colour of a channel."""

    name: str
    colour: RGB


def heatmap_tiff_xml(
    name: str,
    size: Size,
    channels: Sequence[TiffChannel],
    pixel_mpp: Mpp,
    to_displayed: Affine[Heatmap, Displayed],
    origin: Origin,
    provenance: Mapping[str, Any],
    fingerprint: bytes,
) -> bytes:
    """OME-XML (2016-06) in UTF-8 for a file whose IFD i is channel i.

    ``pixel_mpp`` is the spacing of the picture's finest level in um. The annotation ``wsi_cam/heatmap``
    holds ``to_displayed`` (full-resolution pixels of the slide, as another program shows it by ``origin``)
    and the provenance as JSON. The file's UUID derives from all this and from ``fingerprint``, a sample of
    the pixels: equal content gives equal ids.
    """
    root = ome_root()
    image, pixels = add_image(root, name, "float", size, len(channels), pixel_mpp)
    for index, channel in enumerate(channels):
        add_channel(pixels, index, channel.name, channel.colour)
    for index in range(len(channels)):
        place = {"IFD": str(index), "PlaneCount": "1", "FirstC": str(index), "FirstZ": "0", "FirstT": "0"}
        ElementTree.SubElement(pixels, "TiffData", place)
    add_place(root, image, _KEYS, to_displayed, origin, provenance)
    return sealed(root, fingerprint)


def add_place(
    root: ElementTree.Element,
    image: ElementTree.Element,
    namespace: str,
    to_displayed: Affine[S, Displayed],
    origin: Origin,
    provenance: Mapping[str, Any],
) -> None:
    """A map annotation of the image: where it lies on the slide, and what it was made of."""
    ElementTree.SubElement(image, "AnnotationRef", {"ID": "Annotation:0"})
    annotations = ElementTree.SubElement(root, "StructuredAnnotations")
    attributes = {"ID": "Annotation:0", "Namespace": namespace}
    value = ElementTree.SubElement(ElementTree.SubElement(annotations, "MapAnnotation", attributes), "Value")
    # ASCII: a file name that is not UTF-8 (a lone surrogate in Python) has no place in XML but as an escape.
    facts = {
        "origin": origin,
        "scale_x": repr(to_displayed.scale_x),
        "scale_y": repr(to_displayed.scale_y),
        "offset_x": repr(to_displayed.offset_x),
        "offset_y": repr(to_displayed.offset_y),
        "provenance": json.dumps(provenance, sort_keys=True, ensure_ascii=True, allow_nan=False),
    }
    for key, text in facts.items():
        ElementTree.SubElement(value, "M", {"K": key}).text = text


def sealed(root: ElementTree.Element, fingerprint: bytes) -> bytes:
    """The document as UTF-8; its UUID derives from it and from ``fingerprint``, a sample of the pixels."""
    content = hashlib.sha256(ElementTree.tostring(root) + fingerprint).hexdigest()
    root.set("UUID", f"urn:uuid:{uuid5(_IDS, content)}")
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text
