"""heatmap.ome.tif: the numbers of the stores, as tifffile and Bio-Formats read them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.export.bioformats import require_bioformats
from tests.export.make_heatmaps import heatmap, random_values
from wsi_cam.errors import OutputError
from wsi_cam.export.cropping import heatmap_pixels_of
from wsi_cam.export.ome_tiff import write_heatmap_ome_tiff
from wsi_cam.geometry import Affine, Box, Heatmap, Level0, Mpp, Size
from wsi_cam.heatmap.store import HeatmapStore

TO_LEVEL0 = Affine[Heatmap, Level0](64.25, 62.5)
MPP = Mpp(0.5, 0.52)
CHANNELS = ["normal probability", "tumour probability", "normal evidence", "tumour evidence"]

Stores = tuple[HeatmapStore, HeatmapStore]


def make_stores(folder: Path, width: int, height: int) -> Stores:
    probability = random_values(width, height, seed=1)
    evidence = np.where(np.isnan(probability), np.nan, 20 * random_values(width, height, seed=2) - 10)
    return (
        heatmap(folder / "probability.ome.zarr", probability, TO_LEVEL0, MPP),
        heatmap(folder / "evidence.ome.zarr", evidence.astype(np.float32), TO_LEVEL0, MPP),
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    return make_stores(tmp_path_factory.mktemp("stores"), 700, 520)


def level_values(stores: Stores, level: int) -> NDArray[np.float32]:
    return np.concatenate([store.read(level) for store in stores])


def halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over the finite pixels of 2 x 2 blocks, the slow way."""
    channels, height, width = values.shape
    result = np.full((channels, -(-height // 2), -(-width // 2)), np.nan, np.float32)
    for index in np.ndindex(result.shape):
        channel, y, x = index
        block = values[channel, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        if np.isfinite(block).any():
            result[index] = np.nanmean(block)
    return result


def annotation(path: Path) -> dict[str, str]:
    with tifffile.TiffFile(path) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    return {m.attrib["K"]: m.text or "" for m in root.iter() if m.tag.endswith("}M")}


def test_every_level_holds_the_numbers_of_the_stores(stores: Stores, tmp_path: Path) -> None:
    path = write_heatmap_ome_tiff(tmp_path / "heatmap.ome.tif", *stores)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_ome
        (series,) = tiff.series
        assert [level.shape for level in series.levels] == [(4, 520, 700), (4, 260, 350), (4, 130, 175)]
        for number, level in enumerate(series.levels):
            np.testing.assert_array_equal(level.asarray(), level_values(stores, number))
        for page in (tiff.pages[0], tiff.pages[0].pages[1]):  # type: ignore[union-attr, index]
            assert page.predictor == 1
            assert (page.tilewidth, page.tilelength, page.compression) == (256, 256, 8)


def test_bioformats_reads_names_colours_spacings_and_the_same_pixels(stores: Stores, tmp_path: Path) -> None:
    bioformats = require_bioformats()
    path = write_heatmap_ome_tiff(tmp_path / "heatmap.ome.tif", *stores)
    root = bioformats.ome_xml(path)
    (pixels,) = root.iter("Pixels")
    assert [pixels.attrib[key] for key in ("SizeX", "SizeY", "SizeC", "Type")] == ["700", "520", "4", "float"]
    assert float(pixels.attrib["PhysicalSizeX"]) == pytest.approx(64.25 * 0.5)
    assert float(pixels.attrib["PhysicalSizeY"]) == pytest.approx(62.5 * 0.52)
    assert pixels.attrib["PhysicalSizeXUnit"] == "µm"
    assert [channel.attrib["Name"] for channel in root.iter("Channel")] == CHANNELS
    colours = [int(channel.attrib["Color"]) & 0xFFFFFFFF for channel in root.iter("Channel")]
    assert colours == [0x4682B4FF, 0xC80000FF] * 2
    for level, (x, y, width, height) in enumerate([(300, 200, 256, 256), (94, 4, 256, 256)]):
        expected = level_values(stores, level)[:, y : y + height, x : x + width]
        decoded = bioformats.decode(path, level, (x, y, width, height))
        np.testing.assert_array_equal(decoded, expected)
        assert np.isnan(decoded).any()


def test_the_bytes_depend_on_the_content_only(stores: Stores, tmp_path: Path) -> None:
    first = write_heatmap_ome_tiff(tmp_path / "a" / "heatmap.ome.tif", *stores)
    again = write_heatmap_ome_tiff(tmp_path / "b" / "heatmap.ome.tif", *stores)
    assert first.read_bytes() == again.read_bytes()
    swapped = write_heatmap_ome_tiff(tmp_path / "c" / "heatmap.ome.tif", *reversed(stores))
    uuids = set()
    for path in (first, swapped):
        with tifffile.TiffFile(path) as tiff:
            uuids.add(ElementTree.fromstring(tiff.ome_metadata or "").attrib["UUID"])
    assert len(uuids) == 2


@pytest.mark.parametrize("origin", ["qupath", "level0"])
def test_the_picture_is_cut_to_the_bounds_as_qupath_cuts_the_slide(
    stores: Stores, tmp_path: Path, origin: str
) -> None:
    bounds = Box[Level0](100 * 64.25 + 20, 51 * 62.5, 400 * 64.25, 300 * 62.5)
    path = write_heatmap_ome_tiff(tmp_path / "heatmap.ome.tif", *stores, bounds=bounds, origin=origin)  # type: ignore[arg-type]
    facts = annotation(path)
    with tifffile.TiffFile(path) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    if origin == "level0":
        assert facts["offset_x"] == facts["offset_y"] == "0.0"
        np.testing.assert_array_equal(levels[0], level_values(stores, 0))
        return
    assert float(facts["offset_x"]) == pytest.approx(-20)
    assert float(facts["offset_y"]) == pytest.approx(0)
    assert float(facts["scale_x"]) == 64.25
    expected = level_values(stores, 0)[:, 51:351, 100:501]
    np.testing.assert_array_equal(levels[0], expected)
    assert [level.shape for level in levels] == [(4, 300, 401), (4, 150, 201)]
    np.testing.assert_allclose(levels[1], halved(expected), rtol=1e-6, atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["heatmap.ome.tif"]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (Box(0, 0, 1000, 1000), (0, 0, 10, 20)),
        (Box(99.99, 50.01, 100.02, 49.98), (1, 1, 1, 1)),
        (Box(-50, -50, 10_000, 10_000), (0, 0, 30, 40)),
        (Box(5000, 5000, 10, 10), (29, 39, 1, 1)),
    ],
)
def test_bounds_take_the_whole_pixels_that_they_touch(
    bounds: Box[Level0], expected: tuple[int, int, int, int]
) -> None:
    assert heatmap_pixels_of(bounds, Affine(100, 50), Size(30, 40)) == expected


def test_a_heatmap_smaller_than_a_tile_has_one_level(tmp_path: Path) -> None:
    stores = make_stores(tmp_path, 5, 3)
    path = write_heatmap_ome_tiff(tmp_path / "heatmap.ome.tif", *stores)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.series[0].levels) == 1
        np.testing.assert_array_equal(tiff.series[0].asarray(), level_values(stores, 0))


def test_memory_holds_a_row_of_tiles_whatever_the_height(tmp_path: Path) -> None:
    peaks = []
    for height in (1024, 4096):
        (tmp_path / str(height)).mkdir()
        stores = make_stores(tmp_path / str(height), 512, height)
        tracemalloc.start()
        write_heatmap_ome_tiff(tmp_path / f"{height}.ome.tif", *stores)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**20


def test_stores_of_two_lattices_are_refused(stores: Stores, tmp_path: Path) -> None:
    other = heatmap(tmp_path / "o.ome.zarr", random_values(700, 520, 3), Affine(64, 64), MPP)
    with pytest.raises(ValueError, match="do not lie on one lattice"):
        write_heatmap_ome_tiff(tmp_path / "heatmap.ome.tif", stores[0], other)


def test_a_folder_that_cannot_be_written_is_named(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"heatmap\.ome\.tif: cannot be written"):
        write_heatmap_ome_tiff(tmp_path / "a_file" / "heatmap.ome.tif", *stores)
