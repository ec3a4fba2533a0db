"""patches.csv: every number comes back, and other programs find their columns."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tests.export.make_tables import patch_table
from wsi_cam.errors import OutputError
from wsi_cam.export.number_text import coordinate_texts, float_texts
from wsi_cam.export.tables import PatchTable, read_patches_csv, write_patches_csv


def assert_equal_tables(a: PatchTable, b: PatchTable) -> None:
    assert a.class_names == b.class_names
    assert a.patch_level0 == pytest.approx(b.patch_level0, abs=0.005)
    np.testing.assert_allclose(a.level0_xy, b.level0_xy, atol=0.005, rtol=0)
    for name in ("probabilities", "evidence_max", "evidence_mean", "tissue_fraction", "status"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    table = patch_table(500, unread=(0, 17, 499))
    assert_equal_tables(read_patches_csv(write_patches_csv(tmp_path / "patches.csv", table)), table)


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_patches_csv(tmp_path / "first.csv", patch_table(100, unread=(3,)))
    second = write_patches_csv(tmp_path / "second.csv", read_patches_csv(first))
    assert first.read_bytes() == second.read_bytes()


def test_the_first_columns_are_those_of_wsinfer(tmp_path: Path) -> None:
    path = write_patches_csv(tmp_path / "patches.csv", patch_table(2))
    header = path.read_text(encoding="utf-8").split("\n")[0]
    assert header == (
        "minx,miny,width,height,prob_normal,prob_tumour,status,tissue_fraction,"
        "evidence_max_normal,evidence_max_tumour,evidence_mean_normal,evidence_mean_tumour"
    )


def test_coordinates_are_integers_where_they_can_be() -> None:
    assert coordinate_texts(np.array([0.0, 512.0, -3.0, 1e9])) == ["0", "512", "-3", "1000000000"]
    assert coordinate_texts(np.array([0.0, 7.255001, 512.0, -0.001])) == ["0", "7.26", "512", "0"]


@given(st_numpy.arrays(np.float32, 20, elements=st.floats(width=32)))
@settings(deadline=None)
def test_every_float32_survives_its_text(values: np.ndarray) -> None:
    texts = float_texts(values, missing="nan")
    expected = np.where(np.isfinite(values), values, np.nan)
    np.testing.assert_array_equal(np.array([float(text) for text in texts]).astype(np.float32), expected)


def test_an_unread_patch_has_empty_fields_and_its_status(tmp_path: Path) -> None:
    path = write_patches_csv(tmp_path / "patches.csv", patch_table(3, unread=(1,)))
    with path.open(newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[1]
    assert row["status"] == "unread"
    assert row["prob_tumour"] == row["evidence_max_tumour"] == row["evidence_mean_normal"] == ""
    assert row["tissue_fraction"] != ""


def test_class_names_may_hold_commas_quotes_and_other_alphabets(tmp_path: Path) -> None:
    table = replace(patch_table(4), class_names=('carcinoma, "in situ"', "здоровая ткань"))
    path = write_patches_csv(tmp_path / "patches.csv", table)
    assert path.read_bytes().count(b"\r") == 0
    assert read_patches_csv(path).class_names == table.class_names


def test_a_table_without_patches_is_a_header(tmp_path: Path) -> None:
    path = write_patches_csv(tmp_path / "patches.csv", patch_table(0))
    assert len(read_patches_csv(path)) == 0


def test_a_table_whose_parts_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"evidence_max has shape \(2, 3\), \(2, 2\) was expected"):
        replace(patch_table(2), evidence_max=np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns are missing"),
        (
            "minx,miny,width,height\n1,2,3,4\n",
            "columns are missing: prob_<Class>|columns are missing: status",
        ),
        ("a,b\n", "columns are missing: height"),
    ],
)
def test_what_is_no_patch_table_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "patches.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OutputError, match=f"patches.csv: not a patch table of wsi_cam .*({said})"):
        read_patches_csv(path)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = write_patches_csv(tmp_path / "patches.csv", patch_table(3))
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join([*lines[:2], lines[2][:9]]), encoding="utf-8")
    with pytest.raises(OutputError, match="line 3 has"):
        read_patches_csv(path)
    path.write_text("\n".join([*lines[:2], "x" + lines[2]]), encoding="utf-8")
    with pytest.raises(OutputError, match="line 3: could not convert"):
        read_patches_csv(path)
    with pytest.raises(OutputError, match="No such file"):
        read_patches_csv(tmp_path / "absent.csv")


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = write_patches_csv(tmp_path / "patches.csv", patch_table(3))
    before = path.read_bytes()
    broken = patch_table(9000)
    broken.status.resize(8500, refcheck=False)
    with pytest.raises(ValueError, match="zip"):
        write_patches_csv(path, broken)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["patches.csv"]
    (tmp_path / "a_file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_patches_csv(tmp_path / "a_file" / "patches.csv", patch_table(1))
