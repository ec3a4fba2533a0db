"""The OME-XML of the overlay: one RGB picture, its spacing, and where it lies on the slide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from wsi_cam.export.ome_tiff_xml import add_place, sealed
from wsi_cam.export.origin import Displayed, Origin
from wsi_cam.export.slide_scaling import Scaled
from wsi_cam.geometry import Affine, Mpp, Size
from wsi_cam.heatmap.ome_xml import add_image, ome_root

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
    root = ome_root()
    image, pixels = add_image(root, name, "uint8", size, 3, Mpp(um_per_px, um_per_px), interleaved=True)
    about = ElementTree.Element("Description")
    about.text = description
    image.insert(0, about)  # the schema wants it before the pixels
    ElementTree.SubElement(pixels, "Channel", {"ID": "Channel:0:0", "SamplesPerPixel": "3"})
    ElementTree.SubElement(
        pixels, "TiffData", {"IFD": "0", "PlaneCount": "1", "FirstC": "0", "FirstZ": "0", "FirstT": "0"}
    )
    add_place(root, image, _KEYS, to_displayed, origin, provenance)
    return sealed(root, fingerprint)
