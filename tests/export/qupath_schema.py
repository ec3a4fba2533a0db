"""The schema of GeoJSON that QuPath reads, with the rules that plain JSON Schema cannot say."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from shapely import GEOSException
from shapely.geometry import shape

SCHEMA = json.loads(Path(__file__).with_name("qupath_geojson.schema.json").read_text(encoding="utf-8"))


def _closed_ring(_: Any, wanted: bool, ring: Any, __: Any) -> Iterator[ValidationError]:
    if wanted and isinstance(ring, list) and ring and ring[0] != ring[-1]:
        yield ValidationError(f"the ring is open: {ring[0]} to {ring[-1]}")


def _simple_polygon(_: Any, wanted: bool, geometry: Any, __: Any) -> Iterator[ValidationError]:
    try:
        valid = shape(geometry).is_valid and shape(geometry).area > 0
    except (AttributeError, KeyError, TypeError, ValueError, GEOSException) as error:
        yield ValidationError(f"no geometry: {error}")
        return
    if wanted and not valid:
        yield ValidationError("the polygon crosses itself or has no area")


def _on_hundredths(_: Any, wanted: bool, number: Any, __: Any) -> Iterator[ValidationError]:
    if wanted and isinstance(number, int | float) and round(number, 2) != number:
        yield ValidationError(f"{number} is not rounded to 0.01")


_Validator: Any = validators.extend(
    Draft202012Validator,
    {"closedRing": _closed_ring, "simplePolygon": _simple_polygon, "onHundredths": _on_hundredths},
)


def _no_such_number(text: str) -> None:
    raise ValidationError(f"{text} is no JSON number")


def read_geojson(path: Path) -> dict[str, Any]:
    """The content of a plain or compressed file; JSON's own rules apply (no NaN)."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    content: dict[str, Any] = json.loads(text, parse_constant=_no_such_number)
    return content


def validate(content: Any) -> None:
    """Raises ValidationError for the first rule that ``content`` breaks; ids must differ, too."""
    _Validator(SCHEMA).validate(content)
    ids = [feature["id"] for feature in content["features"]]
    if len(set(ids)) < len(ids):
        raise ValidationError("two features have one id")
