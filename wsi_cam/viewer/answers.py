"""What each address of the viewer answers, without any HTTP around it.

    /                                           the list of slides
    /slides/<id>                                a slide
    /static/<file>                              scripts and styles
    /api/slides                                 the list as JSON
    /api/slides/<id>                            facts of a slide
    /api/slides/<id>/slide.dzi                  Deep Zoom, for any program that shows it
    /api/slides/<id>/slide_files/<level>/<column>_<row>.jpg?grey=1
    /api/slides/<id>/heatmap/<layer>/<class>/<level>/<column>_<row>.png?hide=<probability>
    /api/slides/<id>/thumbnail/slide.jpg, heatmap.png
    /api/slides/<id>/regions/<class>?threshold=<probability>
    /api/slides/<id>/place?x=<shown>&y=<shown>

Classes go by their number. Nothing here turns a part of an address into a path: ids are looked up among the
finished slides, files among those that the package ships.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any
from urllib.parse import parse_qsl, unquote

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_cam.errors import WsiCamError, one_line
from wsi_cam.export.jpeg import jpeg_bytes
from wsi_cam.slides.tile_cache import TileCache
from wsi_cam.viewer.addresses import class_name, colouring, finite, threshold, tile_address
from wsi_cam.viewer.deep_zoom import TILE_PX, PixelBox
from wsi_cam.viewer.library import Library
from wsi_cam.viewer.not_found import NotFoundError
from wsi_cam.viewer.tiles import Colouring, heatmap_png, slide_jpeg
from wsi_cam.viewer.viewed_slide import ViewedSlide

log = logging.getLogger(__name__)

_CACHE_BYTES = 128 * 2**20
_THUMBNAIL_PX = 200
#: A slide without lower levels would be read as a whole for its thumbnail: the list does without above this.
_THUMBNAIL_READ_PX = 2**26
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_JSON, _JPEG, _PNG = "application/json", "image/jpeg", "image/png"


@dataclass(frozen=True, eq=False)
class Answer:
    """What goes back to the browser."""

    status: int
    kind: str
    body: bytes | memoryview
    keep: bool = False
    """Whether the browser may show it again without asking: the address names a version (``v=``)."""


class Answers:
    """Answers addresses from a library; safe to use from many threads."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._assets = _shipped_files()
        self._cache = TileCache(_CACHE_BYTES)
        # More at a time would not be faster, and each may need some tens of MiB.
        self._working = threading.BoundedSemaphore(os.cpu_count() or 1)

    def answer(self, target: str) -> Answer:
        """The answer to a request for ``target``: path and query, percent-encoded."""
        try:
            path, _, asked = target.partition("?")
            names = [unquote(name, errors="surrogateescape") for name in path.split("/")[1:]]
            query = dict(parse_qsl(asked))
            return self._route(names, query)
        except NotFoundError as error:
            return _failure(404, error)
        except WsiCamError as error:
            log.warning("%r: %s", target, one_line(error))
            return _failure(500, error)

    def _route(self, names: list[str], query: dict[str, str]) -> Answer:
        match names:
            case [""]:
                return self._asset("list.html")
            case ["slides", sample_id]:
                self._library.version(sample_id)
                return self._asset("slide.html")
            case ["static", *path]:
                return self._asset("/".join(path))
            case ["api", "slides"]:
                return _json(self._library.listing())
            case ["api", "slides", sample_id, *what]:
                with self._library.lease(sample_id) as viewed:
                    answer = self._of_slide(viewed, what, query)
                    # An address without this version would show it when the slide was computed again.
                    return replace(answer, keep=answer.keep and query.get("v") == viewed.version)
        raise NotFoundError("there is nothing at this address")

    def _of_slide(self, viewed: ViewedSlide, what: list[str], query: dict[str, str]) -> Answer:
        match what:
            case []:
                return _json(viewed.facts())
            case ["slide.dzi"]:
                return Answer(200, "application/xml", viewed.zoom.descriptor().encode())
            case ["slide_files", level, name]:
                tile = tile_address(level, name, "jpg")
                grey = query.get("grey") == "1"
                return self._slide_picture(viewed, tile.level, viewed.zoom.tile_box(tile), grey)
            case ["heatmap", layer, number, level, name]:
                tile = tile_address(level, name, "png")
                wanted = colouring(viewed, layer, number, query)
                return self._heatmap_picture(viewed, tile.level, viewed.zoom.tile_box(tile), wanted)
            case ["thumbnail", name]:
                return self._thumbnail(viewed, name)
            case ["regions", number]:
                return self._regions(viewed, class_name(viewed, number), threshold(query))
            case ["place"]:
                return _json(viewed.numbers_at(finite(query, "x"), finite(query, "y")))
        raise NotFoundError("there is nothing at this address")

    def _thumbnail(self, viewed: ViewedSlide, name: str) -> Answer:
        level = viewed.zoom.level_within(_THUMBNAIL_PX)
        size = viewed.zoom.grid(level).size
        box = (0, 0, size.width, size.height)
        if name == "slide.jpg":
            if _smallest_level_px(viewed) > _THUMBNAIL_READ_PX:
                raise NotFoundError("the slide has no lower level to make a thumbnail of")
            return self._slide_picture(viewed, level, box)
        if name == "heatmap.png":
            wanted = Colouring("probability", str(viewed.source.record["score"]["class"]))
            return self._heatmap_picture(viewed, level, box, wanted)
        raise NotFoundError(f"there is no thumbnail {name!r}")

    def _slide_picture(self, viewed: ViewedSlide, level: int, box: PixelBox, grey: bool = False) -> Answer:
        def draw() -> bytes:
            return slide_jpeg(viewed.slide(), viewed.zoom.grid(level), box, grey)

        return self._picture(_JPEG, ("slide", *_key(viewed), level, box, grey), draw)

    def _heatmap_picture(self, viewed: ViewedSlide, level: int, box: PixelBox, wanted: Colouring) -> Answer:
        def draw() -> bytes:
            return heatmap_png(viewed.source, viewed.zoom.grid(level), box, wanted)

        return self._picture(_PNG, ("heatmap", *_key(viewed), level, box, wanted), draw)

    def _picture(self, kind: str, key: tuple[object, ...], draw: Callable[[], bytes]) -> Answer:
        """A picture, drawn or remembered; where it cannot be drawn, a neutral one and a line in the log."""
        try:
            return Answer(200, kind, self._remembered(key, draw), keep=True)
        except WsiCamError as error:
            log.warning("%s", one_line(error))
        except Exception:
            # One picture must not take the viewer down, whatever a damaged file made a decoder do.
            log.exception("%s: a tile cannot be drawn", key)
        return Answer(200, _JPEG, _unreadable_tile())

    def _regions(self, viewed: ViewedSlide, name: str, least: float) -> Answer:
        def find() -> bytes:
            return _json_bytes({"regions": viewed.regions(name, least)})

        return Answer(200, _JSON, self._remembered(("regions", *_key(viewed), name, least), find))

    def _remembered(self, key: tuple[object, ...], make: Callable[[], bytes]) -> memoryview:
        """Bytes by their key; who asks for the same at the same time waits for the first one's."""

        def work() -> NDArray[np.uint8]:
            with self._working:
                return np.frombuffer(make(), np.uint8)

        return self._cache.get(key, work).data

    def _asset(self, name: str) -> Answer:
        if name not in self._assets:
            raise NotFoundError(f"there is no file {name!r}")
        kind = _KINDS["." + name.rpartition(".")[2]]
        return Answer(200, kind, self._assets[name].read_bytes())


def _smallest_level_px(viewed: ViewedSlide) -> int:
    sizes = [level["size"] for level in viewed.source.record["slide"].get("levels", [])]
    return min((int(size["width"]) * int(size["height"]) for size in sizes), default=0)


def _key(viewed: ViewedSlide) -> tuple[str, str]:
    return viewed.source.sample_id, viewed.version


def _failure(status: int, error: Exception) -> Answer:
    return Answer(status, _JSON, _json_bytes({"error": one_line(error)}))


def _json(content: dict[str, Any]) -> Answer:
    return Answer(200, _JSON, _json_bytes(content))


def _json_bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode("ascii")


@cache
def _unreadable_tile() -> bytes:
    """Grey with a diagonal pattern: neither glass nor tissue."""
    picture = Image.new("RGB", (TILE_PX, TILE_PX), (226, 228, 231))
    pen = ImageDraw.Draw(picture)
    for start in range(-TILE_PX, TILE_PX, 32):
        pen.line([(start, TILE_PX), (start + TILE_PX, 0)], fill=(205, 208, 212), width=3)
    return jpeg_bytes(np.asarray(picture))


def _shipped_files() -> dict[str, Traversable]:
    """The package's own files by their path below ``static``."""

    def walk(folder: Traversable, prefix: str) -> dict[str, Traversable]:
        found: dict[str, Traversable] = {}
        for entry in folder.iterdir():
            if entry.is_dir():
                found |= walk(entry, f"{prefix}{entry.name}/")
            else:
                found[prefix + entry.name] = entry
        return found

    return walk(files("wsi_cam.viewer") / "static", "")
