"""Pictures of a slide as JPEG."""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_QUALITY = 87


def jpeg_bytes(picture: NDArray[np.uint8]) -> bytes:
    """RGB (h, w, 3) as scanners write it: colours at half resolution. (At full resolution Bio-Formats 7.3.1
    mixes the colours of YCbCr up, and plain RGB takes two and a half times the space.)
    """
    return bytes(
        imagecodecs.jpeg8_encode(
            picture, level=_QUALITY, colorspace="rgb", outcolorspace="ycbcr", subsampling="420"
        )
    )
