"""PNG files whose bytes depend on the pixels only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.publishing import published


def write_png(path: Path, picture: NDArray[np.uint8]) -> Path:
    """Write RGB (h, w, 3) or grey (h, w); gives ``path`` back. Raises OutputError."""
    with published(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG", compress_level=3)
    return path
