"""overlay.ome.tif: the slide and its heatmap blended, as tifffile and Bio-Formats read it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.export.bioformats import require_bioformats
from tests.export.make_heatmaps import heatmap
from tests.make_slides import tissue_image, write_generic_tiff
from wsi_cam.errors import SlideError
from wsi_cam.export.colour_maps import probability_scale
from wsi_cam.export.overlay_tiff import write_overlay_ome_tiff
from wsi_cam.export.slide_scaling import ScaledGrid, read_scaled
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.store import HeatmapStore
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import LevelInfo, Slide, SlideInfo

MPP = Mpp(0.5, 0.4)
WIDTH, HEIGHT = 2100, 1700
CELL = Affine[Heatmap, Level0](32, 40)
SCALE = probability_scale("tumour")


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return tissue_image(HEIGHT, WIDTH, [(200, 150, 1500, 1200)])


@pytest.fixture
def slide(tmp_path: Path, image: NDArray[np.uint8]) -> Iterator[Slide]:
    path = write_generic_tiff(tmp_path / "slide.tif", image, mpp=MPP, levels=(1,), compression="deflate")
    with open_slide(path, mpp=MPP) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> HeatmapStore:
    """0.2 everywhere but 0.95 in a square of 12 x 10 pixels; unseen to the left of column 8."""
    values = np.full((2, 43, 66), 0.2, np.float32)
    values[:, 14:24, 25:37] = 0.95
    values[:, :, :8] = np.nan
    return heatmap(tmp_path / "probability.ome.zarr", values, CELL, MPP)


@dataclass(frozen=True)
class WithBounds:
    """A slide that states which part of it was scanned."""

    slide: Slide
    bounds: Box[Level0]

    @property
    def info(self) -> SlideInfo:
        return replace(self.slide.info, bounds=self.bounds)

    def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        return self.slide.read_region(level, box)


@dataclass(frozen=True)
class Blank:
    """A slide of any size that holds nothing in memory."""

    info: SlideInfo

    def read_region(self, level: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        return np.full((box[3], box[2], 3), 200, np.uint8)


def area_mean(
    image: NDArray[np.uint8], grid: ScaledGrid, x: int, y: int, width: int, height: int
) -> NDArray[np.float64]:
    """Each pixel the mean of the level-0 area it covers, pixel by pixel; white outside."""
    result = np.empty((height, width, 3))
    white = np.full((image.shape[0] + 200, image.shape[1] + 200, 3), 255.0)
    white[: image.shape[0], : image.shape[1]] = image
    for row, column in np.ndindex(height, width):
        box = grid.to_level0.box(Box(x + column, y + row, 1, 1))
        xs, ys = (
            np.arange(int(box.x), int(np.ceil(box.right))),
            np.arange(int(box.y), int(np.ceil(box.bottom))),
        )
        weights = np.outer(
            np.minimum(ys + 1, box.bottom) - np.maximum(ys, box.y),
            np.minimum(xs + 1, box.right) - np.maximum(xs, box.x),
        )
        result[row, column] = (white[np.ix_(ys, xs)] * weights[..., None]).sum((0, 1)) / weights.sum()
    return result


@pytest.mark.parametrize("um_per_px", [0.7, 1.3, 7.0])
def test_a_window_of_the_slide_is_the_mean_of_what_it_covers(
    slide: Slide, image: NDArray[np.uint8], um_per_px: float
) -> None:
    grid = ScaledGrid.over(Box(0, 0, WIDTH, HEIGHT), MPP, um_per_px)
    assert grid.size.width == int(np.ceil(WIDTH * MPP.x / um_per_px))
    x, y = grid.size.width // 3, grid.size.height // 3
    box = (x, y, min(40, grid.size.width - x), min(30, grid.size.height - y))
    np.testing.assert_allclose(read_scaled(slide, grid, *box), area_mean(image, grid, *box), atol=0.51)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
@pytest.mark.parametrize("corner", [(0.0, 0.0), (5.0, 3.0), (0.25, 0.5)])
def test_whole_factors_give_the_same_means_whatever_the_corner(
    slide: Slide, image: NDArray[np.uint8], factor: int, corner: tuple[float, float]
) -> None:
    grid = ScaledGrid.over(Box(*corner, WIDTH - 10, HEIGHT - 10), Mpp(1, 1), factor)
    box = (grid.size.width - 9, 4, 9, 7)
    np.testing.assert_allclose(read_scaled(slide, grid, *box), area_mean(image, grid, *box), atol=0.51)


def test_a_window_past_the_edge_is_white_there(slide: Slide, image: NDArray[np.uint8]) -> None:
    grid = ScaledGrid.over(Box(0, 0, WIDTH, HEIGHT), MPP, 8.0)
    box = (grid.size.width - 5, grid.size.height - 5, 5, 5)
    np.testing.assert_allclose(read_scaled(slide, grid, *box), area_mean(image, grid, *box), atol=0.51)


def write(
    path: Path, slide: Slide, store: HeatmapStore, um_per_px: float = 0.6, origin: str = "qupath"
) -> Path:
    return write_overlay_ome_tiff(
        path,
        slide,
        MPP,
        store,
        "tumour",
        SCALE,
        um_per_px=um_per_px,
        origin=origin,  # type: ignore[arg-type]
    )


def test_the_levels_are_the_blend_and_its_means(
    slide: Slide, store: HeatmapStore, image: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = write(tmp_path / "overlay.ome.tif", slide, store)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        (series,) = tiff.series
        levels = [level.asarray() for level in series.levels]
        page = tiff.pages[0]
        assert page.samplesperpixel == 3  # type: ignore[union-attr]
        assert page.compression == 7  # type: ignore[union-attr]
        assert (page.tilewidth, page.tilelength) == (512, 512)  # type: ignore[union-attr]
    assert [level.shape for level in levels] == [(1134, 1750, 3), (567, 875, 3)]
    grid = ScaledGrid.over(Box(0, 0, WIDTH, HEIGHT), MPP, 0.6)
    for x, y in ((300, 200), (820, 480), (1100, 600), (1500, 900)):  # unseen, in the square, at its edge, low
        part = area_mean(image, grid, x, y, 8, 8)
        level0 = grid.to_level0.box(Box(x, y, 8, 8))
        column, row = int(level0.x / CELL.scale_x), int(level0.y / CELL.scale_y)
        values = np.full((8, 8), store.read(0)[1, row, column], np.float32)
        expected = SCALE.over(values, part.round().astype(np.uint8)).astype(int)
        # JPEG is allowed to be a little off; the heatmap is interpolated at the square's edge.
        difference = np.abs(levels[0][y : y + 8, x : x + 8].astype(int) - expected).mean()
        assert difference < (60 if (x, y) == (1100, 600) else 6), (x, y)
    halves = levels[0][:1134, :1750].reshape(567, 2, 875, 2, 3).mean((1, 3))
    assert np.abs(levels[1] - halves).mean() < 2


def test_bioformats_reads_one_rgb_image_its_spacing_and_our_pixels(
    slide: Slide, store: HeatmapStore, tmp_path: Path
) -> None:
    bioformats = require_bioformats()
    path = write(tmp_path / "overlay.ome.tif", slide, store)
    root = bioformats.ome_xml(path)
    (pixels,) = root.iter("Pixels")
    assert [pixels.attrib[key] for key in ("SizeX", "SizeY", "SizeC", "Type")] == [
        "1750",
        "1134",
        "3",
        "uint8",
    ]
    assert [float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in "XY"] == [0.6, 0.6]
    (channel,) = root.iter("Channel")
    assert channel.attrib["SamplesPerPixel"] == "3"
    with tifffile.TiffFile(path) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    for number, (x, y) in enumerate([(700, 400), (300, 200)]):
        decoded = bioformats.decode(path, number, (x, y, 300, 250))
        if decoded.shape[0] == 3:
            decoded = np.moveaxis(decoded, 0, -1)
        np.testing.assert_array_equal(decoded, levels[number][y : y + 250, x : x + 300])


@pytest.mark.parametrize("origin", ["qupath", "level0"])
def test_the_picture_is_of_the_bounds_as_qupath_shows_the_slide(
    slide: Slide, store: HeatmapStore, tmp_path: Path, origin: str
) -> None:
    whole = write(tmp_path / "whole.ome.tif", slide, store, um_per_px=2.0)
    bounded = WithBounds(slide, Box(400, 300, 1200, 900))
    path = write(tmp_path / "overlay.ome.tif", bounded, store, um_per_px=2.0, origin=origin)  # type: ignore[arg-type]
    with tifffile.TiffFile(path) as tiff, tifffile.TiffFile(whole) as uncut:
        picture, full = tiff.series[0].asarray(), uncut.series[0].asarray()
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    facts = {m.attrib["K"]: m.text for m in root.iter() if m.tag.endswith("}M")}
    place = ("scale_x", "scale_y", "offset_x", "offset_y")
    assert [facts[key] for key in place] == ["4.0", "5.0", "0.0", "0.0"]
    if origin == "level0":
        np.testing.assert_array_equal(picture, full)
        return
    assert picture.shape == (180, 300, 3)
    assert np.abs(picture.astype(int) - full[60:240, 100:400]).mean() < 5  # JPEG blocks begin elsewhere


def test_memory_is_flat_and_nothing_is_left_behind(store: HeatmapStore, tmp_path: Path) -> None:
    peaks = []
    for side in (4096, 8192):
        level = LevelInfo(Size(side, side), Affine(1, 1))
        slide = Blank(SlideInfo(tmp_path / "blank.svs", "tiff", "aperio", (level,)))
        tracemalloc.start()
        path = tmp_path / "out" / f"{side}.ome.tif"
        write_overlay_ome_tiff(path, slide, Mpp(0.5, 0.5), store, "tumour", SCALE, um_per_px=2.0)  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**20
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["4096.ome.tif", "8192.ome.tif"]


def test_a_slide_that_breaks_off_leaves_no_file(
    slide: Slide, store: HeatmapStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(level: int, box: object) -> None:
        raise SlideError("slide.tif: cannot read")

    monkeypatch.setattr(slide, "read_region", torn)
    with pytest.raises(SlideError, match="cannot read"):
        write(tmp_path / "out" / "overlay.ome.tif", slide, store)
    assert list((tmp_path / "out").iterdir()) == []
