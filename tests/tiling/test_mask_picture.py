"""Masks that are pictures, in place of the tissue finder; test_truth.py tries TIFFs further."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_cam.errors import OutlineError, TissueError
from wsi_cam.geometry import Mpp, Size
from wsi_cam.tiling.mask_picture import (
    is_mask_picture,
    read_mask,
    require_mask_picture,
    tissue_from_picture,
)

SIZE, MPP = Size(4000, 3000), Mpp(0.5, 0.5)


def drawn(factor: int) -> np.ndarray:
    """Tissue from x 1000 to 2600 and y 800 to 2000 of level 0, on a mask smaller by ``factor``."""
    mask = np.zeros((SIZE.height // factor, SIZE.width // factor), bool)
    mask[800 // factor : 2000 // factor, 1000 // factor : 2600 // factor] = True
    return mask


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("factor", [8, 40])
def test_a_png_in_any_mode_marks_its_part_of_the_slide(tmp_path: Path, mode: str, factor: int) -> None:
    mask = drawn(factor)
    if mode == "I;16":
        picture = Image.fromarray(mask.astype(np.uint16) * 1000)
    elif mode == "P":
        picture = Image.fromarray(mask.astype(np.uint8), "L").convert("P")
        picture.putdata(mask.astype(np.uint8).ravel().tolist())
    else:
        picture = Image.fromarray(mask.astype(np.uint8) * 255).convert(mode)
    picture.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as kept:
        assert kept.mode == mode
    tissue = tissue_from_picture(tmp_path / "mask.png", SIZE, MPP, pixel_um=8)
    assert tissue.area_mm2(MPP) == pytest.approx(1600 * 1200 * 0.25e-6, rel=0.01)
    rows, columns = np.nonzero(tissue.mask)
    scale = tissue.to_level0.scale_x
    assert scale == pytest.approx(max(16, factor), rel=0.01)
    assert columns.min() * scale == pytest.approx(1000, abs=scale)
    assert (rows.max() + 1) * scale == pytest.approx(2000, abs=scale)
    assert tissue.source == str(tmp_path / "mask.png")


def test_a_tiff_of_the_slides_own_size_says_the_same_as_a_small_png(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "mask.tiff", drawn(1).astype(np.uint8), tile=(256, 256), compression="deflate"
    )
    Image.fromarray(drawn(8)).save(tmp_path / "mask.PNG")
    whole, small = (read_mask(tmp_path / name, SIZE, MPP, 8)[0] for name in ("mask.tiff", "mask.PNG"))
    assert whole.shape == small.shape == (188, 250)
    np.testing.assert_array_equal(whole, small)


def test_an_empty_mask_is_no_tissue(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((300, 400), np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(TissueError, match=r"mask\.png: the mask is empty"):
        tissue_from_picture(tmp_path / "mask.png", SIZE, MPP, 8)


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((300, 300), np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(OutlineError, match="300 x 300 px does not fit a slide of 4000 x 3000"):
        read_mask(tmp_path / "mask.png", SIZE, MPP, 8)


@pytest.mark.parametrize("name", ["mask.png", "mask.tif"])
def test_what_is_no_picture_is_said_before_anything_begins(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert is_mask_picture(path)
    with pytest.raises(OutlineError, match="no such file"):
        require_mask_picture(path)
    path.write_text("not a picture")
    with pytest.raises(OutlineError, match=rf"{name}: no readable mask"):
        require_mask_picture(path)


def test_a_png_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (300, 400)).astype(np.uint8)
    path = tmp_path / "mask.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(OutlineError, match=r"mask\.png: no readable mask PNG"):
        read_mask(path, SIZE, MPP, 8)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_a_large_png_is_read_without_a_warning(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (10_000, 9_000), 1 if mode == "L" else (0, 1, 0, 0)).save(
        tmp_path / "mask.png", compress_level=1
    )
    require_mask_picture(tmp_path / "mask.png")
    mask, _ = read_mask(tmp_path / "mask.png", Size(100_000, 90_000), MPP, 64)
    assert mask.shape == (703, 781)
    assert mask.all()


def test_a_png_too_large_to_be_unpacked_is_refused_by_its_header(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path = tmp_path / "mask.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip
    for read in (require_mask_picture, lambda path: read_mask(path, None, MPP, 8)):
        with pytest.raises(OutlineError, match=r"60000 x 60000 px is not read.*write the mask smaller"):
            read(path)


def test_a_tiff_in_one_strip_too_large_to_be_unpacked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, drawn(8).astype(np.uint8), rowsperstrip=400, compression="deflate")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tags = tiff.pages[0].tags
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tags[name].overwrite(60_000)
    with pytest.raises(OutlineError, match="strips of 3433 MiB is not read; write smaller ones"):
        read_mask(path, None, MPP, 8)
