"""Outlines to pixels: which pixel centres lie inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon


def rings(geometry: Any) -> list[NDArray[np.float64]]:
    """The closed outlines (n, 2) of all polygons in ``geometry`` and of their holes."""
    polygons = [part for part in shapely.get_parts(geometry) if isinstance(part, Polygon)]
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(polygons)]


def rasterise(outlines: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Even-odd filling at pixel centres: along a row, each crossing of an outline turns in into out.

    ``outlines`` (n, 2) are closed, in pixels, and may leave the picture; ``size`` is (height, width). Work
    grows with the length of the outlines in rows, not with area times corners.
    """
    height, width = size
    begin = np.concatenate([ring[:-1] for ring in outlines]) if outlines else np.empty((0, 2))
    end = np.concatenate([ring[1:] for ring in outlines]) if outlines else np.empty((0, 2))
    low, high = np.minimum(begin[:, 1], end[:, 1]), np.maximum(begin[:, 1], end[:, 1])
    # The centre of row r lies at r + 0.5; an edge owns its upper end, not its lower one.
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
    count = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    along = (row + 0.5 - begin[edge, 1]) / (end[edge, 1] - begin[edge, 1])
    x = begin[edge, 0] + along * (end[edge, 0] - begin[edge, 0])
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    turns = np.zeros((height, width + 1), np.uint8)
    np.bitwise_xor.at(turns.reshape(-1), row * (width + 1) + column, 1)
    inside: NDArray[np.uint8] = np.bitwise_xor.accumulate(turns, axis=1)
    return inside[:, :width].astype(np.bool_)
