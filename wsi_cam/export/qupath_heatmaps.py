"""Heatmaps as pictures that QuPath's script lays over the slide, and where each belongs.

A PNG per class and layer with the colour's strength in its alpha, and ``heatmaps.json`` with their places in
full-resolution pixels of the slide as QuPath shows it. QuPath places a picture in whole pixels, so its
edges are rounded to the nearest one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_cam.export.colour_maps import ColourScale
from wsi_cam.export.cropping import heatmap_pixels_of
from wsi_cam.export.origin import Origin, level0_to_displayed
from wsi_cam.export.png import write_png
from wsi_cam.export.tables import EVIDENCE_MAX, PROBABILITY
from wsi_cam.geometry import Box, Level0
from wsi_cam.heatmap.store import HeatmapStore
from wsi_cam.inputs import safe_name
from wsi_cam.publishing import published

#: No side of a picture is longer: 64 MiB of RGBA is what a viewer takes without a thought.
LONGEST_SIDE = 4096
_STRIP_ROWS = 256


@dataclass(frozen=True, eq=False)
class HeatmapLayer:
    """One class of one store with the scale that colours it; ``layer`` is ``probability`` or ``evidence``."""

    layer: str
    store: HeatmapStore
    class_name: str
    scale: ColourScale

    @property
    def file_name(self) -> str:
        """Says which it is, and stays in its folder whatever the class is called."""
        index = self.store.channel_index(self.class_name)
        return f"{self.layer}_{index}_{safe_name(self.class_name)}.png"

    @property
    def measurement(self) -> str:
        """The patches' measurement that this layer's scale fits."""
        prefix = PROBABILITY if self.layer == "probability" else EVIDENCE_MAX
        return prefix + self.class_name


def write_heatmaps(
    folder: Path, heatmaps: Sequence[HeatmapLayer], bounds: Box[Level0] | None, origin: Origin
) -> list[Path]:
    """Write a PNG for each of ``heatmaps``, then ``heatmaps.json``; gives the files.

    Each picture is RGBA: the scale's colours; alpha rises with the value from 0 to 255 over the scale and is
    0 where no patch was seen. It is taken from the finest level whose sides are within ``LONGEST_SIDE``. The
    first of the list is the one that the script shows unasked. Raises OutputError.
    """
    placed = [_write_picture(folder, heatmap, bounds, origin) for heatmap in heatmaps]
    content = {
        "heatmaps": placed,
        # The ranges over which the script colours the patches' measurements.
        "measurements": [{"name": h.measurement, **_range_of(h.scale)} for h in heatmaps],
    }
    with published(folder / "heatmaps.json") as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*(folder / entry["file"] for entry in placed), folder / "heatmaps.json"]


def _write_picture(
    folder: Path, heatmap: HeatmapLayer, bounds: Box[Level0] | None, origin: Origin
) -> dict[str, Any]:
    """Write the PNG of one heatmap and give its entry in ``heatmaps.json``."""
    store = heatmap.store
    level, box = _level_and_box(store, bounds if origin == "qupath" else None)
    write_png(folder / heatmap.file_name, _picture(heatmap, level, box))
    place = level0_to_displayed(bounds, origin).box(store.level_to_level0(level).box(Box(*box)))
    left, top = _nearest(place.x), _nearest(place.y)
    return {
        "title": heatmap.scale.title,
        "class": heatmap.class_name,
        "layer": heatmap.layer,
        "file": heatmap.file_name,
        "x": left,
        "y": top,
        "width": _nearest(place.right) - left,
        "height": _nearest(place.bottom) - top,
        **_range_of(heatmap.scale),
    }


def _picture(heatmap: HeatmapLayer, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """RGBA (h, w, 4) of a box of one level; what is transparent is black as well, so that PNG packs it well.

    It is made in strips: it may weigh 64 MiB, and the floats in between ten times that.
    """
    left, top, width, height = box
    channel, scale = heatmap.store.channel_index(heatmap.class_name), heatmap.scale
    picture = np.zeros((height, width, 4), np.uint8)
    for start in range(0, height, _STRIP_ROWS):
        strip = picture[start : start + _STRIP_ROWS]
        values = heatmap.store.read(level, (left, top + start, width, len(strip)), [channel])[0]
        alpha = np.rint(np.nan_to_num(scale.fractions(values)) * 255).astype(np.uint8)
        strip[..., :3] = scale.colours(values)
        strip[..., 3] = alpha
        strip[alpha == 0] = 0
    return picture


def _level_and_box(store: HeatmapStore, shown: Box[Level0] | None) -> tuple[int, tuple[int, int, int, int]]:
    """The finest level on which the part shown is small enough, and the whole pixels that touch it there."""
    for level, size in enumerate(store.levels):
        box = (0, 0, size.width, size.height)
        if shown is not None:
            box = heatmap_pixels_of(shown, store.level_to_level0(level), size)
        if max(box[2:]) <= LONGEST_SIDE:
            break
    return level, box


def _nearest(coordinate: float) -> int:
    return math.floor(coordinate + 0.5)


def _range_of(scale: ColourScale) -> dict[str, Any]:
    return {"low": scale.low, "high": scale.high, "colour_map": scale.colour_map.capitalize()}
