"""The part of a heatmap that another program shows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Size
from wsi_cam.heatmap.store import HeatmapStore, HeatmapWriter, open_heatmap


def heatmap_pixels_of(
    bounds: Box[Level0], to_level0: Affine[Heatmap, Level0], size: Size
) -> tuple[int, int, int, int]:
    """The whole heatmap pixels (x, y, width, height) that ``bounds`` touches, at least one.

    An edge within a thousandth of a pixel of a lattice line counts as lying on it.
    """
    box = to_level0.inverse().box(bounds)
    x = min(max(math.floor(box.x + 1e-3), 0), size.width - 1)
    y = min(max(math.floor(box.y + 1e-3), 0), size.height - 1)
    right = min(max(math.ceil(box.right - 1e-3), x + 1), size.width)
    bottom = min(max(math.ceil(box.bottom - 1e-3), y + 1), size.height)
    return x, y, right - x, bottom - y


def cropped_heatmap(store: HeatmapStore, bounds: Box[Level0], folder: Path) -> HeatmapStore:
    """A heatmap of the pixels that touch ``bounds``, with a pyramid of its own, in ``folder``.

    Values and spacing stay; ``to_level0`` gets the offset of the cut. Goes band by band, so that memory is
    flat in the height. Raises OutputError where ``folder`` cannot be written or the store cannot be read.
    """
    x, y, width, height = heatmap_pixels_of(bounds, store.to_level0, store.size)
    corner = store.to_level0.box(Box(x, y, width, height))
    writer = HeatmapWriter(
        folder,
        Size(width, height),
        store.channel_names,
        [channel.color for channel in store.channels],
        Affine(store.to_level0.scale_x, store.to_level0.scale_y, corner.x, corner.y),
        store.mpp,
        store.name,
        store.provenance,
        windows=[channel.window for channel in store.channels],
    )
    for first_row, rows in store.iter_bands():
        top, bottom = max(y - first_row, 0), min(y + height - first_row, rows.shape[1])
        if top < bottom:
            part = np.ascontiguousarray(rows[:, top:bottom, x : x + width])
            writer.write_rows(first_row + top - y, part)
    writer.finish()
    return open_heatmap(folder)
