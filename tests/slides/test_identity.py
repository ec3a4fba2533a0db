"""A slide is recognised by what is in it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.make_dicom import write_dicom_series
from tests.make_slides import Image
from wsi_cam.errors import SlideError
from wsi_cam.slides.identity import slide_identity

MIB = 2**20


def test_a_small_file_is_hashed_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(b"slide")
    digest = hashlib.sha256((5).to_bytes(8, "little") + b"slide").hexdigest()
    assert slide_identity(path) == {"size": 5, "sha256": digest, "files": 1}


def test_a_large_file_is_hashed_as_documented(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(5 * MIB + 12_345)
    path = tmp_path / "a.svs"
    path.write_bytes(content)
    digest = hashlib.sha256(len(content).to_bytes(8, "little") + content[:MIB] + content[-MIB:])
    for k in range(64):
        start = k * (len(content) - 1024) // 63
        digest.update(content[start : start + 1024])
    assert slide_identity(path)["sha256"] == digest.hexdigest()


def test_the_name_does_not_matter_and_a_changed_byte_at_either_end_does(tmp_path: Path) -> None:
    content = bytearray(np.random.default_rng(0).bytes(3 * MIB))
    (tmp_path / "a.svs").write_bytes(content)
    (tmp_path / "renamed.svs").write_bytes(content)
    same = slide_identity(tmp_path / "a.svs")
    assert slide_identity(tmp_path / "renamed.svs") == same
    for position in (0, MIB - 1, len(content) - MIB, len(content) - 1):
        changed = content.copy()
        changed[position] ^= 1
        (tmp_path / "changed.svs").write_bytes(changed)
        assert slide_identity(tmp_path / "changed.svs") != same


def test_a_dicom_series_is_one_slide_by_whatever_name(tmp_path: Path, image: Image) -> None:
    files = write_dicom_series(tmp_path / "series", image)
    write_dicom_series(tmp_path / "other", image, series_uid="1.2.99", prefix="z")
    shutil.copy(tmp_path / "other" / "z0.dcm", tmp_path / "series" / "z0.dcm")
    of_file = slide_identity(files[0])
    assert of_file["files"] == 2
    assert slide_identity(files[1]) == of_file
    (tmp_path / "series" / "z0.dcm").unlink()
    assert slide_identity(tmp_path / "series") == of_file
    files[0].rename(tmp_path / "series" / "zz.dcm")
    assert slide_identity(tmp_path / "series") == of_file


def test_the_folder_beside_a_mirax_file_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"index")
    alone = slide_identity(tmp_path / "a.mrxs")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0000.dat").write_bytes(b"tiles")
    together = slide_identity(tmp_path / "a.mrxs")
    assert (together["files"], together["size"]) == (2, 10)
    assert together["sha256"] != alone["sha256"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone\.svs"):
        slide_identity(tmp_path / "gone.svs")
