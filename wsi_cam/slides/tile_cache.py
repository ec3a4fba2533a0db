"""Decoded tiles, kept while neighbouring regions need them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

Tile = NDArray[np.uint8]


class TileCache:
    """The last used tiles up to a number of bytes, shared by threads.

    Two threads that want the same tile at the same time decode it once: the first one works, the
    second one waits. A tile that cannot be decoded is not remembered; whoever waits gets the error.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._tiles: OrderedDict[Hashable, Tile] = OrderedDict()
        self._under_way: dict[Hashable, Future[Tile]] = {}
        self._lock = threading.Lock()

    def peek(self, key: Hashable) -> Tile | None:
        """The tile of ``key`` if it is at hand. It is shared, so it cannot be written to."""
        with self._lock:
            return self._tiles.get(key)

    def get(self, key: Hashable, decode: Callable[[], Tile]) -> Tile:
        """The tile of ``key``, decoded in this thread if it has to be. Shared as well."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
            waiting = self._under_way.get(key)
            if waiting is None:
                mine: Future[Tile] = Future()
                self._under_way[key] = mine
        if waiting is not None:
            return waiting.result()
        try:
            tile = decode()
        except BaseException as error:
            with self._lock:
                del self._under_way[key]
            mine.set_exception(error)
            raise
        tile.setflags(write=False)
        with self._lock:
            del self._under_way[key]
            self._keep(key, tile)
        mine.set_result(tile)
        return tile

    def clear(self) -> None:
        with self._lock:
            self._tiles.clear()
            self._size = 0

    def _keep(self, key: Hashable, tile: Tile) -> None:
        if tile.nbytes > self._capacity:
            return
        self._tiles[key] = tile
        self._size += tile.nbytes
        while self._size > self._capacity:
            self._size -= self._tiles.popitem(last=False)[1].nbytes
