"""``OME/METADATA.ome.xml``: the only place from which QuPath learns pixel size, channel names and colours.

NGFF describes this file for stores laid out by bioformats2raw. Beside ``multiscales`` in the root group
it is a deliberate addition: Bio-Formats' Zarr reader, which QuPath uses, looks for it there, and others
pass it by. Its numbers equal those of the ``coordinateTransformations``.
"""

from __future__ import annotations

from xml.etree import ElementTree

from wsi_cam.geometry import Mpp, Size
from wsi_cam.heatmap.ngff import HeatmapFacts, Rgb

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd"


def ome_xml(facts: HeatmapFacts) -> bytes:
    """The file's content, UTF-8: one image of type float with the heatmap's channels.

    No dates, and no ids but positions: equal heatmaps give equal bytes.
    """
    root = ome_root()
    _, pixels = add_image(root, facts.name, "float", facts.size, len(facts.channels), facts.pixel_mpp)
    for index, channel in enumerate(facts.channels):
        add_channel(pixels, index, channel.name, channel.color)
    ElementTree.SubElement(pixels, "MetadataOnly")
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text


def ome_root() -> ElementTree.Element:
    """An empty document of OME-XML 2016-06."""
    return ElementTree.Element(
        "OME",
        {
            "xmlns": _NAMESPACE,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{_NAMESPACE} {_SCHEMA}",
            "Creator": "wsi_cam",
        },
    )


def add_image(
    root: ElementTree.Element,
    name: str,
    kind: str,
    size: Size,
    channels: int,
    spacing: Mpp,
    interleaved: bool = False,
) -> tuple[ElementTree.Element, ElementTree.Element]:
    """The first image of a document and its Pixels; ``kind`` is OME's word for the dtype."""
    image = ElementTree.SubElement(root, "Image", {"ID": "Image:0", "Name": name})
    pixels = ElementTree.SubElement(
        image,
        "Pixels",
        {
            "ID": "Pixels:0",
            "DimensionOrder": "XYCZT",
            "Type": kind,
            "BigEndian": "false",
            "Interleaved": "true" if interleaved else "false",
            "SizeX": str(size.width),
            "SizeY": str(size.height),
            "SizeC": str(channels),
            "SizeZ": "1",
            "SizeT": "1",
            "PhysicalSizeX": repr(float(spacing.x)),
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": repr(float(spacing.y)),
            "PhysicalSizeYUnit": "µm",
        },
    )
    return image, pixels


def add_channel(pixels: ElementTree.Element, index: int, name: str, color: Rgb) -> None:
    """One channel of one sample per pixel."""
    attributes = {
        "ID": f"Channel:0:{index}",
        "Name": name,
        "Color": str(signed_rgba(color)),
        "SamplesPerPixel": "1",
    }
    ElementTree.SubElement(pixels, "Channel", attributes)


def signed_rgba(color: Rgb) -> int:
    """An opaque colour as OME writes it: red, green, blue, alpha in one signed 32-bit number."""
    red, green, blue = color
    value = red << 24 | green << 16 | blue << 8 | 255
    return value - 2**32 if value >= 2**31 else value
