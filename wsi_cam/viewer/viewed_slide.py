"""One slide as the viewer shows it: where it lies, what is known of it, and its pixels, once needed."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import numpy as np

from wsi_cam.errors import OutputError, SlideError
from wsi_cam.export.colour_maps import ColourScale, colour_table
from wsi_cam.export.regions import Region, find_regions
from wsi_cam.export.source import ExportSource
from wsi_cam.export.tables import PatchTable
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Point
from wsi_cam.heatmap.store import HeatmapStore
from wsi_cam.slides.slide import Slide
from wsi_cam.viewer.deep_zoom import OVERLAP_PX, TILE_PX, DeepZoom
from wsi_cam.viewer.tiles import LAYERS, finest_heatmap_level

#: Colours of a legend; the browser draws what lies between.
_LEGEND_STEPS = 16


class ViewedSlide:
    """A finished slide, at one version of its results; safe to use from many threads.

    Coordinates that leave or enter are those of :class:`DeepZoom`, called ``shown``: level-0 pixels from the
    corner of what QuPath shows. Raises OutputError where the record does not say how large the slide is.
    """

    def __init__(self, source: ExportSource, version: str) -> None:
        self.source, self.version = source, version
        self.zoom = DeepZoom(_shown(source))
        self.users = 0
        """How many requests hold it; counted by the library."""
        self._opening = threading.Lock()
        self._slide: Slide | None = None
        self._closing = ExitStack()

    def slide(self) -> Slide:
        """The slide, opened at the first call; SlideError where it moved, changed or cannot be read."""
        with self._opening:
            if self._slide is None:
                self._slide = self._closing.enter_context(self.source.opened())
            return self._slide

    def close(self) -> None:
        with self._opening:
            self._closing.close()
            self._slide = None

    def facts(self) -> dict[str, Any]:
        """What the page needs before the first tile. Raises OutputError for results that cannot be read."""
        source, zoom, record = self.source, self.zoom, self.source.record
        try:
            self.slide()
            slide_error = None
        except SlideError as error:
            slide_error = str(error)
        return {
            "id": source.sample_id,
            "version": self.version,
            "slide_error": slide_error,
            "width": zoom.width,
            "height": zoom.height,
            "level0_origin": [zoom.shown.x, zoom.shown.y],
            "mpp_um": [source.mpp.x, source.mpp.y],
            "tiles": {
                "size": TILE_PX,
                "overlap": OVERLAP_PX,
                "max_level": zoom.max_level,
                "min_level": zoom.level_within(TILE_PX),
                "finest_heatmap_level": finest_heatmap_level(source, zoom.max_level),
            },
            "classes": [self._class_facts(name) for name in source.class_names],
            "shown_class": source.class_names.index(str(record["score"]["class"])),
            "score": record["score"],
            "model": record["model"],
        }

    def _class_facts(self, name: str) -> dict[str, Any]:
        source = self.source
        return {
            "name": name,
            "colour": "#{:02x}{:02x}{:02x}".format(*source.colours[name]),
            "scales": {layer: _legend(scale(source, name)) for layer, scale in LAYERS.items()},
        }

    def regions(self, class_name: str, threshold: float) -> list[dict[str, Any]]:
        """Regions of a class, the largest first: numbers, and rings as flat lists of x, y in shown pixels."""
        found = find_regions(self.source.probability, self.source.evidence, class_name, threshold)
        return [self._region(region) for region in found]

    def _region(self, region: Region) -> dict[str, Any]:
        corner = np.array([self.zoom.shown.x, self.zoom.shown.y])
        rings = [region.polygon.exterior, *region.polygon.interiors]
        return {
            **region.measurements(),
            "rings": [np.round(np.asarray(ring.coords)[:-1] - corner, 1).ravel().tolist() for ring in rings],
        }

    def numbers_at(self, shown_x: float, shown_y: float) -> dict[str, Any]:
        """What the model said about a place: every patch that covers it, and the heatmaps' pixel there."""
        level0 = Point[Level0](shown_x + self.zoom.shown.x, shown_y + self.zoom.shown.y)
        stores = {"probability": self.source.probability, "evidence": self.source.evidence}
        return {
            "level0": [level0.x, level0.y],
            "heatmap": {layer: _pixel_at(store, level0) for layer, store in stores.items()},
            "patches": self._patches_at(level0),
        }

    def _patches_at(self, level0: Point[Level0]) -> list[dict[str, Any]]:
        table = self.source.table
        away = np.array([level0.x, level0.y]) - table.level0_xy
        covering = np.flatnonzero(((away >= 0) & (away < table.patch_level0)).all(axis=1))
        return [self._patch(table, index) for index in covering.tolist()]

    def _patch(self, table: PatchTable, index: int) -> dict[str, Any]:
        x, y = table.level0_xy[index].tolist()
        width, height = table.patch_level0
        numbers = zip(
            table.class_names,
            table.probabilities[index],
            table.evidence_mean[index],
            table.evidence_max[index],
            strict=True,
        )
        return {
            "shown_box": [x - self.zoom.shown.x, y - self.zoom.shown.y, width, height],
            "level0": [x, y],
            "status": str(table.status[index]),
            "tissue": _number(table.tissue_fraction[index]),
            "classes": {
                name: {
                    "probability": _number(probability),
                    "evidence_mean": _number(mean),
                    "evidence_max": _number(highest),
                }
                for name, probability, mean, highest in numbers
            },
        }


def _shown(source: ExportSource) -> Box[Level0]:
    """The part of level 0 that QuPath shows."""
    try:
        size = source.record["slide"]["size"]
        whole = Box[Level0](0, 0, int(size["width"]), int(size["height"]))
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(
            f"{source.files.slide_json}: does not say how large the slide is; run the slide again"
        ) from error
    return whole if source.bounds is None else whole.intersection(source.bounds)


def _legend(scale: ColourScale) -> dict[str, Any]:
    table = colour_table(scale.colour_map)
    chosen = np.linspace(0, 255, _LEGEND_STEPS).round().astype(int)
    return {
        "low": scale.low,
        "high": scale.high,
        "title": scale.title,
        "meaning": scale.meaning,
        "open_ended": scale.open_ended,
        "colours": [
            f"rgb({r} {g} {b} / {step / 255:.3f})"
            for step, (r, g, b) in zip(chosen, table[chosen], strict=True)
        ],
    }


def _pixel_at(store: HeatmapStore, level0: Point[Level0]) -> dict[str, float | None]:
    """The finest pixel of each class that holds a place; nothing where none was seen."""
    inverse: Affine[Level0, Heatmap] = store.to_level0.inverse()
    place = inverse.point(level0)
    column, row = int(np.floor(place.x)), int(np.floor(place.y))
    if not (0 <= column < store.size.width and 0 <= row < store.size.height):
        return dict.fromkeys(store.channel_names)
    values = store.read(0, (column, row, 1, 1))[:, 0, 0]
    return {name: _number(value) for name, value in zip(store.channel_names, values, strict=True)}


def _number(value: np.float32) -> float | None:
    """A number as JSON takes it; None for NaN."""
    return float(value) if np.isfinite(value) else None
