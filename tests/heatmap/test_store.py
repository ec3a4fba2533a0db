from __future__ import annotations

import errno
import math
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import ome_zarr_models
import pytest
import yaozarrs
import zarr
from numpy.typing import NDArray

from tests.heatmap import references
from wsi_cam.errors import OutputError
from wsi_cam.geometry import Affine, Heatmap, Level0, Mpp, Point, Size
from wsi_cam.heatmap.ngff import Ngff
from wsi_cam.heatmap.store import HeatmapStore, HeatmapWriter, open_heatmap

TO_LEVEL0: Affine[Heatmap, Level0] = Affine(62.3, 31.15)
MPP = Mpp(0.499, 0.998)
PROVENANCE = {"slide": {"size": 12, "hash": "ab"}, "settings": {"overlap": 0.5}, "classes": ["normal"]}


def writer_at(folder: Path, size: Size, ngff: Ngff = "0.4", **changed: Any) -> HeatmapWriter:
    facts: dict[str, Any] = {
        "channel_names": ["normal", "tumour <b>"],
        "channel_colors": [(0, 158, 115), (213, 94, 0)],
        "to_level0": TO_LEVEL0,
        "mpp": MPP,
        "name": "evidence",
        "provenance": PROVENANCE,
        "windows": [(0, 7.5), (0, 12)],
    } | changed
    return HeatmapWriter(folder, size, ngff=ngff, **facts)


def some_heatmap(width: int = 700, height: int = 600) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    heatmap = rng.normal(size=(2, height, width)).astype(np.float32)
    heatmap[:, rng.random((height, width)) < 0.2] = np.nan
    heatmap[:, : height // 2, width // 2 :] = np.nan
    return heatmap


def stored(folder: Path, heatmap: NDArray[np.float32], ngff: Ngff = "0.4", band: int = 77) -> HeatmapStore:
    writer = writer_at(folder, Size(heatmap.shape[2], heatmap.shape[1]), ngff)
    for row in range(0, heatmap.shape[1], band):
        writer.write_rows(row, heatmap[:, row : row + band])
    writer.finish()
    return open_heatmap(folder)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


both_versions = pytest.mark.parametrize("ngff", ["0.4", "0.5"])


@both_versions
def test_what_was_written_is_read_back_with_its_pyramid(tmp_path: Path, ngff: Ngff) -> None:
    heatmap = some_heatmap()
    store = stored(tmp_path / "evidence.ome.zarr", heatmap, ngff)
    assert store.ngff == ngff
    assert store.levels == (Size(700, 600), Size(350, 300), Size(175, 150))
    np.testing.assert_array_equal(store.read(), heatmap)
    expected = references.pyramid_level(heatmap, 2)
    np.testing.assert_allclose(store.read(2), expected, rtol=1e-6, atol=1e-7)


@both_versions
def test_the_store_knows_what_it_is(tmp_path: Path, ngff: Ngff) -> None:
    store = stored(tmp_path / "evidence.ome.zarr", some_heatmap(30, 20), ngff)
    assert store.name == "evidence"
    assert store.size == Size(30, 20)
    assert store.channel_names == ("normal", "tumour <b>")
    assert store.channels[1].color == (213, 94, 0)
    assert store.channels[1].window == (0, 12)
    assert store.provenance == PROVENANCE
    assert store.to_level0 == TO_LEVEL0
    assert store.mpp == MPP
    assert store.pixel_mpp == Mpp(0.499 * 62.3, 0.998 * 31.15)
    assert store.channel_index("tumour <b>") == 1
    with pytest.raises(OutputError, match="no channel 'stroma'; its channels are normal, tumour <b>"):
        store.channel_index("stroma")


@both_versions
def test_boxes_and_channels_are_read_alone(tmp_path: Path, ngff: Ngff) -> None:
    heatmap = some_heatmap()
    store = stored(tmp_path / "evidence.ome.zarr", heatmap, ngff)
    np.testing.assert_array_equal(store.read(0, (250, 300, 120, 4)), heatmap[:, 300:304, 250:370])
    np.testing.assert_array_equal(store.read(0, (699, 599, 1, 1), [1]), heatmap[1:, 599:, 699:])
    assert store.read(1, (5, 5, 0, 3)).shape == (2, 3, 0)
    with pytest.raises(ValueError, match="leaves level 1 of 350 x 300"):
        store.read(1, (340, 0, 11, 1))


@both_versions
def test_bands_make_up_the_whole_level(tmp_path: Path, ngff: Ngff) -> None:
    heatmap = some_heatmap()
    store = stored(tmp_path / "evidence.ome.zarr", heatmap, ngff)
    bands = list(store.iter_bands(0, [1]))
    assert [row for row, _ in bands] == [0, 256, 512]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in bands], axis=1), heatmap[1:])


@both_versions
def test_validators_that_others_wrote_accept_it(tmp_path: Path, ngff: Ngff) -> None:
    folder = tmp_path / "evidence.ome.zarr"
    stored(folder, some_heatmap(), ngff)
    yaozarrs.validate_zarr_store(folder)
    image = ome_zarr_models.open_ome_zarr(zarr.open_group(folder, mode="r"))
    assert type(image).__module__.startswith(f"ome_zarr_models.v{ngff.replace('.', '')}")


@both_versions
def test_plain_zarr_reads_the_arrays_without_us(tmp_path: Path, ngff: Ngff) -> None:
    heatmap = some_heatmap()
    folder = tmp_path / "evidence.ome.zarr"
    stored(folder, heatmap, ngff)
    group = zarr.open_group(folder, mode="r")
    assert sorted(group.array_keys()) == ["0", "1", "2"]
    assert list(group.group_keys()) == ["OME"]
    array = group["0"]
    assert isinstance(array, zarr.Array)
    assert array.dtype == np.dtype("<f4")
    assert math.isnan(array.fill_value)
    np.testing.assert_array_equal(array[:], heatmap)


def test_the_default_is_what_qupath_reads(tmp_path: Path) -> None:
    folder = tmp_path / "evidence.ome.zarr"
    stored(folder, some_heatmap())
    array = zarr.open_array(folder / "0", mode="r")
    assert array.metadata.zarr_format == 2
    said: Any = array.metadata.to_dict()
    assert {"id": "blosc", "cname": "zstd", "shuffle": 1}.items() <= said["compressor"].items()
    assert said["dimension_separator"] == "/"
    assert (folder / "0" / "1" / "2" / "0").is_file()


@both_versions
def test_transforms_place_pixel_centres_where_the_slide_has_them(tmp_path: Path, ngff: Ngff) -> None:
    folder = tmp_path / "evidence.ome.zarr"
    store = stored(folder, some_heatmap(), ngff)
    attributes: Any = dict(zarr.open_group(folder, mode="r").attrs)
    multiscale = attributes.get("ome", attributes)["multiscales"][0]
    for level, dataset in enumerate(multiscale["datasets"]):
        scale, translation = dataset["coordinateTransformations"]
        level0 = store.level_to_level0(level).point(Point(3.5, 4.5))  # the centre of pixel (3, 4)
        # In a slide without a translation, the centre of pixel i lies at i um / mpp.
        assert scale["scale"][2] * 3 + translation["translation"][2] == pytest.approx(
            (level0.x - 0.5) * MPP.x
        )
        assert scale["scale"][1] * 4 + translation["translation"][1] == pytest.approx(
            (level0.y - 0.5) * MPP.y
        )
        first_scale, first_translation = multiscale["datasets"][0]["coordinateTransformations"]
        s0, t0 = first_scale["scale"][2], first_translation["translation"][2]
        assert scale["scale"][2] == s0 * 2**level
        assert translation["translation"][2] == pytest.approx(t0 + s0 * (2**level - 1) / 2)


@both_versions
def test_the_ome_xml_says_the_same_as_the_attributes(tmp_path: Path, ngff: Ngff) -> None:
    folder = tmp_path / "evidence.ome.zarr"
    stored(folder, some_heatmap(), ngff)
    attributes: Any = dict(zarr.open_group(folder, mode="r").attrs)
    ome = attributes.get("ome", attributes)
    root = ElementTree.parse(folder / "OME" / "METADATA.ome.xml").getroot()
    names = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    pixels = root.find("ome:Image/ome:Pixels", names)
    assert pixels is not None
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert [float(pixels.attrib[key]) for key in ("PhysicalSizeY", "PhysicalSizeX")] == scale[1:]
    assert pixels.attrib["PhysicalSizeXUnit"] == pixels.attrib["PhysicalSizeYUnit"] == "µm"
    assert [pixels.attrib[f"Size{axis}"] for axis in "XYCZT"] == ["700", "600", "2", "1", "1"]
    assert pixels.attrib["Type"] == "float"
    for channel, omero in zip(pixels.findall("ome:Channel", names), ome["omero"]["channels"], strict=True):
        assert channel.attrib["Name"] == omero["label"]
        rgba = int(channel.attrib["Color"]) % 2**32
        assert f"{rgba >> 8:06X}" == omero["color"]
        assert rgba & 255 == 255
    assert [channel["window"] for channel in ome["omero"]["channels"]] == [
        {"min": 0, "max": 7.5, "start": 0, "end": 7.5},
        {"min": 0, "max": 12, "start": 0, "end": 12},
    ]


@both_versions
def test_equal_heatmaps_give_equal_bytes_however_they_were_cut(tmp_path: Path, ngff: Ngff) -> None:
    heatmap = some_heatmap()
    stored(tmp_path / "a.ome.zarr", heatmap, ngff, band=77)
    stored(tmp_path / "b.ome.zarr", heatmap, ngff, band=600)
    assert tree(tmp_path / "a.ome.zarr") == tree(tmp_path / "b.ome.zarr")


@both_versions
def test_a_vast_empty_slide_costs_no_more_work_and_no_disk(tmp_path: Path, ngff: Ngff) -> None:
    folder = tmp_path / "evidence.ome.zarr"

    def work(folder: Path, height: int) -> float:
        began = time.process_time()
        writer = writer_at(folder, Size(10_000, height), ngff)
        writer.write_rows(height * 2 // 5, np.ones((2, 1, 10_000), dtype=np.float32))
        writer.finish()
        return time.process_time() - began

    one_row_of_chunks = work(tmp_path / "flat.ome.zarr", 256)
    # Forty rows of chunks, of which one is touched: what is empty costs nothing.
    assert work(folder, 10_000) < 10 * one_row_of_chunks
    chunk_files = [path for path in folder.glob("0/**/*") if path.is_file() and path.name.isdigit()]
    assert len(chunk_files) == {"0.4": 2 * 40, "0.5": 2 * 5}[ngff]
    store = open_heatmap(folder)
    assert len(store.levels) == 7
    assert (store.read(0, (9000, 4000, 1000, 1)) == 1).all()
    assert np.isnan(store.read(0, (0, 0, 300, 300))).all()


@both_versions
def test_an_unfinished_heatmap_is_refused(tmp_path: Path, ngff: Ngff) -> None:
    folder = tmp_path / "evidence.ome.zarr"
    writer = writer_at(folder, Size(700, 600), ngff)
    writer.write_rows(0, some_heatmap())
    with pytest.raises(OutputError, match="not a finished heatmap"):
        open_heatmap(folder)
    writer.finish()
    open_heatmap(folder)


def test_what_is_no_heatmap_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.ome.zarr").write_text("no")
    (tmp_path / "empty.ome.zarr").mkdir()
    zarr.create_group(tmp_path / "foreign.ome.zarr", zarr_format=2, attributes={"multiscales": [{}]})
    for name in ("absent", "text", "empty", "foreign"):
        with pytest.raises(OutputError, match=f"{name}.ome.zarr: not a finished heatmap") as caught:
            open_heatmap(tmp_path / f"{name}.ome.zarr")
        assert "\n" not in str(caught.value)


def test_a_missing_level_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "evidence.ome.zarr"
    stored(folder, some_heatmap())
    (folder / "2" / ".zarray").unlink()
    with pytest.raises(OutputError, match="not a finished heatmap"):
        open_heatmap(folder)


@pytest.mark.parametrize(("ngff", "chunk"), [("0.4", Path("0/1/2/0")), ("0.5", Path("0/c/1/2/0"))])
def test_a_damaged_chunk_is_an_error_and_not_a_hole(tmp_path: Path, ngff: Ngff, chunk: Path) -> None:
    folder = tmp_path / "evidence.ome.zarr"
    store = stored(folder, some_heatmap(), ngff)
    (folder / chunk).write_bytes((folder / chunk).read_bytes()[:100])
    with pytest.raises(OutputError, match=r"level 0 at .* cannot be read"):
        store.read()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "evidence.ome.zarr").mkdir()
    (tmp_path / "evidence.ome.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds files already"):
        writer_at(tmp_path / "evidence.ome.zarr", Size(10, 10))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        writer_at(tmp_path / "file" / "evidence.ome.zarr", Size(10, 10))
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_leaves_nothing_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "evidence.ome.zarr"
    writer = writer_at(folder, Size(700, 600))

    def no_space(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(OutputError, match="No space left on device"):
        writer.write_rows(0, some_heatmap())
    monkeypatch.undo()
    with pytest.raises(OutputError, match="not a finished heatmap"):
        open_heatmap(folder)


def test_provenance_that_json_cannot_say_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for wrong in ({"score": float("nan")}, {"path": tmp_path}):
        with pytest.raises(OutputError, match="cannot be written as JSON"):
            writer_at(tmp_path / "evidence.ome.zarr", Size(10, 10), provenance=wrong)
    assert not (tmp_path / "evidence.ome.zarr").exists()


def test_channels_need_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channel names"):
        writer_at(tmp_path / "evidence.ome.zarr", Size(10, 10), channel_names=["tumour", "tumour"])
    with pytest.raises(ValueError, match="zip"):
        writer_at(tmp_path / "evidence.ome.zarr", Size(10, 10), channel_names=["tumour"])
