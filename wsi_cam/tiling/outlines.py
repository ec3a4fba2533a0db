"""What people drew on a slide: the objects of a GeoJSON file, as QuPath writes it, and their polygons."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import Polygon
from shapely.geometry import shape

from wsi_cam.errors import OutlineError


@dataclass(frozen=True)
class DrawnObject:
    """One object of a file; coordinates are level-0 pixels of the image as QuPath shows it."""

    name: str
    """The file and the object's number, from 1."""
    class_name: str
    """Empty where it has none."""
    geometry: dict[str, Any] | None

    @property
    def kind(self) -> str:
        """What it was drawn as: ``Polygon``, ``LineString``, ... or ``no geometry``."""
        return "no geometry" if self.geometry is None else str(self.geometry["type"])

    def polygons(self) -> list[Polygon]:
        """Its areas, valid and flat; none for lines and points. Raises OutlineError for a damaged one."""
        if self.geometry is None:
            return []
        try:
            with np.errstate(invalid="ignore"):  # NaN gets its own message below
                drawn = shape(self.geometry)
            areas = valid_polygons(drawn) if np.isfinite(shapely.get_coordinates(drawn)).all() else None
        except (
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            shapely.errors.ShapelyError,
        ) as error:
            raise OutlineError(f"{self.name} is a damaged {self.kind} ({error}); export it again") from error
        if areas is None:
            raise OutlineError(f"{self.name} has a coordinate that is no number; export it again")
        return areas


def read_geojson(path: Path) -> Iterator[DrawnObject]:
    """The objects of a GeoJSON file, gzipped or not, whatever its name.

    Read are a FeatureCollection, a list of features, one feature, and a bare geometry; objects nested in a
    feature (``childObjects``) are passed over. Raises OutlineError for a file that cannot be read or is none.
    """
    content = _read_json(path)
    features = content.get("features") if isinstance(content, dict) else content
    for number, feature in enumerate(features if isinstance(features, list) else [content], start=1):
        is_feature = isinstance(feature, dict) and ("geometry" in feature or feature.get("type") == "Feature")
        geometry = (feature.get("geometry") or None) if is_feature else feature
        properties = feature.get("properties") if is_feature else None
        said = properties.get("classification") if isinstance(properties, dict) else None
        if geometry is not None and not (
            isinstance(geometry, dict) and isinstance(geometry.get("type"), str)
        ):
            raise OutlineError(
                f"{path}: is JSON but not GeoJSON (no type Feature, FeatureCollection or Polygon); "
                "export the regions as GeoJSON"
            )
        name = said.get("name") if isinstance(said, dict) else said
        yield DrawnObject(f"{path}: object {number}", str(name or ""), geometry)


def _read_json(path: Path) -> Any:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        return json.loads(content)
    except FileNotFoundError as error:
        raise OutlineError(f"{path}: no such file; give a GeoJSON file, as QuPath exports it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise OutlineError(
            f"{path}: cannot be read ({error}); give a GeoJSON file, as QuPath exports it"
        ) from error
    except UnicodeDecodeError as error:
        raise OutlineError(
            f"{path}: is not GeoJSON but a binary file; give a GeoJSON file, as QuPath exports it, or, for "
            "tissue, a mask as PNG or TIFF"
        ) from error
    except ValueError as error:
        raise OutlineError(f"{path}: is not GeoJSON ({error}); export it again as GeoJSON") from error


def valid_polygons(geometry: Any) -> list[Polygon]:
    """The polygons of a geometry once it is made valid, which may leave lines and points behind."""
    return polygons_in(shapely.make_valid(shapely.force_2d(geometry)))


def polygons_in(geometry: Any) -> list[Polygon]:
    """All polygons of a geometry or of a collection of geometries; what has no area is left out."""
    parts = shapely.get_parts(geometry)
    return [p for part in parts for p in shapely.get_parts(part) if isinstance(p, Polygon) and not p.is_empty]
