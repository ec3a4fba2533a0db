"""Tissue is found where it is, pale or strong, and nothing else is taken for it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tests.make_slides import downsampled, tissue_image
from wsi_cam.errors import TissueError
from wsi_cam.geometry import Affine, Level0, Mpp, Thumbnail
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.thumbnail import read_thumbnail
from wsi_cam.tiling.tissue import TissueMask, find_tissue

Image = NDArray[np.uint8]
Region = NDArray[np.bool_]

EIGHT_UM = Affine[Thumbnail, Level0](16, 16)
"""A thumbnail of 8 um per pixel, of a slide of 0.5 um per pixel."""
MPP = Mpp(0.5, 0.5)
GLASS = (243, 243, 245)
STAINED = (190, 120, 170)
PALE = (238, 226, 234)


def glass(
    height: int = 120, width: int = 160, colour: tuple[int, int, int] = GLASS, noise: float = 1.5
) -> Image:
    """Empty glass with noise of its own in each channel, as JPEG leaves it."""
    generator = np.random.default_rng(0)
    return (generator.normal(0, noise, (height, width, 3)) + colour).clip(0, 255).astype(np.uint8)


def disc(picture: Image, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> Region:
    """Draws a textured disc of tissue; returns where it is."""
    rows, columns = np.ogrid[: picture.shape[0], : picture.shape[1]]
    region: Region = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    texture = np.random.default_rng(1).normal(0, 4, (region.sum(), 1))
    picture[region] = (np.array(colour) + texture).clip(0, 255)
    return region


def find(picture: Image) -> TissueMask:
    return find_tissue(picture, EIGHT_UM, MPP)


def assert_found(picture: Image, tissue: Region) -> None:
    """The mask agrees with ``tissue``, but for a rim of two pixels."""
    mask = find(picture).mask
    missed = ndimage.binary_erosion(tissue, iterations=2, border_value=1) & ~mask
    too_much = mask & ~ndimage.binary_dilation(tissue, iterations=2)
    assert (missed.sum(), too_much.sum()) == (0, 0)


@pytest.mark.parametrize("stain", [STAINED, PALE, (110, 70, 130), (165, 170, 200)])
@pytest.mark.parametrize("on", [GLASS, (225, 233, 228), (222, 212, 204), (255, 255, 255)])
def test_tissue_is_found_on_glass_of_any_tint(stain: tuple[int, int, int], on: tuple[int, int, int]) -> None:
    picture = glass(colour=on)
    shade = tuple(round(channel * white / 245) for channel, white in zip(stain, on, strict=True))
    assert_found(picture, disc(picture, 60, 50, 25, shade))  # type: ignore[arg-type]


def test_pale_tissue_beside_strongly_stained_tissue_is_kept() -> None:
    picture = glass()
    assert_found(picture, disc(picture, 40, 60, 25, STAINED) | disc(picture, 110, 60, 25, PALE))


def test_fat_is_found_by_its_membranes() -> None:
    picture = glass()
    rows, columns = np.ogrid[:120, :160]
    fat = (rows >= 24) & (rows <= 96) & (columns >= 30) & (columns <= 120)
    picture[fat & ((rows % 8 == 0) | (columns % 9 == 3))] = (236, 214, 228)
    assert find(picture).mask[fat].mean() > 0.9


def test_a_slide_that_is_all_tissue_is_not_parted_into_dark_and_pale() -> None:
    picture = glass(colour=STAINED)
    disc(picture, 60, 60, 30, (224, 190, 214))
    assert find(picture).mask.all()


def test_a_small_biopsy_on_a_large_slide_is_found() -> None:
    picture = glass(400, 500)
    tissue = disc(picture, 300, 200, 6, STAINED)
    assert_found(picture, tissue)


def test_black_rims_and_unscanned_white_do_not_count_and_do_not_disturb() -> None:
    picture = glass()
    tissue = disc(picture, 80, 60, 25, PALE)
    picture[:20], picture[:, :15] = 5, 0
    picture[:, 140:] = 255
    assert_found(picture, tissue)


def test_grey_dust_and_shadows_are_not_tissue() -> None:
    picture = glass()
    tissue = disc(picture, 40, 60, 20, STAINED)
    disc(picture, 120, 60, 12, (120, 120, 121))
    picture[100:104] = 200
    assert_found(picture, tissue)


def test_specks_are_dropped_and_small_gaps_filled_but_not_large_ones() -> None:
    picture = glass()
    tissue = disc(picture, 70, 60, 45, STAINED)
    disc(picture, 60, 40, 7, GLASS)  # 0.01 mm2
    tissue &= ~disc(picture, 75, 70, 18, GLASS)  # 0.07 mm2
    disc(picture, 140, 20, 3, STAINED)  # 0.0018 mm2
    tissue |= disc(picture, 140, 100, 6, STAINED)  # 0.0072 mm2
    assert_found(picture, tissue)


def test_a_crop_smaller_than_a_gap_is_not_filled_up() -> None:
    picture = glass(15, 15)  # 120 um a side
    tissue = np.zeros((15, 15), bool)
    tissue[:, :6] = True
    picture[tissue] = STAINED
    assert_found(picture, tissue)


def test_a_crop_smaller_than_a_fragment_is_tissue_all_the_same() -> None:
    assert find(glass(5, 6, STAINED)).mask.all()


def test_what_is_small_is_measured_on_the_slide_not_on_the_picture() -> None:
    picture = glass()
    disc(picture, 60, 50, 3.5, STAINED)  # 37 pixels: 0.0024 mm2 at 8 um, 0.038 mm2 at 32 um
    with pytest.raises(TissueError, match="specks"):
        find_tissue(picture, EIGHT_UM, MPP)
    coarse = find_tissue(picture, Affine[Thumbnail, Level0](64, 64), MPP)
    assert coarse.area_mm2(MPP) == pytest.approx(0.05, rel=0.3)


def test_coloured_pen_counts_as_tissue_and_black_pen_does_not() -> None:
    picture = glass()
    tissue = disc(picture, 80, 60, 25, STAINED)
    picture[5:11, 10:150] = (20, 40, 160)
    tissue[5:11, 10:150] = True
    picture[108:113, 10:150] = (15, 15, 20)
    assert_found(picture, tissue)


def test_the_area_is_that_of_the_squares_on_the_slide() -> None:
    tissue = TissueMask(np.eye(10, dtype=bool), Affine(16, 32), "test")
    assert tissue.area_mm2(Mpp(0.5, 0.25)) == pytest.approx(10 * 0.008 * 0.008)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (glass(noise=0), "nothing is coloured"),
        (glass(noise=3), "no tissue found"),
        (glass(colour=(222, 212, 204)), "nothing is coloured"),
        (np.full((50, 50, 3), 255, np.uint8), "nothing is coloured"),
        (np.full((50, 50, 3), 128, np.uint8), "nothing is coloured"),
        (np.full((1, 1, 3), 255, np.uint8), "nothing is coloured"),
        (np.zeros((50, 50, 3), np.uint8), "not a brightfield slide"),
    ],
    ids=["glass", "noisy", "yellow", "white", "grey", "one pixel", "black"],
)
def test_a_slide_without_tissue_says_so(picture: Image, reason: str) -> None:
    with pytest.raises(TissueError, match=reason) as error:
        find(picture)
    assert "--tissue" in str(error.value)


@pytest.mark.parametrize(
    ("background", "signal"),
    [
        ((2, 2, 3), (0, 0, 200)),
        ((2, 2, 3), (160, 160, 160)),
        ((40, 40, 40), (200, 210, 200)),
        ((0, 0, 60), (0, 0, 255)),
        ((60, 60, 60), (250, 250, 250)),
        ((0, 0, 0), (20, 250, 120)),
    ],
)
def test_fluorescence_is_refused_as_not_brightfield(
    background: tuple[int, int, int], signal: tuple[int, int, int]
) -> None:
    picture = glass(colour=background)
    for x in range(20, 160, 30):
        disc(picture, x, 60, 12, signal)
    with pytest.raises(TissueError, match=r"not a brightfield slide: .*fluorescence"):
        find(picture)


def test_a_thumbnail_that_is_none_is_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="thumbnail"):
            find(wrong)  # type: ignore[arg-type]


def test_a_large_thumbnail_takes_little_memory() -> None:
    picture = np.tile(glass(128, 128), (16, 16, 1))
    picture[500:1000, 250:1500] = STAINED
    tracemalloc.start()
    try:
        mask = find(picture).mask
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert mask.sum() == pytest.approx(500 * 1250, rel=0.01)
    assert peak < 5 * picture.nbytes, "about a label of 32 bit and five bytes for each pixel"


def test_the_boxes_of_a_made_slide_are_found() -> None:
    picture = downsampled(tissue_image(1600, 1600, [(320, 480, 640, 320)]), 16)
    tissue = np.zeros((100, 100), bool)
    tissue[30:50, 20:60] = True
    assert_found(picture, tissue)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("CMU-1-Small-Region.svs", 0.35, 0.45), ("OS-1-detail.ome.tif", 0.99, 1)]
)
def test_the_tissue_of_real_slides_is_found(shared_dir: Path, name: str, least: float, most: float) -> None:
    with open_slide(shared_dir / "data" / "slides" / name) as slide:
        assert slide.info.mpp is not None
        tissue = find_tissue(*read_thumbnail(slide, slide.info.mpp), slide.info.mpp)
    assert least <= tissue.mask.mean() <= most
    if name.startswith("CMU"):  # glass in the corners, skin in the middle of the lower edge
        assert not tissue.mask[[0, 0, -1, -1], [0, -1, 0, -1]].any()
        assert tissue.mask[-10:, tissue.mask.shape[1] // 2].all()


def test_the_real_fluorescence_slide_is_refused(shared_dir: Path) -> None:
    with open_slide(shared_dir / "data" / "slides" / "test3-DAPI-2-387.ndpi") as slide:
        assert slide.info.mpp is not None
        thumbnail, to_level0 = read_thumbnail(slide, slide.info.mpp)
        with pytest.raises(TissueError, match="fluorescence"):
            find_tissue(thumbnail, to_level0, slide.info.mpp)
