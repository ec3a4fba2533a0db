"""An open TIFF: bytes at their place, tiles decoded once."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_cam.slides.tiff_layout import StoredImage, TiffLayout
from wsi_cam.slides.tile_cache import TileCache

_CACHE_BYTES = 64 * 2**20


class TiffFile:
    """One file descriptor, its layout and the tiles last decoded; closes when nobody holds it any more.

    Belongs to the process ``process``: a lock that a fork copies in its locked state never opens.
    """

    def __init__(self, path: Path, layout: TiffLayout) -> None:
        self.layout = layout
        self.process = os.getpid()
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.close = weakref.finalize(self, os.close, self._descriptor)
        self._seeking = threading.Lock()
        self._cache = TileCache(_CACHE_BYTES)

    def tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """RGB (height, width, 3) of one tile, white where it was never written. It is shared.

        It is kept for a while, for the neighbouring regions that will want it too.
        Raises OSError for bytes that are not there and one of
        :data:`wsi_cam.slides.tile_decoding.DECODING_ERRORS` for bytes that mean nothing.
        """
        image = self.layout.levels[level]
        index = row * image.columns + column
        return self._cache.get((level, index), lambda: self._decode(image, index))

    def tile_used_up(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """As :meth:`tile`, for a region that covers the tile, so that the next one hardly asks for it."""
        image = self.layout.levels[level]
        index = row * image.columns + column
        kept = self._cache.peek((level, index))
        return self._decode(image, index) if kept is None else kept

    def _decode(self, image: StoredImage, index: int) -> NDArray[np.uint8]:
        width, height = image.tile.width, image.tile.height
        if not image.is_tiled:  # the last strip ends with the image
            height = min(height, image.size.height - index * height)
        planes = []
        for offset, count in zip(image.offsets[:, index], image.counts[:, index], strict=True):
            if not (offset and count):
                return np.broadcast_to(np.uint8(255), (height, width, 3))
            planes.append(image.coding.decode(self._read(int(offset), int(count)), height, width))
        pixels = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
        return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)

    def _read(self, offset: int, count: int) -> bytes:
        data = self._read_some(offset, count)
        while len(data) < count:  # what is mounted over a network may give a part at a time
            more = self._read_some(offset + len(data), count - len(data))
            if not more:
                raise OSError(f"the file ends within a tile ({len(data)} of {count} bytes at {offset})")
            data += more
        return data

    def _read_some(self, offset: int, count: int) -> bytes:
        if sys.platform == "win32":  # no reading at a position there
            with self._seeking:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.read(self._descriptor, count)
        else:
            return os.pread(self._descriptor, count, offset)
