"""Levels and tiles cover the picture, once and a seam's width."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_cam.geometry import Box
from wsi_cam.viewer.deep_zoom import OVERLAP_PX, TILE_PX, DeepZoom, TileAddress
from wsi_cam.viewer.not_found import NotFoundError

sides = st.integers(1, 3000)


def zoom(width: float, height: float, x: float = 0.0, y: float = 0.0) -> DeepZoom:
    return DeepZoom(Box(x, y, width, height))


@settings(deadline=None)
@given(sides, sides, st.integers(0, 12))
def test_the_tiles_of_a_level_hold_each_pixel_and_share_only_their_rims(w: int, h: int, level: int) -> None:
    deep = zoom(w, h)
    if level > deep.max_level:
        with pytest.raises(NotFoundError):
            deep.grid(level)
        return
    size = deep.grid(level).size
    columns, rows = -(-size.width // TILE_PX), -(-size.height // TILE_PX)
    held = np.zeros((size.height, size.width), np.uint8)
    for column in range(columns):
        for row in range(rows):
            x, y, width, height = deep.tile_box(TileAddress(level, column, row))
            assert (x, y) == (max(column * TILE_PX - OVERLAP_PX, 0), max(row * TILE_PX - OVERLAP_PX, 0))
            assert 0 < width <= TILE_PX + 2 * OVERLAP_PX
            assert 0 < height <= TILE_PX + 2 * OVERLAP_PX
            held[y : y + height, x : x + width] += 1
    assert held.min() == 1
    assert held.max() <= 4
    for beyond in (TileAddress(level, columns, 0), TileAddress(level, 0, rows), TileAddress(level, -1, 0)):
        with pytest.raises(NotFoundError):
            deep.tile_box(beyond)


@given(st.integers(1, 400_000), st.integers(1, 400_000))
def test_levels_halve_from_full_resolution_to_a_single_pixel(width: int, height: int) -> None:
    deep = zoom(width, height, 17.0, 5.0)
    for level in range(deep.max_level + 1):
        grid, factor = deep.grid(level), 2 ** (deep.max_level - level)
        assert (grid.size.width, grid.size.height) == (-(-width // factor), -(-height // factor))
        # An exact power of two from the same corner: no level drifts.
        assert (grid.to_level0.scale_x, grid.to_level0.offset_x, grid.to_level0.offset_y) == (factor, 17, 5)
    assert deep.grid(0).size.width == deep.grid(0).size.height == 1


@given(st.integers(1, 400_000), st.integers(1, 400_000), st.integers(1, 2000))
def test_the_level_of_a_thumbnail_is_the_finest_that_fits(width: int, height: int, limit: int) -> None:
    deep = zoom(width, height)
    level = deep.level_within(limit)
    size = deep.grid(level).size
    assert max(size.width, size.height) <= limit
    if level < deep.max_level:
        finer = deep.grid(level + 1).size
        assert max(finer.width, finer.height) > limit


def test_the_descriptor_is_what_deep_zoom_programs_read() -> None:
    image = ElementTree.fromstring(zoom(2220, 2967).descriptor())
    space = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert image.tag == f"{space}Image"
    assert image.attrib == {"Format": "jpg", "Overlap": str(OVERLAP_PX), "TileSize": str(TILE_PX)}
    assert image.find(f"{space}Size").attrib == {"Width": "2220", "Height": "2967"}  # type: ignore[union-attr]
