"""Numbers as colours: perceptually uniform maps over fixed ranges.

A colour means the same number on every patch, slide and cohort.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import matplotlib
import numpy as np
from numpy.typing import NDArray

#: Share of the heatmap's colour in an overlay; the slide has the rest.
OPACITY = 0.5
#: Two maps, so that nobody takes a picture of one layer for one of the other.
PROBABILITY_MAP = "viridis"
EVIDENCE_MAP = "plasma"


@dataclass(frozen=True)
class ColourScale:
    """A fixed range of numbers, the map that colours it, and the words for it.

    ``layer`` is one word, ``title`` names layer, class and unit, ``meaning`` explains a colour.
    """

    low: float
    high: float
    colour_map: str
    layer: str
    title: str
    meaning: str
    open_ended: bool = False
    """Whether numbers beyond the range occur; they take the colour of its nearer end."""

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(f"no range for colours: {self.low} to {self.high}")

    def fractions(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where each value lies between ``low`` (0) and ``high`` (1), clipped; NaN stays NaN."""
        scaled = (np.asarray(values, dtype=np.float32) - self.low) / (self.high - self.low)
        clipped: NDArray[np.float32] = np.clip(scaled, 0.0, 1.0).astype(np.float32)
        return clipped

    def over(self, values: NDArray[np.float32], picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Colours of values (h, w) laid over an RGB picture (h, w, 3) in grey: a colour of
        the stain would mix with those of the map. Where values are NaN, the picture in pale grey.
        """
        grey = luma(picture)[..., None]
        blend = OPACITY * self.colours(values) + (1 - OPACITY) * grey
        covered = np.isfinite(values)[..., None]
        result: NDArray[np.uint8] = np.rint(np.where(covered, blend, 255 - 0.6 * (255 - grey))).astype(
            np.uint8
        )
        return result

    def colours(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """RGB (..., 3) of values (...); NaN has no colour and comes out as the lowest: mask it."""
        coloured: NDArray[np.uint8] = colour_table(self.colour_map)[self.steps(values)]
        return coloured

    def steps(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Where each value lies in the colour table, 0 to 255; 0 for NaN."""
        steps: NDArray[np.uint8] = np.rint(np.nan_to_num(self.fractions(values)) * 255).astype(np.uint8)
        return steps


def luma(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey (...) of RGB (..., 3), 0 to 255, as ITU-R BT.601 weighs the colours."""
    grey: NDArray[np.float32] = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return grey


def probability_scale(class_name: str) -> ColourScale:
    """0 to 1, for every model."""
    return ColourScale(
        0.0,
        1.0,
        PROBABILITY_MAP,
        "probability",
        f"probability of {class_name}",
        f"Colour: the model's probability of {class_name}, averaged over the patches that cover a place. "
        "The range is 0 to 1 on every slide.",
    )


def evidence_scale(class_name: str, scale: float) -> ColourScale:
    """0 to ``scale`` logits, which is a property of the model and class: the same on every slide."""
    return ColourScale(
        0.0,
        scale,
        EVIDENCE_MAP,
        "evidence",
        f"evidence for {class_name} (logit)",
        f"Colour: how strongly a place speaks for {class_name} (Grad-CAM, in logits). The range, "
        f"0 to {scale:.3g}, belongs to the model and is the same on every slide; "
        f"what speaks against is drawn as 0, what is stronger as {scale:.3g}.",
        open_ended=True,
    )


@cache
def colour_table(name: str) -> NDArray[np.uint8]:
    """256 colours (256, 3) of one of matplotlib's maps."""
    table: NDArray[np.uint8] = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3].copy()
    table.setflags(write=False)
    return table
