"""Heatmaps of made-up values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.store import HeatmapStore, HeatmapWriter, open_heatmap

COLOURS = ((70, 130, 180), (200, 0, 0), (0, 158, 115))


def heatmap(
    folder: Path,
    values: NDArray[np.float32],
    to_level0: Affine[Heatmap, Level0],
    mpp: Mpp,
    class_names: Sequence[str] = ("normal", "tumour"),
) -> HeatmapStore:
    """A store of ``values`` (channels, height, width)."""
    writer = HeatmapWriter(
        folder,
        Size(values.shape[2], values.shape[1]),
        class_names,
        COLOURS[: len(class_names)],
        to_level0,
        mpp,
        folder.name.removesuffix(".ome.zarr"),
        {"slide": "made up", "settings": {"overlap": 0.5}},
    )
    writer.write_rows(0, values)
    writer.finish()
    return open_heatmap(folder)


def random_values(width: int, height: int, seed: int, channels: int = 2) -> NDArray[np.float32]:
    """Values (channels, height, width) with a third of the area, in spots, never seen (NaN)."""
    rng = np.random.default_rng(seed)
    values = rng.random((channels, height, width), dtype=np.float32)
    unseen = np.kron(rng.random((-(-height // 16), -(-width // 16))) < 1 / 3, np.ones((16, 16)))
    values[:, unseen[:height, :width] > 0] = np.nan
    return values
