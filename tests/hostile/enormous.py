"""Small files that speak of gigabytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import tifffile

from tests.hostile.spoiling import NOT_READ, TILE, Hostile, set_tag, small_image, small_svs
from tests.make_slides import encode_jpeg, encode_jpeg2000


def enormous(folder: Path) -> Iterator[Hostile]:
    for name, tag, value in (
        ("width_of_4e9", "ImageWidth", 2**32 - 1),
        ("height_of_2e9", "ImageLength", 2**31),
        ("tile_of_4e6", "TileWidth", 2**22),
    ):
        path = small_svs(folder / f"{name}.svs", bigtiff=True)
        set_tag(path, name=tag, value=value)
        yield Hostile(path, "needs .* tiles|256 MiB|truncated or damaged|no reader")
    yield Hostile(write_four_billion_tiles(folder / "tiles_4e9.tif"), "tiles|table|truncated or damaged")
    yield Hostile(_claiming_tiles(folder / "jpeg_bomb.svs", 7, _huge_jpeg()), NOT_READ)
    yield Hostile(_claiming_tiles(folder / "j2k_bomb.svs", 33005, _huge_jpeg2000()), NOT_READ)
    yield Hostile(_deflate_bomb(folder / "deflate_bomb.tif"), None)
    path = folder / "description_bomb.ome.tif"
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "laugh"}">' for n in range(12))
    text = f'<?xml version="1.0"?><!DOCTYPE OME [{entities}]><OME xmlns="http://www.openmicroscopy.org/'
    text += 'Schemas/OME/2016-06">&e11;</OME>'
    tifffile.imwrite(
        path, small_image(), tile=(TILE, TILE), photometric="rgb", description=text, metadata=None
    )
    yield Hostile(path, "truncated or damaged|no reader|cannot|spacing")


def _corners() -> list[tuple[int, int]]:
    return [(y, x) for y in range(0, 256, TILE) for x in range(0, 256, TILE)]


def _huge_jpeg() -> bytes:
    stream = bytearray(encode_jpeg(small_image()[:TILE, :TILE], 90, "444"))
    frame = stream.index(b"\xff\xc0")
    stream[frame + 5 : frame + 9] = b"\xff\xf0\xff\xf0"
    return bytes(stream)


def _huge_jpeg2000() -> bytes:
    stream = bytearray(encode_jpeg2000(small_image()[:TILE, :TILE]))
    struct.pack_into(">II", stream, 8, 2**31 - 1, 2**31 - 1)
    return bytes(stream)


def _claiming_tiles(path: Path, compression: int, tile: bytes) -> Path:
    """A slide all of whose tiles are ``tile``."""
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter([tile] * 16), shape=(256, 256, 3), dtype="uint8", tile=(TILE, TILE), metadata=None,
            photometric="ycbcr" if compression == 7 else "rgb", subsampling=(1, 1), compression=compression,
            description="Aperio Image Library v11.2.1 \r\n256x256|AppMag = 20|MPP = 0.5",
        )  # fmt: skip
    return path


def _deflate_bomb(path: Path) -> Path:
    """One of its tiles, of 64 px and some kilobytes, inflates to a gigabyte; a tile's worth is taken."""
    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(64)) + packer.flush()
    image = small_image()
    tiles = [zlib.compress(image[y : y + TILE, x : x + TILE].tobytes()) for y, x in _corners()]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            iter([bomb, *tiles[1:]]), shape=(256, 256, 3),
            dtype="uint8", tile=(TILE, TILE), metadata=None, photometric="rgb", compression="deflate",
            resolution=(20000, 20000), resolutionunit=3,
        )  # fmt: skip
    return path


def write_four_billion_tiles(path: Path) -> Path:
    """A BigTIFF whose tables have 2^32 entries each, all of them there: 64 GiB of holes on the disk."""
    count, tables = 2**32, 4096
    side = 2**16 * TILE
    entries = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
        (322, 4, 1, TILE), (323, 4, 1, TILE), (324, 16, count, tables), (325, 4, count, tables + 8 * count),
    ]  # fmt: skip
    directory = struct.pack("<Q", len(entries))
    directory += b"".join(struct.pack("<HHQQ", *entry) for entry in entries) + bytes(8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + directory)
        stream.truncate(tables + 12 * count)
    return path
