"""GeoJSON that QuPath reads.

One bad feature loses QuPath's user the whole file: a classification without a colour, a null,
an open ring, a ring that crosses itself, a GeometryCollection. Nothing of the kind is written here,
and the schema in the tests rejects each of them.
"""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from wsi_cam.export.class_colours import RGB, class_colours, displayed_class_names
from wsi_cam.export.number_text import coordinate_texts, float_texts, rounded
from wsi_cam.export.origin import Origin, level0_to_displayed
from wsi_cam.export.regions import Region
from wsi_cam.export.tables import EVIDENCE_MEAN, PatchTable
from wsi_cam.geometry import Box, Level0
from wsi_cam.publishing import published

logger = logging.getLogger(__name__)

#: A larger file is compressed; QuPath reads both.
GZIP_ABOVE_BYTES = 16 * 2**20
#: More objects than this keep QuPath loading for the better part of a minute.
MANY_TILES = 200_000

_IDS = UUID("7c0f5c9e-2d0b-5a53-9a43-0c9f8a4f5f4e")
_ROWS_AT_A_TIME = 8192


def write_patches_geojson(
    path: Path,
    table: PatchTable,
    *,
    bounds: Box[Level0] | None = None,
    origin: Origin = "qupath",
    colours: Mapping[str, RGB] | None = None,
    gzip_above_bytes: int = GZIP_ABOVE_BYTES,
) -> Path:
    """Write each patch as a tile object of QuPath; gives the path written.

    That is ``path`` (``*.geojson``), or ``path`` with ``.gz`` added where the text is longer than
    ``gzip_above_bytes``; an older file under the other name is removed. Readable patches are classified
    as their most probable class; measurements are ``prob_<Class>`` and ``evidence_max_<Class>``, left
    out where NaN; a patch that was not read has its status as its name. ``bounds`` are the
    slide's, subtracted for ``origin="qupath"``. Ids depend on the content only. Memory is that of
    the table. Raises OutputError where the file cannot be written.
    """
    if len(table) > MANY_TILES:
        logger.warning(
            "%s: %d tiles take QuPath long to load; regions and the raster show the same", path, len(table)
        )
    return write_features(path, _patch_features(table, bounds, origin, colours), gzip_above_bytes)


def write_regions_geojson(
    path: Path,
    regions: Iterable[Region],
    class_names: Sequence[str],
    *,
    bounds: Box[Level0] | None = None,
    origin: Origin = "qupath",
    colours: Mapping[str, RGB] | None = None,
    gzip_above_bytes: int = GZIP_ABOVE_BYTES,
) -> Path:
    """Write each region as a locked annotation of QuPath with its measurements; gives the path written.

    ``class_names`` are all classes of the model, so that names and colours agree with the patches'; the
    rest is as for ``write_patches_geojson``. Raises OutputError where the file cannot be written.
    """
    classifications = classification_texts(class_names, colours)
    shift = level0_to_displayed(bounds, origin)

    def features() -> Iterator[str]:
        for region in regions:
            verdict = classifications[region.class_name]
            numbers = as_json(region.measurements())
            yield feature_text(
                geometry_text(shapely.transform(region.polygon, shift.points)),
                f'{{"objectType":"annotation","classification":{verdict},"measurements":{numbers},"isLocked":true}}',
            )

    return write_features(path, features(), gzip_above_bytes)


def geometry_text(polygon: Polygon) -> str:
    """GeoJSON of a polygon, rounded to 0.01 px; should rounding make it invalid, of its valid parts."""
    rounded_polygon = shapely.transform(polygon, rounded)
    if rounded_polygon.is_valid:
        return f'{{"type":"Polygon","coordinates":{_rings_text(rounded_polygon)}}}'
    valid = shapely.transform(shapely.make_valid(rounded_polygon), rounded)
    parts = [part for part in shapely.get_parts(valid) if isinstance(part, Polygon) and part.is_valid]
    return f'{{"type":"MultiPolygon","coordinates":[{",".join(map(_rings_text, parts))}]}}'


def write_features(path: Path, features: Iterable[str], gzip_above_bytes: int = GZIP_ABOVE_BYTES) -> Path:
    """Write GeoJSON texts of features as a FeatureCollection, one a line; gives the path written.

    See ``write_patches_geojson`` for the compressed name. The bytes hold no time and no file name.
    """
    if path.suffix != ".geojson":
        raise ValueError(f"{path}: the name must end in .geojson")
    compressed = path.with_name(path.name + ".gz")
    with published(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[')
        separator = "\n"
        for feature in features:
            file.write(separator + feature)
            separator = ",\n"
        file.write("\n]}\n")
    if path.stat().st_size <= gzip_above_bytes:
        compressed.unlink(missing_ok=True)
        return path
    with published(compressed) as partial:
        _compress(path, partial)
    path.unlink()
    return compressed


def feature_text(geometry: str, properties: str) -> str:
    """A feature of a geometry and properties given as JSON texts; its id is the uuid5 of both."""
    body = f'"geometry":{geometry},"properties":{properties}'
    return f'{{"type":"Feature","id":"{uuid5(_IDS, body)}",{body}}}'


def classification_texts(class_names: Iterable[str], colours: Mapping[str, RGB] | None) -> dict[str, str]:
    """The JSON of QuPath's classification object of each class, colour included."""
    names = list(class_names)
    chosen, displayed = class_colours(names, colours), displayed_class_names(names)
    return {name: as_json({"name": displayed[name], "color": list(chosen[name])}) for name in names}


def as_json(value: object) -> str:
    """Compact JSON; refuses what JSON has no number for."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _patch_features(
    table: PatchTable, bounds: Box[Level0] | None, origin: Origin, colours: Mapping[str, RGB] | None
) -> Iterator[str]:
    classifications = classification_texts(table.class_names, colours)
    by_index = [f',"classification":{classifications[name]}' for name in table.class_names]
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        for geometry, class_index, status, measurements in zip(
            _squares(table, rows, bounds, origin),
            _most_probable(table, rows).tolist(),
            table.status[rows].tolist(),
            _measurements(table, rows),
            strict=True,
        ):
            verdict = by_index[class_index] if class_index >= 0 else f',"name":{as_json(status)}'
            yield feature_text(geometry, f'{{"objectType":"tile"{verdict}{measurements},"isLocked":true}}')


def _squares(table: PatchTable, rows: slice, bounds: Box[Level0] | None, origin: Origin) -> Iterator[str]:
    """Polygons of patches as JSON. Corners are computed from the rounded place and size of ``patches.csv``,
    so that an export from that file gives the same bytes as one from memory.
    """
    shift = level0_to_displayed(bounds, origin)
    first = rounded(table.level0_xy[rows])
    first, last = shift.points(first), shift.points(first + rounded(np.array(table.patch_level0)))
    columns = (coordinate_texts(c) for c in (first[:, 0], first[:, 1], last[:, 0], last[:, 1]))
    for x0, y0, x1, y1 in zip(*columns, strict=True):
        ring = f"[{x0},{y0}],[{x1},{y0}],[{x1},{y1}],[{x0},{y1}],[{x0},{y0}]"
        yield f'{{"type":"Polygon","coordinates":[[{ring}]]}}'


def _most_probable(table: PatchTable, rows: slice) -> NDArray[np.int64]:
    """(n,): index of the class of the highest probability; -1 where the patch is not classified."""
    probabilities = table.probabilities[rows]
    classified = table.readable[rows] & np.isfinite(probabilities).all(axis=1)
    best = np.argmax(np.where(classified[:, None], probabilities, 0.0), axis=1)
    return np.where(classified, best, -1)


def _measurements(table: PatchTable, rows: slice) -> Iterator[str]:
    """The ``measurements`` of each patch as JSON with a comma before; empty where there are none."""
    columns = []
    for name, values in table.columns():
        if not name.startswith(EVIDENCE_MEAN):
            key = as_json(name)
            columns.append([text and f"{key}:{text}" for text in float_texts(values[rows])])
    for texts in zip(*columns, strict=True):
        body = ",".join(filter(None, texts))
        yield f',"measurements":{{{body}}}' if body else ""


def _rings_text(polygon: Polygon) -> str:
    rings = []
    for ring in (polygon.exterior, *polygon.interiors):
        x, y = shapely.get_coordinates(ring).T
        points = zip(coordinate_texts(x), coordinate_texts(y), strict=True)
        rings.append("[" + ",".join(f"[{a},{b}]" for a, b in points) + "]")
    return "[" + ",".join(rings) + "]"


def _compress(path: Path, compressed: Path) -> None:
    """gzip without a name and a time in its header, so that equal text gives equal bytes."""
    with (
        path.open("rb") as source,
        compressed.open("wb") as target,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=target, mtime=0) as file,
    ):
        shutil.copyfileobj(source, file, 2**20)
