"""Parts of an address as the things that they name. All raise NotFoundError for what can name nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from wsi_cam.viewer.deep_zoom import TileAddress
from wsi_cam.viewer.not_found import NotFoundError
from wsi_cam.viewer.tiles import LAYERS, Colouring
from wsi_cam.viewer.viewed_slide import ViewedSlide


def tile_address(level: str, name: str, suffix: str) -> TileAddress:
    """``10``, ``3_4.jpg``: column 3, row 4 of level 10."""
    column, _, row = name.removesuffix(f".{suffix}").partition("_")
    if not name.endswith(f".{suffix}"):
        raise NotFoundError(f"{name} is no tile of the kind {suffix}")
    return TileAddress(_whole(level), _whole(column), _whole(row))


def class_name(viewed: ViewedSlide, number: str) -> str:
    names = viewed.source.class_names
    if _whole(number) >= len(names):
        raise NotFoundError(f"there is no class {number}; there are {len(names)}")
    return names[int(number)]


def colouring(viewed: ViewedSlide, layer: str, number: str, query: Mapping[str, str]) -> Colouring:
    if layer not in LAYERS:
        raise NotFoundError(f"there is no heatmap of {layer!r}, only of {', '.join(LAYERS)}")
    hide_below = finite(query, "hide") if "hide" in query else 0.0
    if not 0 <= hide_below < 1:
        raise NotFoundError(f"hide is {hide_below}: no probability")
    return Colouring(layer, class_name(viewed, number), hide_below)


def threshold(query: Mapping[str, str]) -> float:
    value = finite(query, "threshold")
    if not 0 < value < 1:
        raise NotFoundError(f"threshold is {value}: no probability between 0 and 1")
    return value


def finite(query: Mapping[str, str], name: str) -> float:
    """A number of the query."""
    try:
        value = float(query.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise NotFoundError(f"{name} is {query.get(name, '')!r}: no number")
    return value


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise NotFoundError(f"{text!r} is no number of a level, tile or class")
    return int(text)
