"""A writer of small Leica slides (SCN), whose level 0 is larger than what was scanned: they have bounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.make_slides import Image, cut_tiles, downsampled, encode_jpeg

_NAMESPACE = "http://www.leica-microsystems.com/scn/2010/10/01"


def write_scn(
    path: Path,
    image: Image,
    mpp: float = 0.5,
    corner: tuple[int, int] = (512, 768),
    levels: Sequence[int] = (1, 4),
    tile: int = 256,
    quality: int = 90,
) -> Path:
    """``image`` as the scanned part of a larger level 0, with its upper left pixel at ``corner`` (x, y).

    OpenSlide reads it as ``leica``; around the scanned part there is nothing, which it shows as white.
    """
    height, width = image.shape[:2]
    nm = mpp * 1000
    glass = (corner[0] * 2 + width, corner[1] * 2 + height)
    macro = np.full((max(1, glass[1] // 64), max(1, glass[0] // 64), 3), 230, np.uint8)
    pictures = [macro, *(downsampled(image, f) if f > 1 else image for f in levels)]
    sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
    whole = (round(glass[0] * nm), round(glass[1] * nm))
    scanned = (round(width * nm), round(height * nm))
    offset = (round(corner[0] * nm), round(corner[1] * nm))
    description = (
        f'<?xml version="1.0"?><scn xmlns="{_NAMESPACE}"><collection sizeX="{whole[0]}" sizeY="{whole[1]}">'
        + _image(whole, (0, 0), [(0, sizes[0])], 0.6)
        + _image(scanned, offset, [*enumerate(sizes)][1:], 10)
        + "</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, picture in enumerate(pictures):
            encoded = [encode_jpeg(part, quality, "444") for part in cut_tiles(picture, tile)]
            factor = 64 if number == 0 else levels[number - 1]
            per_cm = 1e4 / (mpp * factor)
            page: dict[str, Any] = {"description": description} if number == 0 else {}
            tiff.write(
                iter(encoded), shape=picture.shape, dtype="uint8", tile=(tile, tile), compression="jpeg",
                photometric="ycbcr", subsampling=(1, 1), compressionargs={"outcolorspace": "ycbcr"},
                resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None, software=False,
                **page,
            )  # fmt: skip
    return path


def _image(
    size: tuple[int, int],
    offset: tuple[int, int],
    levels: Sequence[tuple[int, tuple[int, int]]],
    objective: float,
) -> str:
    dimensions = "".join(
        f'<dimension sizeX="{width}" sizeY="{height}" r="{r}" ifd="{ifd}"/>'
        for r, (ifd, (width, height)) in enumerate(levels)
    )
    (width, height) = levels[0][1]
    return (
        '<image><creationDate>2020-01-01T00:00:00Z</creationDate><device model="made up" version="1"/>'
        f'<pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>'
        f'<view sizeX="{size[0]}" sizeY="{size[1]}" offsetX="{offset[0]}" offsetY="{offset[1]}"/>'
        f"<scanSettings><objectiveSettings><objective>{objective}</objective></objectiveSettings>"
        "<illuminationSettings><numericalAperture>0.4</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
    )
