"""JPEG tiles that end before they should. libjpeg fills them up with grey and only warns; nobody hears it."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.make_slides import Image, encode_jpeg, split_jpeg
from wsi_cam.slides.tile_decoding import JPEG, RGB, YCBCR, TileCoding


def test_what_fills_up_the_place_of_a_jpeg_tile_is_no_part_of_it(image: Image) -> None:
    whole, coding = encode_jpeg(image[60:124, 80:144], 90, "420"), TileCoding(JPEG, YCBCR, 3)
    expected = coding.decode(whole, 64, 64)
    for filling in (bytes(3000), b"\xff" * 3000):
        np.testing.assert_array_equal(coding.decode(whole + filling, 64, 64), expected)
        with pytest.raises(ValueError, match="cut off"):
            coding.decode(whole[:1000] + filling, 64, 64)


@pytest.mark.parametrize(("colour", "subsampling"), [("ycbcr", "420"), ("ycbcr", "444"), ("rgb", "444")])
def test_wherever_a_jpeg_tile_was_cut_and_closed_no_more_than_its_last_block_may_pass(
    image: Image, colour: str, subsampling: str
) -> None:
    """After a byte of 255 too, which makes a marker of what follows it."""
    tables, whole = split_jpeg(encode_jpeg(image[60:124, 80:144], 90, subsampling, colour))
    coding = TileCoding(JPEG, YCBCR if colour == "ycbcr" else RGB, 3, jpeg_tables=tables)
    pixels, side = coding.decode(whole, 64, 64), 16 if subsampling == "420" else 8
    scan = whole.index(b"\xff\xda") + 14
    assert b"\xff" in whole[scan:-2]
    for end in range(scan, len(whole) - 2):
        with contextlib.suppress(ValueError):
            after = whole[end + 2 :] if end % 2 else b""  # an end marker in the midst of the data ends it too
            changed = (coding.decode(whole[:end] + b"\xff\xd9" + after, 64, 64) != pixels).any(axis=2)
            changed[-side - 1 :, -side - 1 :] = False  # smooth chroma reaches a pixel further
            assert not changed.any(), f"cut after {end} bytes"


@pytest.mark.parametrize("kind", [{"progressive": True}, {"restart_marker_blocks": 3}])
def test_a_cut_is_noticed_in_jpeg_of_many_scans_and_between_restart_markers(
    image: Image, kind: dict[str, Any]
) -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(image[60:124, 80:144]).save(stream, "JPEG", quality=90, subsampling=0, **kind)
    whole, coding = stream.getvalue(), TileCoding(JPEG, YCBCR, 3)
    assert coding.decode(whole, 64, 64).shape == (64, 64, 3)
    first = whole.index(b"\xff\xda") + 14
    ends = [first + int(kept * (len(whole) - first)) for kept in (0.05, 0.5, 0.9)]
    ends += [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", whole[:-200])]
    for end in ends:
        with pytest.raises(ValueError, match="cut off"):
            coding.decode(whole[:end] + b"\xff\xd9", 64, 64)


def test_a_jpeg_tile_that_is_grey_in_its_corner_is_no_cut_one() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    tables, whole = split_jpeg(encode_jpeg(grey, 90, "420"))
    np.testing.assert_array_equal(TileCoding(JPEG, YCBCR, 3, jpeg_tables=tables).decode(whole, 64, 64), grey)
