"""Where chunks become files: Zarr v2 with a file per chunk, or Zarr v3 with a file per shard.

Zarr v2 chunks are compressed and written here directly, into arrays whose metadata zarr made: a chunk of
v2 *is* the compressed block under the name c/y/x, and going through zarr's event loop costs as much again
as the compression. Shards have an index and are left to zarr.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import zarr
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from wsi_cam.geometry import Size

_SHARD_COLUMNS = 8  # chunks side by side in a shard, of one row of chunks: so a shard is written in one go
_LEVEL = 1  # of zstd: 5 times the speed of level 5 for 5 % more bytes, for the mantissas of float32 are noise


class ChunkFiles:
    """Makes the arrays "0", "1", ... of an open group, Zarr v2 or v3, and writes their chunks."""

    def __init__(
        self, folder: Path, group: zarr.Group, sizes: Sequence[Size], channels: int, chunk: tuple[int, int]
    ) -> None:
        self._folder = folder
        self._group = group
        self._channels = channels
        self._chunk = chunk
        self._sharded = group.metadata.zarr_format == 3
        self._codec = Blosc(cname="zstd", clevel=_LEVEL, shuffle=Blosc.SHUFFLE)
        self._arrays = [self._create_array(level, size) for level, size in enumerate(sizes)]

    def write(self, level: int, chunk_row: int, blocks: Mapping[int, NDArray[np.float32]]) -> None:
        """Writes the chunks of one row of chunks: a ``ChunkSink`` for ``PyramidRows``."""
        with _one_blosc_thread():
            if self._sharded:
                self._write_shards(level, chunk_row, blocks)
            else:
                self._write_chunks(level, chunk_row, blocks)

    def _write_chunks(self, level: int, chunk_row: int, blocks: Mapping[int, NDArray[np.float32]]) -> None:
        for channel in range(self._channels):
            folder = self._folder / str(level) / str(channel) / str(chunk_row)
            folder.parent.mkdir(exist_ok=True)  # and no more: a store that was removed does not come back
            folder.mkdir()
            for column, block in blocks.items():
                values = np.ascontiguousarray(block[channel], dtype="<f4")
                (folder / str(column)).write_bytes(self._codec.encode(values))

    def _write_shards(self, level: int, chunk_row: int, blocks: Mapping[int, NDArray[np.float32]]) -> None:
        array = self._arrays[level]
        height, width = self._chunk
        shard = array.shards or array.chunks
        top, bottom = chunk_row * height, min((chunk_row + 1) * height, array.shape[1])
        columns_per_shard = shard[2] // width
        for shard_column in sorted({column // columns_per_shard for column in blocks}):
            left = shard_column * shard[2]
            values = np.full((self._channels, *shard[1:]), np.nan, dtype=np.float32)
            for place in range(columns_per_shard):
                block = blocks.get(shard_column * columns_per_shard + place)
                if block is not None:
                    values[:, :, place * width : (place + 1) * width] = block
            right = min(left + shard[2], array.shape[2])
            for channel in range(self._channels):
                array[channel, top:bottom, left:right] = values[channel, : bottom - top, : right - left]

    def _create_array(self, level: int, size: Size) -> zarr.Array[Any]:
        shape, chunks = (self._channels, size.height, size.width), (1, *self._chunk)
        if self._sharded:
            columns = min(_SHARD_COLUMNS, -(-size.width // self._chunk[1]))
            return self._group.create_array(
                str(level),
                shape=shape,
                chunks=chunks,
                shards=(1, self._chunk[0], columns * self._chunk[1]),
                dtype="<f4",
                fill_value=np.nan,
                compressors=BloscCodec(cname="zstd", clevel=_LEVEL, shuffle="shuffle", typesize=4),
                dimension_names=("c", "y", "x"),
            )
        return self._group.create_array(
            str(level),
            shape=shape,
            chunks=chunks,
            dtype="<f4",
            fill_value=np.nan,
            compressors=self._codec,
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )


@contextmanager
def _one_blosc_thread() -> Iterator[None]:
    """Blosc in one thread: several write their blocks in the order in which they happen to finish."""
    before = numcodecs.blosc.use_threads
    numcodecs.blosc.use_threads = False
    try:
        yield
    finally:
        numcodecs.blosc.use_threads = before
