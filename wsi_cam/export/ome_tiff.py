"""The heatmap as one OME-TIFF of numbers, for QuPath, Bio-Formats and napari.

float32 with NaN where nothing was seen, a channel per class and layer, the pyramid of the stores as SubIFDs
(Bio-Formats sees one level only of a chain of plain IFDs), deflate without a predictor (Bio-Formats
refuses the floating-point one), BigTIFF. Equal stores give equal bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffWriter

from wsi_cam.export.cropping import cropped_heatmap
from wsi_cam.export.ome_tiff_xml import TiffChannel, heatmap_tiff_xml
from wsi_cam.export.origin import Origin, level0_to_displayed
from wsi_cam.geometry import Box, Level0, Size
from wsi_cam.heatmap.store import HeatmapStore
from wsi_cam.publishing import published

TILE_PX = 256


@dataclass(frozen=True)
class _Plane:
    """One channel of the file: a channel of a store."""

    store: HeatmapStore
    index: int
    layer: str

    @property
    def described(self) -> TiffChannel:
        channel = self.store.channels[self.index]
        return TiffChannel(f"{channel.name} {self.layer}", channel.color)


def write_heatmap_ome_tiff(
    path: Path,
    probability: HeatmapStore,
    evidence: HeatmapStore,
    *,
    bounds: Box[Level0] | None = None,
    origin: Origin = "qupath",
) -> Path:
    """Write both layers of a heatmap as one OME-TIFF; gives ``path`` (``*.ome.tif``) back.

    Channels are "<Class> probability" of all classes, then "<Class> evidence". Where the slide has
    ``bounds`` and ``origin`` is ``"qupath"``, the picture is cut to the whole heatmap pixels that touch the
    bounds; the exact place of its corner is in the file's annotation either way. Memory holds a row of tiles
    of one channel. Raises OutputError where the file cannot be written or a store cannot be read, ValueError
    where the stores do not lie on one lattice.
    """
    if (probability.size, probability.to_level0) != (evidence.size, evidence.to_level0):
        raise ValueError(f"{probability.folder} and {evidence.folder} do not lie on one lattice")
    if bounds is None or origin == "level0":
        return _write(path, probability, evidence, None, origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        cut = [
            cropped_heatmap(store, bounds, Path(folder) / f"{name}.ome.zarr")
            for name, store in (("probability", probability), ("evidence", evidence))
        ]
        return _write(path, cut[0], cut[1], bounds, origin)


def _write(
    path: Path,
    probability: HeatmapStore,
    evidence: HeatmapStore,
    bounds: Box[Level0] | None,
    origin: Origin,
) -> Path:
    planes = [
        _Plane(store, index, layer)
        for store, layer in ((probability, "probability"), (evidence, "evidence"))
        for index in range(len(store.channels))
    ]
    levels = probability.levels
    coarsest = b"".join(store.read(len(levels) - 1).tobytes() for store in (probability, evidence))
    xml = heatmap_tiff_xml(
        name=path.name,
        size=probability.size,
        channels=[plane.described for plane in planes],
        pixel_mpp=probability.pixel_mpp,
        to_displayed=probability.to_level0.then(level0_to_displayed(bounds, origin)),
        origin=origin,
        provenance=probability.provenance,
        fingerprint=coarsest,
    )
    spacing = probability.pixel_mpp
    with published(path) as partial, TiffWriter(partial, bigtiff=True, ome=False) as tiff:
        for level, size in enumerate(levels):
            tiff.write(
                _tiles(planes, level, size),
                shape=(len(planes), size.height, size.width),
                dtype=np.float32,
                tile=(TILE_PX, TILE_PX),
                photometric="minisblack",
                compression="adobe_deflate",
                compressionargs={"level": 6},
                predictor=False,
                subifds=len(levels) - 1 if level == 0 else None,
                subfiletype=0 if level == 0 else 1,
                description=xml if level == 0 else None,
                resolution=(1e4 / (spacing.x * 2**level), 1e4 / (spacing.y * 2**level)),
                resolutionunit="CENTIMETER",
                software="wsi_cam",
                metadata=None,
                maxworkers=1,
            )
    return path


def _tiles(planes: Sequence[_Plane], level: int, size: Size) -> Iterator[NDArray[np.float32]]:
    """Tiles of a level, plane by plane, row by row; NaN past the edges."""
    columns = -(-size.width // TILE_PX)
    for plane in planes:
        for y in range(0, size.height, TILE_PX):
            rows = min(TILE_PX, size.height - y)
            band = np.full((TILE_PX, columns * TILE_PX), np.nan, dtype=np.float32)
            band[:rows, : size.width] = plane.store.read(level, (0, y, size.width, rows), [plane.index])[0]
            for x in range(0, columns * TILE_PX, TILE_PX):
                yield np.ascontiguousarray(band[:, x : x + TILE_PX])
