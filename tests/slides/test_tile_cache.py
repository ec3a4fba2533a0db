"""Tiles are decoded once, also when threads meet, and memory is bounded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_cam.slides.tile_cache import TileCache


def tile(value: int) -> NDArray[np.uint8]:
    return np.full((10, 10, 1), value, np.uint8)


def test_a_tile_is_decoded_once_while_it_is_kept() -> None:
    cache, decoded = TileCache(1000), []

    def decode(key: int) -> NDArray[np.uint8]:
        decoded.append(key)
        return tile(key)

    for key in (1, 2, 1, 2, 1):
        assert cache.get(key, lambda key=key: decode(key))[0, 0, 0] == key  # type: ignore[misc]
    assert decoded == [1, 2]


def test_the_least_recently_used_tile_goes_first() -> None:
    cache, decoded = TileCache(200), []

    def get(key: int) -> None:
        cache.get(key, lambda: decoded.append(key) or tile(key))  # type: ignore[func-returns-value]

    for key in (1, 2, 1, 3, 1, 2):
        get(key)
    assert decoded == [1, 2, 3, 2]


def test_a_tile_that_is_too_large_is_not_kept() -> None:
    cache, decoded = TileCache(99), []
    for _ in range(2):
        cache.get("large", lambda: decoded.append(1) or tile(1))  # type: ignore[func-returns-value]
    assert decoded == [1, 1]
    assert cache.peek("large") is None


def test_a_kept_tile_is_at_hand_and_safe_from_whoever_gets_it() -> None:
    cache = TileCache(1000)
    assert cache.peek("tile") is None
    cache.get("tile", lambda: tile(5))
    kept = cache.peek("tile")
    assert kept is not None
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 0


def test_threads_that_ask_together_share_one_decoding() -> None:
    cache, decoded = TileCache(1000), []
    started, go_on = threading.Event(), threading.Event()

    def slow() -> NDArray[np.uint8]:
        decoded.append(threading.get_ident())
        started.set()
        assert go_on.wait(10)
        return tile(7)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.get, "tile", slow)
        assert started.wait(10)
        others = [pool.submit(cache.get, "tile", slow) for _ in range(3)]
        go_on.set()
        for future in (first, *others):
            assert future.result(10)[0, 0, 0] == 7
    assert len(decoded) == 1


def test_an_error_reaches_whoever_waits_and_is_not_remembered() -> None:
    cache = TileCache(1000)

    def fail() -> NDArray[np.uint8]:
        raise ValueError("broken tile")

    with pytest.raises(ValueError, match="broken"):
        cache.get("tile", fail)
    assert cache.get("tile", lambda: tile(3))[0, 0, 0] == 3
