"""A pyramid as Philips writes it: JPEG tiles, levels padded to whole tiles, DICOM attributes as XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from tests.make_slides import Image, cut_tiles, downsampled, encode_jpeg

_ATTRIBUTE = '<Attribute Name="{}" Group="0x0000" Element="0x0000" PMSVR="{}">{}</Attribute>'


def write_philips_tiff(
    path: Path, image: Image, mpp: float = 0.25, levels: Sequence[int] = (1, 2, 4), tile: int = 64
) -> Path:
    """Level sizes are padded, so that only the XML tells the downsamples; level 0 is padded too."""
    full = _padded(image, tile * max(levels))[: image.shape[0], : image.shape[1]]
    with tifffile.TiffWriter(path) as tiff:
        for number, factor in enumerate(levels):
            level = _padded(downsampled(full, factor) if factor > 1 else full, 1 if number == 0 else tile)
            tiff.write(
                (encode_jpeg(part, 90, "420") for part in cut_tiles(level, tile)),
                shape=level.shape, dtype="uint8", tile=(tile, tile), compression="jpeg", photometric="ycbcr",
                subsampling=(2, 2), metadata=None, software="Philips DP v1.0", subfiletype=int(number > 0),
                description=_description(mpp, levels) if number == 0 else f"level={number} mag=20",
            )  # fmt: skip
    return path


def _padded(image: Image, tile: int) -> Image:
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % tile), (0, -width % tile), (0, 0)), constant_values=255)


def _description(mpp: float, levels: Sequence[int]) -> str:
    def spacing(factor: int) -> str:
        millimetres = mpp * factor / 1000
        return _ATTRIBUTE.format("DICOM_PIXEL_SPACING", "IString", f'"{millimetres}" "{millimetres}"')

    parts = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{spacing(factor)}</DataObject>'
        for factor in levels
    )
    slide = (
        _ATTRIBUTE.format("PIM_DP_IMAGE_TYPE", "IString", "WSI")
        + spacing(1)
        + _ATTRIBUTE.format(
            "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", "IDataObjectArray", f"<Array>{parts}</Array>"
        )
    )
    images = f'<Array><DataObject ObjectType="DPScannedImage">{slide}</DataObject></Array>'
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        + _ATTRIBUTE.format("PIM_DP_SCANNED_IMAGES", "IDataObjectArray", images)
        + "</DataObject>"
    )
