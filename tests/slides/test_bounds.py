"""A slide that states its bounds: level 0 is larger than what was scanned, and the rest is white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.make_leica import write_scn
from tests.make_slides import tissue_image
from wsi_cam import open_slide
from wsi_cam.geometry import Box, Size


def test_bounds_are_the_scanned_part_of_level_0(tmp_path: Path) -> None:
    image = tissue_image(700, 900, [(100, 80, 500, 450)])
    path = write_scn(tmp_path / "a.scn", image, mpp=0.5, corner=(288, 192), quality=98)
    with open_slide(path) as slide:
        info = slide.info
        assert (info.vendor, info.size) == ("leica", Size(900 + 2 * 288, 700 + 2 * 192))
        assert info.bounds == Box(288, 192, 900, 700)
        assert info.mpp is not None
        assert info.mpp.x == pytest.approx(0.5)
        seen = slide.read_region(0, (288, 192, 900, 700)).astype(int)
        assert np.abs(seen - image).mean() < 3
        assert (slide.read_region(0, (0, 0, 200, 150)) == 255).all()
