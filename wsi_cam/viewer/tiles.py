"""Tiles of the slide and of its heatmaps, as the pictures that a browser shows."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.export.colour_maps import ColourScale, colour_table, luma
from wsi_cam.export.jpeg import jpeg_bytes
from wsi_cam.export.slide_scaling import ScaledGrid, read_scaled
from wsi_cam.export.slide_view import heatmap_at
from wsi_cam.export.source import ExportSource
from wsi_cam.slides.slide import Slide
from wsi_cam.viewer.deep_zoom import PixelBox

#: The layers of a heatmap, and the fixed colour scale of each for a class.
LAYERS: dict[str, Callable[[ExportSource, str], ColourScale]] = {
    "probability": ExportSource.probability_scale,
    "evidence": ExportSource.evidence_scale,
}
#: A heatmap pixel is drawn by at least this many before the browser enlarges the tile.
_DRAWN_PX_PER_HEATMAP_PX = 8


@dataclass(frozen=True)
class Colouring:
    """What of the heatmaps to draw: a layer of a class, where its probability is at least ``hide_below``."""

    layer: str
    """One of :data:`LAYERS`."""
    class_name: str
    hide_below: float = 0.0

    def scale(self, source: ExportSource) -> ColourScale:
        return LAYERS[self.layer](source, self.class_name)


def slide_jpeg(slide: Slide, grid: ScaledGrid, box: PixelBox, grey: bool = False) -> bytes:
    """Part of the slide at a level's spacing: each pixel the mean of what it covers, white off the slide.

    ``grey`` takes the stain's colours out, which mix with those of a heatmap. Raises SlideError where it
    cannot be read.
    """
    picture = read_scaled(slide, grid, *box)
    if grey:
        picture = np.repeat(np.rint(luma(picture)).astype(np.uint8)[..., None], 3, axis=2)
    return jpeg_bytes(picture)


def heatmap_png(source: ExportSource, grid: ScaledGrid, box: PixelBox, colouring: Colouring) -> bytes:
    """Part of a heatmap in its fixed colours, the more transparent the lower; see :func:`heatmap_steps`.

    A palette of 256 colours holds all there is. Raises OutputError where the heatmap cannot be read.
    """
    steps = heatmap_steps(source, grid, box, colouring)
    picture = Image.fromarray(steps)
    picture.putpalette(colour_table(colouring.scale(source).colour_map).tobytes())
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=1, transparency=bytes(range(256)))
    return stream.getvalue()


def heatmap_steps(
    source: ExportSource, grid: ScaledGrid, box: PixelBox, colouring: Colouring
) -> NDArray[np.uint8]:
    """(height, width): the step 0 to 255 of the colour scale at each pixel's centre; also its opacity.

    0, which is not drawn, where nothing was seen or the probability is below ``hide_below``.
    """
    probability = colouring.layer == "probability"
    x, y, width, height = box
    place = (*grid.centres(x, width, y, height), grid.to_level0.scale_x)
    values = heatmap_at(source.probability if probability else source.evidence, colouring.class_name, *place)
    if colouring.hide_below > 0:
        certain = values if probability else heatmap_at(source.probability, colouring.class_name, *place)
        values = np.where(certain >= colouring.hide_below, values, np.float32(np.nan))
    return colouring.scale(source).steps(values)


def finest_heatmap_level(source: ExportSource, max_level: int) -> int:
    """The level of Deep Zoom above which a heatmap has nothing more to show than its enlargement."""
    affine = source.probability.to_level0
    halvings = int(np.log2(max(1.0, min(affine.scale_x, affine.scale_y) / _DRAWN_PX_PER_HEATMAP_PX)))
    return max(0, max_level - halvings)
