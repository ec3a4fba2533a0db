"""The TIFF reader shows what OpenSlide shows: OpenSlide is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.make_philips import write_philips_tiff
from tests.make_slides import Image, tissue_image, write_generic_tiff, write_sparse_svs, write_svs
from wsi_cam.errors import SlideError
from wsi_cam.geometry import Mpp
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import Slide

KINDS: dict[str, dict[str, Any]] = {
    "jpeg 4:2:0": {"subsampling": "420"},
    "jpeg 4:2:2": {"subsampling": "422"},
    "jpeg 4:4:4": {"subsampling": "444"},
    "jpeg rgb": {"colour": "rgb"},
    "jpeg 4:2:0, shared tables": {"subsampling": "420", "shared_tables": True},
    "jpeg rgb, shared tables": {"colour": "rgb", "shared_tables": True},
    "jpeg of low quality": {"quality": 20},
    "jpeg 2000 rgb": {"compression": "jpeg2000"},
    "jpeg 2000 ycbcr": {"compression": "jpeg2000ycbcr"},
}


def assert_same_pixels(path: Path) -> None:
    with open_slide(path, "tiff") as fast, open_slide(path, "openslide") as slow:
        width, height = slow.info.size.width, slow.info.size.height
        assert fast.info.levels == slow.info.levels
        for box in [(-3, -5, width + 9, height + 11), (17, 29, width - 40, height - 60), (64, 64, 64, 64)]:
            np.testing.assert_array_equal(fast.read_region(0, box), slow.read_region(0, box))
        for level in range(1, len(slow.info.levels)):
            assert_same_where_representable(fast, slow, level)


def assert_same_where_representable(fast: Slide, slow: Slide, level: int) -> None:
    """Corners whose level-0 position is whole, also by the downsample that OpenSlide computes."""
    size, factor = slow.info.levels[level].size, slow.info.levels[level].to_level0.scale_x
    corners = [(0, 0)]
    if slow.info.size.width == size.width * factor and slow.info.size.height == size.height * factor:
        corners += [(3, 5), (size.width // 2 + 1, size.height // 3)]
    for x, y in corners:
        box = (x, y, size.width - x, size.height - y)
        np.testing.assert_array_equal(fast.read_region(level, box), slow.read_region(level, box))


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_svs(tmp_path: Path, kind: str) -> None:
    image = tissue_image(333, 421, [(40, 60, 300, 200)], seed=2)
    assert_same_pixels(write_svs(tmp_path / "a.svs", image, tile=64, levels=(1, 4), **KINDS[kind]))


def test_lower_levels_whose_pixels_all_lie_on_whole_level_0_pixels(tmp_path: Path) -> None:
    image = tissue_image(256, 384, [(40, 60, 300, 150)], seed=3)
    assert_same_pixels(write_svs(tmp_path / "a.svs", image, tile=64, levels=(1, 2, 8)))


def test_random_colours_at_full_range(tmp_path: Path) -> None:
    """Saturated noise drives every rounding and clipping of the colour conversions."""
    image = np.random.default_rng(0).integers(0, 2, (128, 128, 3), np.uint8) * 255
    for kind in KINDS.values():
        assert_same_pixels(write_svs(tmp_path / "a.svs", image, tile=64, levels=(1,), **kind))


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "jpeg", "packbits"])
def test_a_plain_pyramid(tmp_path: Path, image: Image, compression: str) -> None:
    assert_same_pixels(write_generic_tiff(tmp_path / "a.tif", image, tile=64, compression=compression))


def test_a_philips_pyramid_padded_to_whole_tiles(tmp_path: Path, image: Image) -> None:
    path = write_philips_tiff(tmp_path / "philips.tiff", image, mpp=0.25)
    assert_same_pixels(path)
    with open_slide(path) as slide:
        assert (slide.info.reader, slide.info.vendor) == ("tiff", "philips")
        assert slide.info.mpp == Mpp(0.25, 0.25)
        assert [level.to_level0.scale_x for level in slide.info.levels] == [1, 2, 4]


def test_a_real_slide_with_its_pictures(shared_dir: Path) -> None:
    path = shared_dir / "data/slides/CMU-1-Small-Region.svs"
    assert_same_pixels(path)
    with open_slide(path) as fast, open_slide(path, "openslide") as slow:
        assert fast.info.reader == "tiff"
        assert fast.info.associated_images == slow.info.associated_images == ("label", "macro", "thumbnail")
        for name in fast.info.associated_images:
            np.testing.assert_array_equal(fast.read_associated_image(name), slow.read_associated_image(name))


def test_a_slide_of_shared_tiles(tmp_path: Path) -> None:
    path = write_sparse_svs(tmp_path / "big.svs", 40_000, [(10_000, 20_000, 700, 500)], levels=(1, 16))
    with open_slide(path) as fast, open_slide(path, "openslide") as slow:
        assert fast.info.reader == "tiff"
        box = (9_800, 19_900, 600, 300)
        np.testing.assert_array_equal(fast.read_region(0, box), slow.read_region(0, box))
        assert np.ptp(fast.read_region(0, box)) > 50


def test_tiles_that_were_never_written_are_openslides_affair(tmp_path: Path) -> None:
    """OpenSlide fills them from elsewhere; the TIFF reader, if it is asked for, leaves them white."""
    image = tissue_image(128, 128, [(0, 0, 128, 128)])
    path = write_svs(tmp_path / "a.svs", image, tile=64, levels=(1, 2))
    erase_first_tile(path)
    with open_slide(path) as slide:
        assert slide.info.reader == "openslide"
    with open_slide(path, "tiff") as slide:
        assert (slide.read_region(0, (0, 0, 64, 64)) == 255).all()
        assert slide.read_region(0, (64, 0, 64, 64)).mean() < 250


def erase_first_tile(path: Path) -> None:
    import tifffile

    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages.first.tags["TileByteCounts"]
        tag.overwrite((0, *tag.value[1:]))


def test_colours_that_tiff_and_jpeg_name_differently_are_shown_as_openslide_shows_them(
    tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import make_slides

    encode = make_slides.encode_jpeg
    monkeypatch.setattr(make_slides, "encode_jpeg", lambda part, quality, *_: encode(part, quality, "444"))
    path = write_svs(tmp_path / "a.svs", image, tile=64, levels=(1,), colour="rgb")
    with open_slide(path) as slide:
        assert slide.info.reader == "openslide"
    with open_slide(path, "tiff") as slide:  # right by the JFIF marker
        assert abs(slide.read_region(0, (0, 0, 300, 200)).astype(int) - image[:200, :300]).mean() < 4


def test_sixteen_bits_are_read_as_openslide_reads_them(tmp_path: Path, image: Image) -> None:
    import tifffile

    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, image.astype(np.uint16) * 257, tile=(64, 64), photometric="rgb", metadata=None)
    with open_slide(path) as slide:
        assert slide.info.reader == "openslide"
        np.testing.assert_array_equal(slide.read_region(0, (0, 0, 317, 203)), image)
    with pytest.raises(SlideError, match="16 bits"):
        open_slide(path, "tiff")


def test_one_grey_channel_is_read_as_grey(tmp_path: Path, image: Image) -> None:
    import tifffile

    path = tmp_path / "grey.tif"
    tifffile.imwrite(path, image[..., 1], tile=(64, 64), compression="jpeg", metadata=None)
    assert_same_pixels(path)
