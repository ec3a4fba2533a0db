"""Every reader over the kinds of files it reads: one contract."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.make_dicom import write_dicom_series
from tests.make_slides import Image, write_generic_tiff, write_ome_tiff, write_svs
from tests.slides.contract import SlideContract, read_in_spawned_process
from wsi_cam.geometry import Mpp
from wsi_cam.slides.opening import READERS, open_slide
from wsi_cam.slides.tile_decoding import TileCoding


class TestOpenSlideOnAperio(SlideContract):
    reader = "openslide"

    @pytest.fixture
    def path(self, tmp_path: Path, image: Image) -> Path:
        return write_svs(tmp_path / "a.svs", image, tile=64, levels=(1, 4), compression="jpeg2000")


class TestOpenSlideOnDicom(SlideContract):
    reader = "openslide"

    @pytest.fixture
    def path(self, tmp_path: Path, image: Image) -> Path:
        return write_dicom_series(tmp_path / "series", image)[1]


class TestTiffReaderOnAperio(SlideContract):
    reader = "tiff"

    @pytest.fixture
    def path(self, tmp_path: Path, image: Image) -> Path:
        return write_svs(tmp_path / "a.svs", image, tile=64, levels=(1, 4), compression="jpeg2000")


class TestTiffReaderOnAPlainPyramid(SlideContract):
    reader = "tiff"

    @pytest.fixture
    def path(self, tmp_path: Path, image: Image) -> Path:
        return write_generic_tiff(tmp_path / "plain.tif", image, tile=64, bigtiff=True)


class TestTiffReaderOnOmeTiff(SlideContract):
    reader = "tiff"

    @pytest.fixture
    def path(self, tmp_path: Path, image: Image) -> Path:
        return write_ome_tiff(tmp_path / "picture.ome.tif", image, Mpp(0.5, 0.5), tile=64)


class TestTiffReaderOnStrips(SlideContract):
    """No tiles at all: strips are tiles as wide as the image, the last one shorter."""

    reader = "tiff"

    @pytest.fixture
    def path(self, tmp_path: Path, image: Image) -> Path:
        import tifffile

        tifffile.imwrite(tmp_path / "s.tif", image, photometric="rgb", rowsperstrip=30, compression="lzw")
        return tmp_path / "s.tif"


class TestTiffReaderOnSeparatePlanes(SlideContract):
    """Red, green and blue stored apart, with a predictor."""

    reader = "tiff"

    @pytest.fixture
    def path(self, tmp_path: Path, image: Image) -> Path:
        import tifffile

        tifffile.imwrite(
            tmp_path / "p.tif", np.moveaxis(image, -1, 0), photometric="rgb", planarconfig="separate",
            tile=(64, 64), compression="deflate", predictor=True, metadata=None,
        )  # fmt: skip
        return tmp_path / "p.tif"


@pytest.mark.parametrize("reader", READERS)
def test_a_spawned_process_reads_the_same(tmp_path: Path, image: Image, reader: str) -> None:
    path = write_svs(tmp_path / "a.svs", image, tile=64, levels=(1,), compression="jpeg2000")
    with open_slide(path, reader) as slide:
        np.testing.assert_array_equal(read_in_spawned_process(slide, (3, 4, 50, 60)), image[4:64, 3:53])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("reader", READERS)
def test_a_forked_process_opens_the_file_for_itself(
    tmp_path: Path, image: Image, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork copies handles and locks that belong to the parent; here only its process id changes."""
    path = write_svs(tmp_path / "a.svs", image, tile=64, levels=(1,), compression="jpeg2000")
    with open_slide(path, reader) as slide:
        slide.read_region(0, (0, 0, 5, 5))
        before = dict(slide.__dict__)
        process = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: process + 1)
        np.testing.assert_array_equal(slide.read_region(0, (3, 4, 50, 60)), image[4:64, 3:53])
        changed = {name for name, value in slide.__dict__.items() if value is not before.get(name)}
        assert changed & {"_handle", "_open_file"}


@pytest.mark.skipif(not hasattr(os, "pread"), reason="no reading at a position on this system")
def test_a_file_system_may_give_a_tile_in_parts(
    tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pread = write_generic_tiff(tmp_path / "a.tif", image, levels=(1,)), os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, offset: pread(file, min(count, 500), offset))
    with open_slide(path, "tiff") as slide:
        np.testing.assert_array_equal(slide.read_region(0, (0, 0, 100, 100)), image[:100, :100])


def test_memory_that_runs_out_is_no_fault_of_the_slide(
    tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode_without_memory(*arguments: object) -> None:
        raise MemoryError

    with open_slide(write_svs(tmp_path / "a.svs", image, tile=64), "tiff") as slide:
        monkeypatch.setattr(TileCoding, "decode", decode_without_memory)
        with pytest.raises(MemoryError):
            slide.read_region(0, (0, 0, 100, 100))


def test_auto_takes_the_tiff_reader_where_it_is_exact(tmp_path: Path, image: Image) -> None:
    for path in (
        write_svs(tmp_path / "jpeg.svs", image, tile=64, levels=(1, 4)),
        write_svs(tmp_path / "jpeg2000.svs", image, tile=64, levels=(1,), compression="jpeg2000"),
        write_generic_tiff(tmp_path / "plain.tif", image, tile=64),
        write_ome_tiff(tmp_path / "picture.ome.tif", image, tile=64),
    ):
        with open_slide(path) as slide:
            assert slide.info.reader == "tiff"


def test_auto_takes_openslide_for_what_only_it_knows(tmp_path: Path, image: Image, shared_dir: Path) -> None:
    series = write_dicom_series(tmp_path / "series", image)
    for path in (series[0], series[0].parent, shared_dir / "data/slides/test3-DAPI-2-387.ndpi"):
        with open_slide(path) as slide:
            assert slide.info.reader == "openslide"
