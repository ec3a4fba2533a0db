"""A heatmap on disk: an OME-Zarr pyramid of axes c, y, x in float32, NaN where nothing was seen.

:class:`HeatmapWriter` takes rows from top to bottom; :func:`open_heatmap` gives back a :class:`HeatmapStore`
that reads windows. NGFF 0.4 lies in Zarr v2, 0.5 in Zarr v3 with one shard per row of a few chunks. Equal
heatmaps give equal bytes: no ids, no times, and Blosc works in one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wsi_cam.errors import OutputError
from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.chunk_files import ChunkFiles
from wsi_cam.heatmap.ngff import (
    Channel,
    HeatmapFacts,
    Ngff,
    Rgb,
    channels_of,
    facts_from_attributes,
    group_attributes,
    level_sizes,
    plain_json,
)
from wsi_cam.heatmap.ome_xml import ome_xml
from wsi_cam.heatmap.pyramid import PyramidRows

DEFAULT_CHUNK = (256, 256)
"""Rows and columns of a chunk, which holds one channel."""


class HeatmapWriter:
    """Writes a heatmap of known size row by row; memory is that of :class:`PyramidRows`, flat in the height.

    ``folder`` must be new or empty, and its final name must end in ``.ome.zarr`` (QuPath refuses others);
    whoever needs it to appear whole gives a temporary name and renames it. Until :meth:`finish` has run,
    :func:`open_heatmap` refuses the folder: what makes it a heatmap is written last.

    ``channel_colors`` are red, green, blue 0..255; ``windows`` are the values shown from black to full colour
    (default 0 to 1); ``mpp`` is the spacing of the slide's level 0, to which ``to_level0`` leads from the
    heatmap's pixels; ``provenance`` is anything JSON can say; ``chunk`` is (rows, columns).

    All methods raise OutputError where the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        size: Size,
        channel_names: Sequence[str],
        channel_colors: Sequence[Rgb],
        to_level0: Affine[Heatmap, Level0],
        mpp: Mpp,
        name: str,
        provenance: Mapping[str, Any],
        windows: Sequence[tuple[float, float]] | None = None,
        ngff: Ngff = "0.4",
        chunk: tuple[int, int] = DEFAULT_CHUNK,
    ) -> None:
        self.folder = Path(folder)
        self.facts = HeatmapFacts(
            name=name,
            size=size,
            channels=channels_of(channel_names, channel_colors, windows),
            to_level0=to_level0,
            mpp=mpp,
            provenance=plain_json(dict(provenance)),
        )
        self._ngff = ngff
        sizes = level_sizes(size)
        with _writing(self.folder):
            if self.folder.exists() and any(self.folder.iterdir()):
                raise OutputError(f"{self.folder}: holds files already; remove it or choose another folder")
            self._group = zarr.create_group(self.folder, zarr_format=3 if ngff == "0.5" else 2)
            self._group.create_group("OME")
            files = ChunkFiles(self.folder, self._group, sizes, len(channel_names), chunk)
        self._rows = PyramidRows(sizes, len(channel_names), chunk, files.write)

    def write_rows(self, first_row: int, rows: NDArray[np.float32]) -> None:
        """Writes rows (channels, rows, width) that begin at ``first_row``, below all rows written before.

        Rows left out are NaN; chunks of NaN alone take no place on disk. All channels must be NaN at the
        same pixels. Raises ValueError where rows do not fit or come out of order.
        """
        with _writing(self.folder):
            self._rows.put(first_row, rows)

    def finish(self) -> None:
        """Writes what is still held, then the metadata that makes the folder a heatmap."""
        with _writing(self.folder):
            self._rows.close()
            (self.folder / "OME" / "METADATA.ome.xml").write_bytes(ome_xml(self.facts))
            self._group.update_attributes(group_attributes(self.facts, self._ngff))


class HeatmapStore:
    """A stored heatmap, read lazily; made by :func:`open_heatmap`.

    ``levels`` are the sizes of the pyramid's levels, finest first; boxes are whole pixels
    (x, y, width, height) of the level they are read from.
    """

    def __init__(
        self, folder: Path, facts: HeatmapFacts, arrays: Sequence[zarr.Array[Any]], ngff: Ngff
    ) -> None:
        self.folder = folder
        self.facts = facts
        self.ngff = ngff
        self.levels = tuple(Size(array.shape[2], array.shape[1]) for array in arrays)
        self._arrays = tuple(arrays)

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def size(self) -> Size:
        """Size of the finest level."""
        return self.facts.size

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self.facts.channels

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.facts.channels)

    @property
    def to_level0(self) -> Affine[Heatmap, Level0]:
        """From pixels of the finest level to the slide's level 0."""
        return self.facts.to_level0

    @property
    def mpp(self) -> Mpp:
        """Spacing of the slide's level 0, um."""
        return self.facts.mpp

    @property
    def pixel_mpp(self) -> Mpp:
        """Spacing of the heatmap's finest pixels, um."""
        return self.facts.pixel_mpp

    @property
    def provenance(self) -> dict[str, Any]:
        return self.facts.provenance

    def level_to_level0(self, level: int) -> Affine[Heatmap, Level0]:
        """From pixels of a level of the pyramid to the slide's level 0."""
        finest = self.facts.to_level0
        factor = 2.0**level
        return Affine(finest.scale_x * factor, finest.scale_y * factor, finest.offset_x, finest.offset_y)

    def channel_index(self, name: str) -> int:
        """Raises OutputError where there is no such channel."""
        try:
            return self.channel_names.index(name)
        except ValueError:
            known = ", ".join(self.channel_names)
            raise OutputError(f"{self.folder}: no channel '{name}'; its channels are {known}") from None

    def read(
        self,
        level: int = 0,
        box: tuple[int, int, int, int] | None = None,
        channels: Sequence[int] | None = None,
    ) -> NDArray[np.float32]:
        """Values (channels, height, width) of a box of a level, the whole level where it is None.

        Only the chunks that the box touches are read. Raises ValueError for a box that leaves the level,
        OutputError where a chunk cannot be read.
        """
        size = self.levels[level]
        x, y, width, height = (0, 0, size.width, size.height) if box is None else box
        if not (0 <= x <= x + width <= size.width and 0 <= y <= y + height <= size.height):
            raise ValueError(f"box {box} leaves level {level} of {size.width} x {size.height} pixels")
        chosen = range(len(self.channels)) if channels is None else channels
        values = np.empty((len(chosen), height, width), dtype=np.float32)
        for index, channel in enumerate(chosen):
            try:
                values[index] = self._arrays[level][channel, y : y + height, x : x + width]
            except (OSError, RuntimeError, ValueError) as error:
                place = f"level {level} at {(x, y, width, height)}"
                raise OutputError(
                    f"{self.folder}: {place} cannot be read ({_said(error)}); "
                    "the heatmap is damaged, compute the slide again"
                ) from error
        return values

    def iter_bands(
        self, level: int = 0, channels: Sequence[int] | None = None
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yields (first row, values (channels, rows, width)), top to bottom, one row of chunks at a time."""
        size = self.levels[level]
        rows = self._chunk_rows(level)
        for y in range(0, size.height, rows):
            yield y, self.read(level, (0, y, size.width, min(rows, size.height - y)), channels)

    def _chunk_rows(self, level: int) -> int:
        return int(self._arrays[level].chunks[1])


def open_heatmap(folder: Path) -> HeatmapStore:
    """Opens a heatmap that was finished. Raises OutputError for anything else."""
    folder = Path(folder)
    try:
        group = zarr.open_group(folder, mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
        ngff: Ngff = "0.5" if "ome" in attributes else "0.4"
        multiscales = attributes["ome"]["multiscales"] if ngff == "0.5" else attributes["multiscales"]
        arrays = [_array(group, dataset["path"]) for dataset in multiscales[0]["datasets"]]
        size = Size(arrays[0].shape[2], arrays[0].shape[1])
        return HeatmapStore(folder, facts_from_attributes(attributes, size), arrays, ngff)
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise OutputError(
            f"{folder}: not a finished heatmap of wsi_cam ({_said(error)}); compute the slide again"
        ) from error


def _array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    array = group[path]
    if not isinstance(array, zarr.Array) or array.ndim != 3:
        raise ValueError(f"level {path} is no array of axes c, y, x")
    return array


def _said(error: Exception) -> str:
    """Kind and message of an error, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Says in our words what the file system refused."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or _said(error)}); "
            "free space or choose another output folder"
        ) from error
