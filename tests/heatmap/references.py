"""Heatmaps with holes, and slow and obvious ways to what is made of them: the oracles of these tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsi_cam.geometry import Size


@st.composite
def heatmaps(draw: st.DrawFn, max_height: int, max_width: int) -> NDArray[np.float32]:
    """Two channels of values, with pixels and whole rows that are NaN."""
    height, width = draw(st.integers(1, max_height)), draw(st.integers(1, max_width))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    heatmap = rng.normal(size=(2, height, width)).astype(np.float32)
    heatmap[:, rng.random((height, width)) < draw(st.sampled_from([0, 0.3, 0.9]))] = np.nan
    heatmap[:, rng.random(height) < draw(st.sampled_from([0, 0.5]))] = np.nan
    return heatmap


def put_bands(
    put: Callable[[int, NDArray[np.float32]], None], heatmap: NDArray[np.float32], cuts: Iterable[int]
) -> None:
    """Puts the heatmap in bands that end at ``cuts``; bands of nothing but NaN are left out."""
    height = heatmap.shape[1]
    edges = sorted({0, height, *(cut for cut in cuts if cut < height)})
    for top, bottom in itertools.pairwise(edges):
        if np.isfinite(heatmap[:, top:bottom]).any():
            put(top, heatmap[:, top:bottom])


def stitched(
    size: Size, cell_xy: NDArray[np.int64], maps: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weighted mean of all maps at every cell, a cell of a patch at a time; NaN where none lies."""
    n, channels, side, _ = maps.shape
    sums = np.zeros((channels, size.height, size.width))
    total = np.zeros((size.height, size.width))
    for patch in range(n):
        if np.isnan(maps[patch]).all():
            continue
        column, row = cell_xy[patch]
        for i in range(side):
            for j in range(side):
                y, x = row + i, column + j
                if 0 <= y < size.height and 0 <= x < size.width:
                    sums[:, y, x] += weights[i, j] * maps[patch, :, i, j]
                    total[y, x] += weights[i, j]
    total[total == 0] = np.nan
    return sums / total


def pyramid_level(finest: NDArray[np.floating], level: int) -> NDArray[np.float64]:
    """The mean of the finite pixels of each 2^level block of the finest level; NaN where a block has none."""
    channels, height, width = finest.shape
    side = 2**level
    means = np.full((channels, -(-height // side), -(-width // side)), np.nan)
    for c, y, x in np.ndindex(means.shape):
        block = finest[c, y * side : (y + 1) * side, x * side : (x + 1) * side].astype(np.float64)
        if np.isfinite(block).any():
            means[c, y, x] = block[np.isfinite(block)].mean()
    return means


def resampled(
    source: NDArray[np.floating],
    scale: tuple[float, float],
    offset: tuple[float, float],
    size: Size,
) -> NDArray[np.float64]:
    """Every target pixel as the mean of the finite source pixels under it, weighted by the area they share.

    ``scale`` and ``offset`` (y, x) take source coordinates to target coordinates.
    """
    channels, height, width = source.shape
    target = np.full((channels, size.height, size.width), np.nan)
    for c, y, x in np.ndindex(target.shape):
        total = area = 0.0
        for row in range(height):
            top, bottom = row * scale[0] + offset[0], (row + 1) * scale[0] + offset[0]
            tall = min(bottom, y + 1) - max(top, y)
            for column in range(width):
                left, right = column * scale[1] + offset[1], (column + 1) * scale[1] + offset[1]
                wide = min(right, x + 1) - max(left, x)
                if tall > 1e-6 and wide > 1e-6 and np.isfinite(source[c, row, column]):
                    total += tall * wide * source[c, row, column]
                    area += tall * wide
        if area > 0:
            target[c, y, x] = total / area
    return target
