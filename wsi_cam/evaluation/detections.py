"""Points that a heatmap offers as lesions: non-maximum suppression on the probability map.

The most probable pixel becomes a point, the window around it is cleared, and so on until nothing above
the least probability is left. CAMELYON16's evaluation leaves this step to the contestant; window and least
probability are by default those of Li and Ping 2018 (arXiv 1806.07064, github.com/baidu-research/NCRF,
wsi/bin/nms.py): 12 pixels to each side at level 6 of 0.243 um/px, and 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.heatmap.store import HeatmapStore

NMS_UM = 12 * 64 * 0.243
LEAST_PROBABILITY = 0.5


@dataclass(frozen=True, eq=False)
class Detections:
    """Points of one slide, the most probable first."""

    level0_xy: NDArray[np.float64]
    """(n, 2), centres of heatmap pixels."""
    probability: NDArray[np.float32]
    """(n,)"""


def find_detections(
    store: HeatmapStore, channel: int, window_um: float = NMS_UM, least: float = LEAST_PROBABILITY
) -> Detections:
    """Points of a channel of a probability heatmap, at its finest level.

    ``window_um`` is how far the cleared window reaches to each side. Read band by band: memory is a byte per
    heatmap pixel and some 50 bytes per pixel above ``least``.
    """
    rows, columns, values = [], [], []
    for first_row, band in store.iter_bands(0, [channel]):
        row, column = np.nonzero(band[0] > least)  # never true for NaN
        rows.append(row + first_row)
        columns.append(column)
        values.append(band[0][row, column])
    mpp = store.pixel_mpp
    reach = (round(window_um / mpp.y), round(window_um / mpp.x))
    size = (store.size.height, store.size.width)
    row, column, probability = (np.concatenate(parts) for parts in (rows, columns, values))
    kept = suppress(row, column, probability, reach, size)
    centres = np.stack([column[kept], row[kept]], axis=1).astype(np.float64) + 0.5
    return Detections(store.to_level0.points(centres), probability[kept])


def suppress(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    probability: NDArray[np.float32],
    reach: tuple[int, int],
    size: tuple[int, int],
) -> NDArray[np.int64]:
    """Indices of the pixels (n,) that stay, the most probable first; among equals the upper left one.

    Every pixel stays or lies at most ``reach`` (rows, columns) from a pixel at least as probable that
    stays, and no two that stay lie so near. ``size`` is (rows, columns) of the map; pixels are in row order.
    """
    cleared = np.zeros(size, np.bool_)
    kept = []
    for index in np.argsort(-probability, kind="stable").tolist():
        y, x = int(row[index]), int(column[index])
        if not cleared[y, x]:
            kept.append(index)
            cleared[max(0, y - reach[0]) : y + reach[0] + 1, max(0, x - reach[1]) : x + reach[1] + 1] = True
    return np.array(kept, dtype=np.int64)
