"""The small good slide that hostile ones are made of, and the tools to spoil it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tifffile

from tests.make_slides import Image, tissue_image, write_svs

TILE = 64
NOT_READ = "can be read|cannot be (read|decoded)|no reader can open|cannot open"


@dataclass(frozen=True)
class Hostile:
    """A path, and a pattern of what must be said of it; None where it is to be done in spite of all."""

    path: Path
    reason: str | None


def small_image(seed: int = 3) -> Image:
    """256 x 256 px with tissue on most of it: a handful of patches at 0.5 um/px."""
    return tissue_image(256, 256, [(10, 10, 230, 230)], seed=seed)


def small_svs(path: Path, levels: tuple[int, ...] = (1,), bigtiff: bool = False) -> Path:
    """A good slide of 256 px with a few patches of tissue."""
    # Written under a plain name: not every library below the writer takes every name.
    plain = path.with_name("being_written.svs")
    write_svs(plain, small_image(), tile=TILE, levels=levels, bigtiff=bigtiff)
    return plain.replace(path)


def write_good_slides(folder: Path, count: int = 3) -> list[Path]:
    return [
        write_svs(folder / f"good_{n}.svs", small_image(seed=n), tile=TILE, levels=(1, 2))
        for n in range(count)
    ]


def overwrite(path: Path, position: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(position)
        stream.write(content)


def set_tag(path: Path, name: str, value: object) -> None:
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags[name].overwrite(value)
