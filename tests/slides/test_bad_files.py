"""Files that are no slides, or no longer: one line that names the file and the cause, and nothing worse."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.hostile.enormous import write_four_billion_tiles
from tests.make_slides import (
    Image,
    write_generic_tiff,
    write_ome_tiff,
    write_svs,
)
from wsi_cam.errors import SlideError
from wsi_cam.slides.identity import slide_identity
from wsi_cam.slides.opening import READERS, is_slide, open_slide

ALL_READERS = ["auto", *READERS]


def read_everything(path: Path, reader: str) -> int:
    """Reads all levels; their number."""
    with open_slide(path, reader) as slide:
        for level, facts in enumerate(slide.info.levels):
            slide.read_region(
                level, (-3, -3, min(facts.size.width, 400) + 6, min(facts.size.height, 400) + 6)
            )
        return len(slide.info.levels)


def refusal(path: Path, reader: str = "auto") -> str:
    """What is said of a file that cannot be opened: one line that begins with its name."""
    with pytest.raises(SlideError) as caught:
        open_slide(path, reader)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message  # cause; next step
    return message


@pytest.mark.parametrize("reader", ALL_READERS)
def test_a_file_that_is_not_there(tmp_path: Path, reader: str) -> None:
    assert "no such file" in refusal(tmp_path / "gone.svs", reader)


@pytest.mark.parametrize("reader", ALL_READERS)
def test_an_empty_file(tmp_path: Path, reader: str) -> None:
    (tmp_path / "empty.svs").touch()
    assert "empty" in refusal(tmp_path / "empty.svs", reader)


@pytest.mark.parametrize("reader", ALL_READERS)
def test_a_text_that_calls_itself_a_slide(tmp_path: Path, reader: str) -> None:
    (tmp_path / "text.svs").write_text("not a slide\n" * 100)
    message = refusal(tmp_path / "text.svs", reader)
    if reader == "auto":  # what both readers said
        assert "not a TIFF file" in message
        assert "OpenSlide" in message


@pytest.mark.parametrize("reader", ALL_READERS)
def test_a_folder_that_calls_itself_a_slide(tmp_path: Path, reader: str) -> None:
    (tmp_path / "folder.svs").mkdir()
    assert "folder" in refusal(tmp_path / "folder.svs", reader)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", ["pipe.svs", "pipe.dcm"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "no ordinary file" in refusal(tmp_path / name)
    assert is_slide(tmp_path / name)
    with pytest.raises(SlideError, match="no ordinary file"):
        slide_identity(tmp_path / name)


def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "ring.svs").symlink_to(tmp_path / "ring.svs")
    assert "symbolic links" in refusal(tmp_path / "ring.svs")


def test_tables_of_gigabytes_are_not_read(tmp_path: Path) -> None:
    """All 2^32 entries of both are there, as holes of a sparse file."""
    path = write_four_billion_tiles(tmp_path / "sparse.tif")
    assert path.stat().st_size > 2**35
    assert "tag 324" in refusal(path)


def test_a_reader_that_does_not_exist(tmp_path: Path, image: Image) -> None:
    path = write_svs(tmp_path / "a.svs", image, levels=(1,))
    with pytest.raises(SlideError, match="no reader 'bioformats'; choose auto, tiff, openslide"):
        open_slide(path, "bioformats")


@pytest.mark.parametrize("reader", ALL_READERS)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95, 0.999])
def test_a_truncated_slide_never_passes_for_a_whole_one(
    tmp_path: Path, image: Image, kept: float, reader: str
) -> None:
    path = write_svs(tmp_path / "cut.svs", image, tile=64, levels=(1, 2))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(SlideError, match=r"cut\.svs") as caught:
        read_everything(path, reader)
    if reader != "openslide":
        assert "truncated" in str(caught.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_ome_tiff_is_refused(tmp_path: Path, image: Image, kept: float) -> None:
    path = write_ome_tiff(tmp_path / "cut.ome.tif", image, tile=64)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "truncated or damaged" in refusal(path)


def test_a_file_that_is_cut_while_it_is_open(tmp_path: Path, image: Image) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", image, tile=64, levels=(1,))
    with open_slide(path) as slide:
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(SlideError, match=r"a\.tif.*level 0.*ends within a tile"):
            slide.read_region(0, (200, 130, 100, 60))


def test_one_broken_tile_spoils_only_regions_that_need_it(tmp_path: Path, image: Image) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", image, tile=64, levels=(1,))
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages.first.dataoffsets[6], tiff.pages.first.databytecounts[6]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes(count)
    path.write_bytes(content)
    for reader in ALL_READERS:
        with open_slide(path, reader) as slide:
            for _ in range(2):
                with pytest.raises(SlideError, match="level 0"):
                    slide.read_region(0, (60, 60, 10, 10))
                np.testing.assert_array_equal(slide.read_region(0, (128, 64, 64, 64)), image[64:128, 128:192])


def test_a_jpeg_tile_that_is_cut_off_is_an_error_and_not_grey(tmp_path: Path, image: Image) -> None:
    path = write_svs(tmp_path / "a.svs", image, tile=64, levels=(1,))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages.first.tags["TileByteCounts"]
        tag.overwrite(tuple(count // 2 if tile == 7 else count for tile, count in enumerate(tag.value)))
    with open_slide(path) as slide:
        assert slide.info.reader == "tiff"
        slide.read_region(0, (0, 0, 64, 64))
        with pytest.raises(SlideError, match="cut off"):
            slide.read_region(0, (128, 64, 64, 64))


def set_tag(path: Path, name: str, value: object) -> None:
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags[name].overwrite(value)


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("ImageWidth", 2**32 - 1, "needs .* tiles"),
        ("ImageLength", 2**31, "needs .* tiles"),
        ("ImageWidth", 0, "0 x 203 px"),
        ("TileWidth", 2**22, "more than 256 MiB"),
        ("TileLength", 0, "damaged"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_allocated(
    tmp_path: Path, image: Image, name: str, value: int, cause: str
) -> None:
    path = write_svs(tmp_path / "a.svs", image, tile=64, levels=(1,), bigtiff=True)
    set_tag(path, name, value)
    with pytest.raises(SlideError, match=cause):
        open_slide(path, "tiff")


def test_offsets_that_overflow_when_added_are_past_the_end(tmp_path: Path, image: Image) -> None:
    path = write_svs(tmp_path / "a.svs", image, tile=64, levels=(1,), bigtiff=True)
    with tifffile.TiffFile(path) as tiff:
        position = tiff.pages.first.tags["TileOffsets"].valueoffset
    with path.open("r+b") as stream:
        stream.seek(position + 8)
        stream.write(struct.pack("<Q", 2**64 - 10))
    assert "past the file's end" in refusal(path)


def test_a_tile_that_claims_to_be_huge_is_refused(
    tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes of JPEG or JPEG 2000 may stand for 65 535 x 65 535 pixels."""
    from tests import make_slides

    encode = make_slides.encode_jpeg

    def encode_larger(part: Image, *settings: object) -> bytes:
        stream = bytearray(encode(part, 90, "444"))
        frame = stream.index(b"\xff\xc0")
        stream[frame + 5 : frame + 9] = b"\xff\xf0\xff\xf0"
        return bytes(stream)

    monkeypatch.setattr(make_slides, "encode_jpeg", encode_larger)
    path = write_svs(tmp_path / "a.svs", image, tile=64, levels=(1,))
    with pytest.raises(SlideError, match="65520"):
        open_slide(path, "tiff")


def test_channels_of_fluorescence_are_no_brightfield_slide(tmp_path: Path) -> None:
    path = tmp_path / "stained.ome.tif"
    stack = np.zeros((4, 100, 120), np.uint16)
    tifffile.imwrite(path, stack, tile=(64, 64), photometric="minisblack", metadata={"axes": "CYX"}, ome=True)
    assert "4 planes" in refusal(path)


def test_damaged_files_are_not_talked_about_by_the_libraries_below(
    tmp_path: Path, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_svs(tmp_path / "cut.svs", image, tile=64)
    path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level(logging.INFO):
        refusal(path)
    assert not caplog.records


def test_random_damage_ends_in_an_error_of_ours_or_in_pixels(tmp_path: Path, image: Image) -> None:
    generator = np.random.default_rng(11)
    originals = [
        write_svs(tmp_path / "a.svs", image, tile=64, levels=(1, 4), shared_tables=True).read_bytes(),
        write_ome_tiff(tmp_path / "a.ome.tif", image, tile=64).read_bytes(),
    ]
    path = tmp_path / "damaged.tif"
    for _ in range(120):
        content = bytearray(originals[generator.integers(2)])
        for _ in range(generator.integers(1, 4)):
            position = int(generator.integers(0, min(900, len(content) - 4)))
            content[position : position + 4] = generator.choice([0, 1, 65537, 2**31, 2**32 - 1]).tobytes()[:4]
        path.write_bytes(content)
        with contextlib.suppress(SlideError):
            read_everything(path, "tiff")
