"""Spacing and where it came from, bounds, power, profiles, series: what is said before a pixel is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.make_slides import Image, write_generic_tiff, write_ome_tiff, write_svs
from wsi_cam.errors import SlideError, SpacingError
from wsi_cam.geometry import Box, Mpp, Size
from wsi_cam.slides.opening import READERS, open_slide
from wsi_cam.slides.openslide_reader import _over_white, _read_info
from wsi_cam.slides.slide import SlideInfo, require_mpp


def facts(path: Path, reader: str = "auto", **options: float) -> SlideInfo:
    with open_slide(path, reader, **options) as slide:  # type: ignore[arg-type]
        return slide.info


@pytest.mark.parametrize(("reader", "source"), [("tiff", "aperio.MPP"), ("openslide", "openslide.mpp-x/y")])
def test_aperio_says_its_spacing_and_power(tmp_path: Path, image: Image, reader: str, source: str) -> None:
    info = facts(write_svs(tmp_path / "a.svs", image, mpp=0.499), reader)
    assert (info.mpp, info.mpp_source, info.objective_power) == (Mpp(0.499, 0.499), source, 20)
    assert (info.vendor, info.bounds, info.has_icc_profile) == ("aperio", None, False)
    assert require_mpp(info) == info.mpp


@pytest.mark.parametrize("reader", READERS)
def test_an_icc_profile_and_a_label_are_noticed(tmp_path: Path, image: Image, reader: str) -> None:
    path = write_svs(tmp_path / "a.svs", image, label=image[:50, :40], icc=bytes(300))
    with open_slide(path, reader) as slide:
        assert slide.info.has_icc_profile
        assert slide.info.associated_images == ("label", "thumbnail")
        np.testing.assert_array_equal(slide.read_associated_image("label"), image[:50, :40])


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_spacing_is_an_error_that_says_what_to_do(
    tmp_path: Path, image: Image, reader: str
) -> None:
    path = write_svs(tmp_path / "nompp.svs", image, mpp=None)
    info = facts(path, reader)
    assert (info.mpp, info.mpp_source) == (None, "")
    with pytest.raises(SpacingError, match=r"nompp\.svs.*--mpp"):
        require_mpp(info)


@pytest.mark.parametrize("reader", READERS)
def test_an_implausible_spacing_is_an_error_with_its_source(
    tmp_path: Path, image: Image, reader: str
) -> None:
    info = facts(write_svs(tmp_path / "odd.svs", image, mpp=250.0), reader)
    with pytest.raises(SpacingError, match=r"odd\.svs.*250.*MPP|odd\.svs.*250.*openslide.*--mpp"):
        require_mpp(info)


@pytest.mark.parametrize("reader", READERS)
def test_a_given_spacing_replaces_that_of_the_file(tmp_path: Path, image: Image, reader: str) -> None:
    info = facts(write_svs(tmp_path / "a.svs", image, mpp=250.0), reader, mpp=0.25)
    assert (require_mpp(info), info.mpp_source) == (Mpp(0.25, 0.25), "given")


def test_a_given_spacing_has_to_be_one(tmp_path: Path, image: Image) -> None:
    path = write_svs(tmp_path / "a.svs", image)
    for absurd in (0.0, -1.0, 500.0, float("nan")):
        with pytest.raises(SpacingError, match="no spacing of a slide"):
            open_slide(path, mpp=absurd)


@pytest.mark.parametrize("reader", READERS)
def test_a_plain_tiff_says_its_spacing_by_its_resolution(tmp_path: Path, image: Image, reader: str) -> None:
    info = facts(write_generic_tiff(tmp_path / "a.tif", image, Mpp(0.5, 0.4)), reader)
    assert info.mpp is not None
    assert (info.mpp.x, info.mpp.y) == pytest.approx((0.5, 0.4))


def test_a_screen_resolution_is_no_spacing(tmp_path: Path, image: Image) -> None:
    path = tmp_path / "screen.tif"
    tifffile.imwrite(
        path,
        image,
        tile=(64, 64),
        photometric="rgb",
        resolution=(72, 72),
        resolutionunit="INCH",
        metadata=None,
    )
    with pytest.raises(SpacingError, match="--mpp"):
        require_mpp(facts(path, "tiff"))
    with pytest.raises(SpacingError, match="--mpp"):
        require_mpp(facts(path, "openslide"))


def test_resolution_in_inches_counts_where_it_is_that_of_a_slide(tmp_path: Path, image: Image) -> None:
    path = tmp_path / "inches.tif"
    tifffile.imwrite(
        path, image, tile=(64, 64), photometric="rgb", resolution=(50800, 50800), resolutionunit="INCH",
        metadata=None,
    )  # fmt: skip
    assert require_mpp(facts(path, "tiff")) == Mpp(0.5, 0.5)


def test_an_ome_tiff_says_its_spacing_in_its_xml(tmp_path: Path, image: Image) -> None:
    info = facts(write_ome_tiff(tmp_path / "a.ome.tif", image, Mpp(0.5, 0.4), levels=(1, 2, 4)))
    assert (info.mpp, info.mpp_source, info.vendor) == (Mpp(0.5, 0.4), "OME-XML", "ome-tiff")
    assert [level.to_level0.scale_x for level in info.levels] == [1, 2, 4]


def test_an_ome_tiff_may_hold_its_levels_as_pages_of_their_own(tmp_path: Path, image: Image) -> None:
    path = tmp_path / "chain.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(image, tile=(64, 64), photometric="rgb", metadata={"axes": "YXS"})
        tiff.write(image[::2, ::2], tile=(64, 64), photometric="rgb", subfiletype=1, metadata=None)
    with open_slide(path) as slide:
        assert (slide.info.vendor, len(slide.info.levels)) == ("ome-tiff", 2)
        np.testing.assert_array_equal(slide.read_region(1, (10, 10, 50, 60)), image[::2, ::2][10:70, 10:60])


def test_a_series_can_be_chosen(tmp_path: Path, image: Image) -> None:
    other = np.ascontiguousarray(image[:90, :70])
    path = write_ome_tiff(tmp_path / "two.ome.tif", image, Mpp(0.5, 0.5), more_images=[other])
    with open_slide(path, series=1) as slide:
        assert (slide.info.series, slide.info.size) == (1, Size(70, 90))
        np.testing.assert_array_equal(slide.read_region(0, (0, 0, 70, 90)), other)
    with pytest.raises(SlideError, match="no series 2; it holds series 0 to 1"):
        open_slide(path, series=2)


def test_a_real_ome_tiff_that_openslide_refuses(shared_dir: Path) -> None:
    path = shared_dir / "data/slides/OS-1-detail.ome.tif"
    with open_slide(path) as slide:
        info = slide.info
        assert (info.reader, info.size) == ("tiff", Size(1101, 1101))
        assert require_mpp(info).x == pytest.approx(0.2271, abs=1e-4)
        region = slide.read_region(0, (300, 300, 300, 300))
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(region, tiff.pages.first.asarray()[300:600, 300:600])
    with pytest.raises(SlideError, match="OS-1-detail"):
        open_slide(path, "openslide")


def test_a_fluorescence_slide_opens_with_all_its_levels(shared_dir: Path) -> None:
    with open_slide(shared_dir / "data/slides/test3-DAPI-2-387.ndpi") as slide:
        info = slide.info
        assert (info.reader, info.vendor, info.size) == ("openslide", "hamamatsu", Size(3968, 4864))
        assert [level.to_level0.scale_x for level in info.levels] == [1, 2, 4, 8, 16, 32, 64]
        assert require_mpp(info).x == pytest.approx(0.228, abs=1e-3)
        assert (info.objective_power, info.associated_images) == (40, ("macro",))
        dark = slide.read_region(6, (0, 0, 62, 76))
        assert dark.shape == (76, 62, 3)
        assert dark.mean() < 60
        assert slide.read_associated_image("macro").shape == (406, 1188, 3)
    with pytest.raises(SlideError, match="NDPI"):
        open_slide(info.path, "tiff")


def test_bounds_and_fallbacks_come_from_openslides_properties(tmp_path: Path) -> None:
    """No bounded format can be written here; the properties are those that OpenSlide gives for MIRAX."""
    properties = {
        "openslide.vendor": "mirax",
        "openslide.bounds-x": "100",
        "openslide.bounds-y": "200",
        "openslide.bounds-width": "3000",
        "openslide.bounds-height": "4000",
        "openslide.icc-size": "560",
        "tiff.ResolutionUnit": "centimeter",
        "tiff.XResolution": "20000",
    }
    info = _read_info(tmp_path / "a.mrxs", [Size(8000, 9000)], ("macro",), properties)
    assert info.bounds == Box(100, 200, 3000, 4000)
    assert (info.mpp, info.mpp_source) == (Mpp(0.5, 0.5), "TIFF resolution")
    assert info.has_icc_profile
    incomplete = {key: value for key, value in properties.items() if key != "openslide.bounds-x"}
    assert _read_info(tmp_path / "a.mrxs", [Size(8000, 9000)], (), incomplete).bounds is None


def test_transparent_pixels_lie_over_white() -> None:
    from PIL import Image as Pictures

    picture = Pictures.new("RGBA", (3, 1))
    for x, pixel in enumerate([(10, 20, 30, 255), (10, 20, 30, 0), (0, 100, 200, 128)]):
        picture.putpixel((x, 0), pixel)
    assert _over_white(picture)[0].tolist() == [[10, 20, 30], [255, 255, 255], [127, 177, 227]]


def test_facts_can_be_written_as_json(tmp_path: Path, image: Image) -> None:
    info = facts(write_svs(tmp_path / "a.svs", image, levels=(1, 4)))
    read_back = json.loads(json.dumps(info.as_dict()))
    assert read_back["path"] == str(tmp_path / "a.svs")
    assert read_back["levels"][1]["to_level0"]["scale_x"] == 4
    assert read_back["mpp"] == {"x": 0.5, "y": 0.5}
