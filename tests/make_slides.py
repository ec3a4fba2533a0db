"""Writers of small slides whose pixels are known, and of enormous ones that cost a few megabytes.

Images are uint8 (h, w, 3) RGB. A level with downsample d has floor(side / d) pixels, each the mean of
its d x d block, as scanners write them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_cam.geometry import Mpp

Image = NDArray[np.uint8]
PixelBox = tuple[int, int, int, int]  # x, y, width, height in level-0 pixels

GLASS = (243, 242, 244)


def tissue_image(height: int, width: int, boxes: Sequence[PixelBox], seed: int = 0) -> Image:
    """White glass with textured boxes in the pinks and purples of H&E, cut at the image's edge."""
    generator = np.random.default_rng(seed)
    image = np.full((height, width, 3), GLASS, np.int16)
    image += generator.integers(-2, 3, (height, width, 1), np.int16)
    for x, y, box_width, box_height in boxes:
        part = image[max(y, 0) : max(y + box_height, 0), max(x, 0) : max(x + box_width, 0)]
        part[...] = tissue_texture(part.shape[0], part.shape[1], generator)
    return image.clip(0, 255).astype(np.uint8)


def tissue_texture(height: int, width: int, generator: np.random.Generator) -> Image:
    """Pink stroma with purple nuclei of about 12 px, all of it saturated enough to be found as tissue."""
    rows, columns = np.ogrid[:height, :width]
    phase = generator.uniform(0, 2 * np.pi, 2)
    waves = np.sin(2 * np.pi * rows / 16 + phase[0]) * np.sin(2 * np.pi * columns / 16 + phase[1])
    nuclei = (waves > 0.35)[..., None]
    stroma = np.array([224, 150, 190]) + 14 * np.sin(2 * np.pi * (rows + 2 * columns) / 64)[..., None]
    noise = generator.integers(-12, 13, (height, width, 1))
    texture: Image = (np.where(nuclei, [110, 60, 140], stroma) + noise).clip(0, 255).astype(np.uint8)
    return texture


def downsampled(image: Image, factor: int) -> Image:
    """Block means; what is left over at the right and lower edge is dropped."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    means: Image = blocks.mean((1, 3)).round().astype(np.uint8)
    return means


def aperio_description(width: int, height: int, tile: int, mpp: float | None, power: int | None) -> str:
    facts = [f"AppMag = {power}"] if power else []
    facts += [f"MPP = {mpp}"] if mpp else []
    head = f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] ({tile}x{tile}) Q=90"
    return "|".join([head, *facts])


def write_svs(
    path: Path,
    image: Image,
    mpp: float | None = 0.5,
    tile: int = 256,
    levels: Sequence[int] = (1, 4, 16),
    compression: str = "jpeg",
    subsampling: str = "420",
    quality: int = 90,
    colour: str = "ycbcr",
    shared_tables: bool = False,
    label: Image | None = None,
    icc: bytes | None = None,
    objective_power: int | None = 20,
    bigtiff: bool = False,
) -> Path:
    """An Aperio-like SVS that OpenSlide opens as ``aperio``: level 0, thumbnail, lower levels, label.

    ``compression``: "jpeg", "jpeg2000" (33005, lossless RGB) or "jpeg2000ycbcr" (33003). ``colour``:
    of JPEG tiles, "ycbcr" or "rgb" (photometric 2). ``subsampling`` "420", "422" or "444" (JPEG
    YCbCr). ``shared_tables`` moves the JPEG tables into the JPEGTables tag, as Aperio does.
    """
    height, width = image.shape[:2]
    description = aperio_description(width, height, tile, mpp, objective_power)
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        for index, factor in enumerate(levels):
            level = downsampled(image, factor) if factor > 1 else image
            _write_tiled_page(
                tiff, level, tile, compression, subsampling, quality, colour, shared_tables,
                description=description, iccprofile=icc,
            )  # fmt: skip
            if index == 0:
                thumbnail = downsampled(image, max(1, max(height, width) // 512))
                tiff.write(
                    thumbnail, compression="jpeg", photometric="rgb", rowsperstrip=16, metadata=None,
                    description=f"Aperio Image Library v11.2.1 \r\n{width}x{height} -> thumbnail",
                )  # fmt: skip
        if label is not None:
            tiff.write(
                label, compression="lzw", photometric="rgb", subfiletype=1, metadata=None,
                description="Aperio Image Library v11.2.1 \r\nlabel 100x100",
            )  # fmt: skip
    return path


def write_ome_tiff(
    path: Path, image: Image, mpp: Mpp | None = None, levels: Sequence[int] = (1, 2, 4), tile: int = 256,
    compression: str = "deflate", more_images: Sequence[Image] = (),
) -> Path:  # fmt: skip
    """An OME-TIFF whose lower levels are SubIFDs; ``more_images`` become further series of one level."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for number, picture in enumerate([image, *more_images]):
            facts: dict[str, Any] = {"axes": "YXS", "Name": f"image {number}"}
            if mpp is not None:
                facts |= {"PhysicalSizeX": mpp.x, "PhysicalSizeXUnit": "µm"}
                facts |= {"PhysicalSizeY": mpp.y, "PhysicalSizeYUnit": "µm"}
            factors = levels if number == 0 else (1,)
            page: dict[str, Any] = {"tile": (tile, tile), "compression": compression, "photometric": "rgb"}
            tiff.write(picture, subifds=len(factors) - 1, metadata=facts, **page)
            for factor in factors[1:]:
                tiff.write(downsampled(picture, factor), subfiletype=1, metadata=None, **page)
    return path


def write_generic_tiff(
    path: Path, image: Image, mpp: Mpp | None = None, levels: Sequence[int] = (1, 2, 4), tile: int = 256,
    compression: str = "deflate", bigtiff: bool = False,
) -> Path:  # fmt: skip
    """A plain pyramid: one tiled page per level, the spacing in the resolution tags (pixels per cm)."""
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
        for factor in levels:
            spacing: dict[str, Any] = {}
            if mpp is not None:
                resolution = (1e4 / (mpp.x * factor), 1e4 / (mpp.y * factor))
                spacing = {"resolution": resolution, "resolutionunit": "CENTIMETER"}
            level = downsampled(image, factor) if factor > 1 else image
            tiff.write(
                level, tile=(tile, tile), compression=compression, photometric="rgb", metadata=None,
                subfiletype=int(factor > 1), **spacing,
            )  # fmt: skip
    return path


def _write_tiled_page(
    tiff: tifffile.TiffWriter, image: Image, tile: int, compression: str, subsampling: str, quality: int,
    colour: str, shared_tables: bool, **page: Any,
) -> None:  # fmt: skip
    """One page of tiles that are encoded here, so that tests know exactly what the file holds."""
    if compression == "jpeg":
        encoded = [encode_jpeg(part, quality, subsampling, colour) for part in cut_tiles(image, tile)]
        page |= {"compression": "jpeg", "photometric": colour, "compressionargs": {"outcolorspace": colour}}
        if colour == "ycbcr":
            page["subsampling"] = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}[subsampling]
        if shared_tables:
            page["jpegtables"] = split_jpeg(encoded[0])[0]
            encoded = [split_jpeg(stream)[1] for stream in encoded]
    else:
        as_ycbcr = compression == "jpeg2000ycbcr"
        encoded = [encode_jpeg2000(part, as_ycbcr) for part in cut_tiles(image, tile)]
        number = 33003 if as_ycbcr else 33005
        page |= {"compression": number, "photometric": "ycbcr" if as_ycbcr else "rgb"}
    page |= {"tile": (tile, tile), "subfiletype": 0, "metadata": None}
    tiff.write(iter(encoded), shape=image.shape, dtype="uint8", **page)


def cut_tiles(image: Image, tile: int) -> Iterator[Image]:
    """Tiles row by row, the last ones filled up with their edge pixels as scanners do."""
    height, width = image.shape[:2]
    filled = np.pad(image, ((0, -height % tile), (0, -width % tile), (0, 0)), mode="edge")
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            yield np.ascontiguousarray(filled[y : y + tile, x : x + tile])


def encode_jpeg(image: Image, quality: int = 90, subsampling: str = "444", colour: str = "ycbcr") -> bytes:
    return bytes(imagecodecs.jpeg8_encode(
        image, level=quality, colorspace="rgb", outcolorspace=colour,
        subsampling=subsampling if colour == "ycbcr" else "444",
    ))  # fmt: skip


def encode_jpeg2000(image: Image, as_ycbcr: bool = False) -> bytes:
    if as_ycbcr:
        red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        planes = [luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402]
        image = np.stack(planes, -1).round().clip(0, 255).astype(np.uint8)
    return bytes(imagecodecs.jpeg2k_encode(image, codecformat="j2k", reversible=True, mct=not as_ycbcr))


def split_jpeg(stream: bytes) -> tuple[bytes, bytes]:
    """A JPEG stream as (tables only, image without tables): what JPEGTables in a TIFF is for."""
    tables, rest, position = b"", b"", 2
    while True:
        marker, length = struct.unpack_from(">HH", stream, position)
        segment = stream[position : position + 2 + length]
        if marker in (0xFFDB, 0xFFC4):  # quantisation, Huffman
            tables += segment
        else:
            rest += segment
        position += 2 + length
        if marker == 0xFFDA:  # start of scan: entropy-coded data up to the end
            return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + stream[position:]


def write_sparse_svs(
    path: Path,
    side_px: int | tuple[int, int],
    tissue_boxes: Sequence[PixelBox],
    mpp: float | None = 0.5,
    levels: Sequence[int] = (1, 4, 16, 64),
    tile: int = 256,
    quality: int = 85,
) -> Path:
    """A slide of any size whose tile offsets share a handful of JPEG tiles: real decoding, no disk.

    ``side_px``: one side, or (width, height). Glass everywhere but in ``tissue_boxes``, which are
    exact to the pixel on every level (a pixel is tissue where its level-0 centre lies in a box). The
    texture repeats with ``tile`` pixels of level 0; downsamples and ``tile`` are powers of two.
    """
    width, height = (side_px, side_px) if isinstance(side_px, int) else side_px
    texture = tissue_texture(tile, tile, np.random.default_rng(0))
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16))
        link = 8  # where the offset of the next directory has to be written
        for index, factor in enumerate(levels):
            size = (width // factor, height // factor)
            offsets, counts = _write_shared_tiles(stream, size, factor, tile, tissue_boxes, texture, quality)
            text = aperio_description(width, height, tile, mpp, 20)
            tags = [*_jpeg_tags(size, text), (322, 4, [tile]), (323, 4, [tile])]
            tags += [(324, 16, offsets), (325, 4, counts)]
            link = _write_directory(stream, link, tags)
            if index == 0:
                small = encode_jpeg(np.full((64, 64, 3), GLASS, np.uint8), quality)
                strip = stream.seek(0, 2)
                stream.write(small)
                text = f"Aperio Image Library v11.2.1 \r\n{width}x{height} -> 64x64"
                tags = [*_jpeg_tags((64, 64), text), (273, 16, [strip]), (278, 4, [64])]
                tags += [(279, 4, [len(small)])]
                link = _write_directory(stream, link, tags)
    return path


Tag = tuple[int, int, Any]  # number, TIFF type (2 text, 3 u16, 4 u32, 16 u64), values


def _jpeg_tags(size: tuple[int, int], description: str) -> list[Tag]:
    tags: list[Tag] = [(254, 4, [0]), (256, 4, [size[0]]), (257, 4, [size[1]]), (258, 3, [8, 8, 8])]
    tags += [(259, 3, [7]), (262, 3, [6]), (270, 2, description.encode("ascii") + b"\0"), (277, 3, [3])]
    return [*tags, (284, 3, [1]), (530, 3, [1, 1])]


def _write_directory(stream: Any, link: int, tags: Sequence[Tag]) -> int:
    """Writes one BigTIFF directory at the end of the file; returns where its own link lies."""
    entries = []
    for number, kind, values in sorted(tags, key=lambda tag: tag[0]):
        data = values if kind == 2 else np.asarray(values, {3: "<u2", 4: "<u4", 16: "<u8"}[kind]).tobytes()
        count = len(values)
        if len(data) > 8:
            position = stream.seek(0, 2)
            stream.write(data)
            data = struct.pack("<Q", position)
        entries.append(struct.pack("<HHQ8s", number, kind, count, data))
    start = stream.seek(0, 2)
    stream.write(struct.pack("<Q", len(entries)) + b"".join(entries) + bytes(8))
    stream.seek(link)
    stream.write(struct.pack("<Q", start))
    stream.seek(0, 2)
    return int(start + 8 + 20 * len(entries))


def _write_shared_tiles(
    stream: Any, size: tuple[int, int], factor: int, tile: int, boxes: Sequence[PixelBox], texture: Image,
    quality: int,
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:  # fmt: skip
    """Writes each different tile once; returns offsets and byte counts of all tiles, row by row."""
    small = downsampled(texture, min(factor, tile))
    repeats = tile // small.shape[0]
    filling = np.tile(small, (repeats, repeats, 1))
    cut: dict[tuple[int, int], list[PixelBox]] = {}
    for x, y, box_width, box_height in boxes:
        # a pixel i of this level has its centre at (i + 0.5) * factor in level 0
        left, right = (int(np.ceil(edge / factor - 0.5)) for edge in (x, x + box_width))
        top, bottom = (int(np.ceil(edge / factor - 0.5)) for edge in (y, y + box_height))
        for row in range(top // tile, -(-bottom // tile)):
            for column in range(left // tile, -(-right // tile)):
                x0, x1 = (min(max(edge - column * tile, 0), tile) for edge in (left, right))
                y0, y1 = (min(max(edge - row * tile, 0), tile) for edge in (top, bottom))
                cut.setdefault((row, column), []).append((x0, y0, x1, y1))
    columns, rows = -(-size[0] // tile), -(-size[1] // tile)
    offsets, counts = np.zeros((rows, columns), np.uint64), np.zeros((rows, columns), np.uint32)
    written: dict[tuple[PixelBox, ...], tuple[int, int]] = {}

    def place(parts: tuple[PixelBox, ...]) -> tuple[int, int]:
        if parts not in written:
            image = np.full((tile, tile, 3), GLASS, np.uint8)
            for x0, y0, x1, y1 in parts:
                image[y0:y1, x0:x1] = filling[y0:y1, x0:x1]
            data = encode_jpeg(image, quality)
            written[parts] = (stream.seek(0, 2), len(data))
            stream.write(data)
        return written[parts]

    offsets[:], counts[:] = place(())
    for (row, column), parts in cut.items():
        if 0 <= row < rows and 0 <= column < columns:
            offsets[row, column], counts[row, column] = place(tuple(parts))
    return offsets.ravel(), counts.ravel()
