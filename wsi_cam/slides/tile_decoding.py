"""Bytes of one TIFF tile to RGB, with the pixels that OpenSlide makes of them.

OpenSlide decodes JPEG with libjpeg-turbo at its defaults (accurate integer IDCT, smooth chroma
upsampling), which imagecodecs uses too, taking the colour space from the TIFF's photometric
tag. JPEG 2000 of Aperio's kind 33003 holds YCbCr that OpenJPEG leaves alone; OpenSlide turns it into RGB in
fixed point, and so does this module.

Nothing is decoded before its stated size was compared with what the tile must have: a few bytes of a
damaged file may claim 65 535 x 65 535 pixels.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

NONE, LZW, JPEG, DEFLATE, PACKBITS = 1, 5, 7, 8, 32773
OLD_DEFLATE, APERIO_YCBCR, APERIO_RGB, ZSTD = 32946, 33003, 33005, 50000
JPEG2000 = {APERIO_YCBCR, APERIO_RGB, 34712}
BYTES = {NONE, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, ZSTD}
GREY, RGB, YCBCR = 1, 2, 6

_END_OF_IMAGE = b"\xff\xd9"
_WITHOUT_DATA = 128  # libjpeg's value of all samples of the blocks for which no data are left
_PROGRESSIVE, _SCAN = b"\xff\xc2", b"\xff\xda"

# First a 0: after a byte of 255 any other would make a marker of both. Then the same after each restart
# marker, one of which is waited for where a stream that has them ends with one of its intervals.
_MORE_DATA = b"".join(mark + bytes(range(200)) for mark in (b"", *(bytes([255, 0xD0 + n]) for n in range(8))))

_EIGHT_BIT_FULL_SIZE = b"\x07\x01\x01"  # of one component: unsigned depth - 1, and its subsampling

#: What a damaged tile makes imagecodecs raise; its own errors are RuntimeErrors. No MemoryError: sizes are
#: known beforehand, and of a slide that is good no patch may count as unreadable because memory ran out.
DECODING_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, struct.error)


@dataclass(frozen=True)
class TileCoding:
    """How the tiles of one page are stored: TIFF tag values, and what the JPEG streams call themselves.

    ``samples`` are those inside of one tile (1 where the planes of an RGB image are stored apart).
    """

    compression: int
    photometric: int
    samples: int
    predictor: int = 1
    jpeg_tables: bytes | None = None
    is_jfif: bool = False

    @property
    def is_supported(self) -> bool:
        if self.compression == JPEG:
            return (self.samples == 3 and self.photometric in (RGB, YCBCR)) or self.samples == 1
        if self.compression in JPEG2000:
            return self.samples == 3
        # YCbCr without JPEG stores its chroma in blocks of its own making
        return self.compression in BYTES and self.photometric in (GREY, RGB) and self.predictor in (1, 2)

    def decode(self, data: bytes, height: int, width: int) -> NDArray[np.uint8]:
        """Samples (height, width, ``samples``) of one tile; raises one of DECODING_ERRORS."""
        if self.compression == JPEG:
            return self._decode_jpeg(data, height, width)
        if self.compression in JPEG2000:
            return self._decode_jpeg2000(data, height, width)
        return self._decode_bytes(data, height, width)

    def _decode_jpeg(self, data: bytes, height: int, width: int) -> NDArray[np.uint8]:
        # libjpeg would fill up with grey and only warn. What fills up the place of a tile is not looked at.
        if _END_OF_IMAGE not in data.rstrip(b"\0\xff")[-1024:]:
            raise ValueError("a JPEG tile is cut off")
        if self.samples == 1:
            space = out_space = "gray"
        else:
            # A JFIF stream is YCbCr by its own definition, whatever the TIFF says about it.
            is_rgb = self.photometric == RGB and not self.is_jfif
            space, out_space = "rgb" if is_rgb else "ycbcr", "rgb"
        pixels = _room_for_jpeg((height, width, 3) if self.samples == 3 else (height, width))

        def decode_into(pixels: NDArray[np.uint8], data: bytes) -> None:
            # imagecodecs compares the stream's size with that of ``out`` before it decodes.
            imagecodecs.jpeg8_decode(
                data, tables=self.jpeg_tables, colorspace=space, outcolorspace=out_space, out=pixels
            )

        decode_into(pixels, data)
        # The last sample is looked at first, which costs next to nothing.
        ends_grey = pixels.item(-1) == _WITHOUT_DATA and (pixels[-8:, -8:] == _WITHOUT_DATA).all()
        # Where a progressive one was cut only details are missing.
        if ends_grey or _PROGRESSIVE in data[: data.find(_SCAN)]:
            # Short of data, although it was closed with an end marker: then more data are not ignored.
            # Only a cut at the very end of a scan, within its last block, may go unnoticed.
            end, again = data.index(_END_OF_IMAGE, data.rfind(_SCAN)), np.empty_like(pixels)
            decode_into(again, data[:end] + _MORE_DATA + data[end:])
            if (again != pixels).any():
                raise ValueError("a JPEG tile is cut off")
        return pixels.reshape(height, width, self.samples)

    def _decode_jpeg2000(self, data: bytes, height: int, width: int) -> NDArray[np.uint8]:
        # ISO/IEC 15444-1 A.5.1: SOC and SIZ begin a codestream; extent minus offset is the image's size
        soc_siz, right, bottom, left, top, count, kinds = struct.unpack_from(">I4x4I16xH9s", data)
        if soc_siz != 0xFF4FFF51:
            raise ValueError("a tile does not begin as a JPEG 2000 codestream")
        if (bottom - top, right - left) != (height, width):
            raise ValueError(f"a tile of {width} x {height} px says it has {right - left} x {bottom - top}")
        if count != 3 or kinds != _EIGHT_BIT_FULL_SIZE * 3:
            raise ValueError("a JPEG 2000 tile is not 8-bit, three components of one size")
        pixels: NDArray[np.uint8] = imagecodecs.jpeg2k_decode(data, numthreads=1)
        return ycbcr_to_rgb(pixels) if self.compression == APERIO_YCBCR else pixels

    def _decode_bytes(self, data: bytes, height: int, width: int) -> NDArray[np.uint8]:
        size = height * width * self.samples
        if self.compression == NONE:
            raw: bytes | bytearray = data
        elif self.compression == LZW:
            raw = imagecodecs.lzw_decode(data, out=size)
        elif self.compression == PACKBITS:
            raw = imagecodecs.packbits_decode(data, out=size)
        elif self.compression == ZSTD:
            raw = imagecodecs.zstd_decode(data, out=size)
        else:
            raw = imagecodecs.zlib_decode(data, out=size)
        if len(raw) < size:
            raise ValueError(f"a tile holds {len(raw)} bytes instead of {size}")
        pixels = np.frombuffer(raw, np.uint8, size).reshape(height, width, self.samples)
        if self.predictor == 2:
            return np.cumsum(pixels, axis=1, dtype=np.uint8)
        return pixels


def _room_for_jpeg(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array that begins 16 bytes after a multiple of 32.

    Rows that begin on such a multiple are written past the caches by libjpeg-turbo (``vmovntdq``), for whom
    nobody reads at once. Pixels are read at once here: away from it a tile took a fifth less time.
    """
    size = math.prod(shape)
    memory = np.empty(size + 32, np.uint8)
    start = (16 - memory.__array_interface__["data"][0]) % 32
    return memory[start : start + size].reshape(shape)


_CHROMA = np.arange(256) - 128
_RED_OF_CR = np.rint(1.402 * _CHROMA).astype(np.int16)
_BLUE_OF_CB = np.rint(1.772 * _CHROMA).astype(np.int16)
_GREEN_OF_CB = np.rint(65536 * (0.5 - 0.34414 * _CHROMA)).astype(np.int32)
_GREEN_OF_CR = np.rint(65536 * -0.71414 * _CHROMA).astype(np.int32)


def ycbcr_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """JFIF's conversion (Rec. ITU-T T.871 section 7) of (h, w, 3), in 16-bit fixed point for green."""
    luma, blue, red = (pixels[..., i] for i in range(3))
    rgb = np.empty(pixels.shape, np.int16)
    rgb[..., 0] = _RED_OF_CR[red]
    rgb[..., 1] = (_GREEN_OF_CB[blue] + _GREEN_OF_CR[red]) >> 16
    rgb[..., 2] = _BLUE_OF_CB[blue]
    rgb += luma[..., None]
    return rgb.clip(0, 255).astype(np.uint8)
