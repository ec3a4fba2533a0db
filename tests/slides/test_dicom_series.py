"""Which files are one slide."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from tests.make_dicom import write_dicom_series
from tests.make_slides import Image
from wsi_cam.errors import SlideError
from wsi_cam.slides.dicom_series import files_of_series, series_in_folder, series_uid
from wsi_cam.slides.opening import is_slide, open_slide


@pytest.fixture
def two_series(tmp_path: Path, image: Image) -> Path:
    folder = tmp_path / "two"
    write_dicom_series(folder, image, series_uid="1.2.3", prefix="a")
    write_dicom_series(folder, image[:100, :120], series_uid="1.2.4", prefix="b")
    (folder / "notes.dcm").write_text("not a DICOM file")
    return folder


@pytest.mark.parametrize("undefined_lengths", [False, True])
def test_the_series_is_read_past_a_series_that_is_only_referred_to(
    tmp_path: Path, image: Image, undefined_lengths: bool
) -> None:
    files = write_dicom_series(tmp_path, image, series_uid="1.2.77", undefined_lengths=undefined_lengths)
    assert [series_uid(path) for path in files] == ["1.2.77", "1.2.77"]


def test_implicit_value_representations_are_read_too(tmp_path: Path) -> None:
    syntax = b"1.2.840.10008.1.2\0"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    body = struct.pack("<HHI", 0x0008, 0x0060, 2) + b"SM" + struct.pack("<HHI", 0x0020, 0x000E, 4) + b"1.5\0"
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + meta + body)
    assert series_uid(tmp_path / "a.dcm") == "1.5"


def test_what_is_no_dicom_has_no_series(tmp_path: Path) -> None:
    for name, content in {"text": b"text" * 100, "short": b"x", "cut": bytes(128) + b"DICM\2\0"}.items():
        (tmp_path / name).write_bytes(content)
        assert series_uid(tmp_path / name) is None
    assert series_uid(tmp_path / "gone") is None
    assert series_in_folder(tmp_path / "gone") == {}


def test_files_are_grouped_by_series(two_series: Path) -> None:
    names = {uid: [path.name for path in files] for uid, files in series_in_folder(two_series).items()}
    assert names == {"1.2.3": ["a0.dcm", "a1.dcm"], "1.2.4": ["b0.dcm", "b1.dcm"]}
    assert files_of_series(two_series / "b1.dcm") == [two_series / "b0.dcm", two_series / "b1.dcm"]


def test_any_file_or_the_folder_opens_the_same_slide(tmp_path: Path, image: Image) -> None:
    files = write_dicom_series(tmp_path / "series", image, mpp=0.25, levels=(1, 4))
    for path in (*files, tmp_path / "series"):
        with open_slide(path) as slide:
            assert len(slide.info.levels) == 2
            assert slide.info.mpp is not None
            assert slide.info.mpp.x == pytest.approx(0.25)


def test_a_folder_of_two_series_asks_for_a_file(two_series: Path) -> None:
    with pytest.raises(SlideError, match=r"2 DICOM series; name one file, such as a0\.dcm, b0\.dcm"):
        open_slide(two_series)
    with open_slide(two_series / "b1.dcm") as slide:
        assert slide.info.size.width == 120


def test_a_search_of_folders_finds_each_slide_once(two_series: Path, tmp_path: Path) -> None:
    assert not is_slide(two_series)
    assert [path.name for path in sorted(two_series.iterdir()) if is_slide(path)] == ["a0.dcm", "b0.dcm"]
    single = tmp_path / "one"
    single.mkdir()
    for name in ("a0.dcm", "a1.dcm"):
        shutil.copy(two_series / name, single / name)
    assert is_slide(single)


def test_a_search_of_folders_goes_by_names_elsewhere(tmp_path: Path) -> None:
    for name in ("a.svs", "b.NDPI", "c.tiff", "d.mrxs", "e.jpg", "f.txt"):
        (tmp_path / name).touch()
    (tmp_path / "g.svs").mkdir()
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_slide(path)] == [
        "a.svs", "b.NDPI", "c.tiff", "d.mrxs",
    ]  # fmt: skip
    (tmp_path / "to_nothing.svs").symlink_to(tmp_path / "gone.svs")
    assert is_slide(tmp_path / "to_nothing.svs")  # opening it says what is wrong
