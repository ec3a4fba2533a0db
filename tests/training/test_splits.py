"""No group and no copy of a picture is ever on two sides of a split."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.make_patches import picture, png, write_class_folders, write_csv
from wsi_cam.errors import DataError
from wsi_cam.training.dividing import divide_in_three, find_units, halve
from wsi_cam.training.patches import read_patch_set
from wsi_cam.training.splits import PARTS, Split, make_split, split_in_halves


def assert_no_leak(split: Split) -> None:
    parts = [split.part(name) for name in PARTS]
    for i, one in enumerate(parts):
        assert min(one.counts().values()) > 0
        for other in parts[i + 1 :]:
            assert not set(one.content_digests()) & set(other.content_digests())
            assert not set(one.groups or ()) & set(other.groups or ())


def grouped(root: Path, n_groups: int = 8, per_group: int = 2) -> Path:
    """A CSV whose groups hold pictures of both classes."""
    write_class_folders(root, n_groups * per_group)
    rows = [
        f"{name}/patch{i:03}.png,{name},case{i // per_group}"
        for name in ("normal", "tumour")
        for i in range(n_groups * per_group)
    ]
    return write_csv(root / "list.csv", "path,label,group", *rows)


@given(data=st.data())
def test_units_are_the_connected_sets_of_copies_and_groups(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    names = st.lists(st.sampled_from("abcde"), min_size=n, max_size=n)
    digests, groups = data.draw(names), data.draw(names)
    # The slow reference: together until nothing changes.
    unit = list(range(n))
    for _ in range(n):
        for i in range(n):
            for j in range(n):
                if digests[i] == digests[j] or groups[i] == groups[j]:
                    unit[i] = unit[j] = min(unit[i], unit[j])
    found = find_units(digests, groups)
    assert [[a == b for b in found] for a in found] == [[a == b for b in unit] for a in unit]


@given(data=st.data())
def test_a_unit_is_never_divided_and_every_class_is_everywhere(data: st.DataObject) -> None:
    n = data.draw(st.integers(6, 60))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), dtype=np.int64)
    names = data.draw(st.lists(st.sampled_from([f"g{i}" for i in range(20)]), min_size=n, max_size=n))
    units = find_units(names, None)
    parts = divide_in_three(labels, units, names, (0.7, 0.15, 0.15), seed=data.draw(st.integers(0, 3)))
    if isinstance(parts, int):
        return
    for unit in set(units.tolist()):
        assert len(set(parts[units == unit].tolist())) == 1
    for label in set(labels.tolist()):
        assert set(parts[labels == label].tolist()) == {0, 1, 2}


def test_shares_are_met_class_by_class_and_the_order_of_pictures_does_not_matter() -> None:
    labels = np.repeat([0, 1], [900, 300]).astype(np.int64)
    names = [f"case{i // 3}" for i in range(1200)]
    parts = divide_in_three(labels, find_units(names, None), names, (0.7, 0.15, 0.15), seed=1)
    assert not isinstance(parts, int)
    for label in (0, 1):
        share = np.bincount(parts[labels == label], minlength=3) / (labels == label).sum()
        np.testing.assert_allclose(share, (0.7, 0.15, 0.15), atol=0.02)
    turned = list(reversed(names))
    again = divide_in_three(labels[::-1], find_units(turned, None), turned, (0.7, 0.15, 0.15), seed=1)
    np.testing.assert_array_equal(again, parts[::-1])


def test_a_halved_set_follows_the_first_hex_digit_of_the_content_hash() -> None:
    digests = [hashlib.sha256(bytes([i])).hexdigest() for i in range(40)]
    assert halve(digests, None).tolist() == [d[0] in "01234567" for d in digests]
    groups = [f"case{i % 5}" for i in range(40)]
    fits = halve(digests, groups)
    for i, group in enumerate(groups):
        assert fits[i] == (hashlib.sha256(group.encode()).hexdigest()[0] in "01234567")


class TestLeaks:
    def test_groups_stay_on_one_side(self, tmp_path: Path) -> None:
        split = make_split(read_patch_set(grouped(tmp_path)))
        assert split.rule == "groups"
        assert_no_leak(split)
        assert sum(len(split.part(name)) for name in PARTS) == 32

    def test_without_groups_there_is_a_warning_and_copies_stay_together(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_class_folders(tmp_path, 10)
        for i in range(8):
            shutil.copy(tmp_path / "tumour" / f"patch00{i}.png", tmp_path / "tumour" / f"copy{i}.png")
        split = make_split(read_patch_set(tmp_path))
        assert split.rule == "content"
        assert "the reported figures will be too good" in caplog.text
        assert_no_leak(split)

    def test_a_copy_joins_the_groups_that_hold_it(self, tmp_path: Path) -> None:
        listed = grouped(tmp_path)
        for i in range(2, 16, 2):  # the first picture of each case is also the first of the next
            shutil.copy(tmp_path / "normal" / "patch000.png", tmp_path / "normal" / f"patch{i:03}.png")
        with pytest.raises(DataError, match="too few groups"):
            make_split(read_patch_set(listed))

    def test_a_separate_validation_set_is_halved_and_loses_what_was_trained_on(self, tmp_path: Path) -> None:
        train = write_class_folders(tmp_path / "train", 4)
        valid = write_class_folders(tmp_path / "valid", 12, first_seed=100)
        shutil.copy(train / "normal" / "patch000.png", valid / "normal" / "leak.png")
        split = make_split(read_patch_set(train), read_patch_set(valid))
        assert (split.rule, len(split.left_out), len(split.train)) == ("halves", 1, 8)
        assert "valid/normal/leak" not in [*split.fit.names, *split.report.names]
        assert all(d[0] < "8" for d in split.fit.content_digests())
        assert all(d[0] >= "8" for d in split.report.content_digests())
        assert_no_leak(split)

    def test_a_group_in_training_and_validation_is_an_error(self, tmp_path: Path) -> None:
        train, valid = grouped(tmp_path / "train"), grouped(tmp_path / "valid")
        with pytest.raises(DataError, match=r"group 'case0' is in list\.csv too"):
            make_split(read_patch_set(train), read_patch_set(valid))

    def test_a_split_column_that_divides_a_group_is_an_error(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 6)
        rows = [
            f"{c}/patch00{i}.png,{c},case{i},{('train', 'fit', 'report')[i % 3]}"
            for c in ("normal", "tumour")
            for i in range(6)
        ]
        good = write_csv(tmp_path / "good.csv", "path,label,group,split", *rows)
        assert_no_leak(make_split(read_patch_set(good)))
        bad = write_csv(
            tmp_path / "bad.csv", "path,label,group,split", *rows[:-1], rows[-1].replace("report", "fit")
        )
        with pytest.raises(DataError, match="group 'case5' stands in report and in fit"):
            make_split(read_patch_set(bad))

    def test_a_split_column_loses_copies_from_the_later_part(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 6)
        rows = [
            f"{c}/patch00{i}.png,{c},{('train', 'valid', 'test')[i // 2]}"
            for c in ("normal", "tumour")
            for i in range(6)
        ]
        for name in ("normal", "tumour"):
            for i in range(30):  # enough for either half of valid
                (tmp_path / name / f"v{i}.png").write_bytes(png(picture(name, 200 + i)))
                rows.append(f"{name}/v{i}.png,{name},valid")
        shutil.copy(tmp_path / "normal" / "patch000.png", tmp_path / "normal" / "patch005.png")
        split = make_split(read_patch_set(write_csv(tmp_path / "l.csv", "path,label,split", *rows)))
        assert (split.rule, len(split.left_out), len(split.train)) == ("given", 1, 4)
        assert "tumour/patch005.png" in split.report.names
        assert_no_leak(split)

    def test_too_few_groups_for_three_parts(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="too few groups to train, fit and report"):
            make_split(read_patch_set(grouped(tmp_path, n_groups=2)))

    def test_halves_for_a_network_trained_elsewhere(self, tmp_path: Path) -> None:
        split = split_in_halves(read_patch_set(write_class_folders(tmp_path, 12)))
        assert len(split.train) == 0
        assert not set(split.fit.content_digests()) & set(split.report.content_digests())


def test_one_picture_under_two_labels_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_class_folders(tmp_path, 10)
    shutil.copy(tmp_path / "normal" / "patch000.png", tmp_path / "tumour" / "patch000.png")
    make_split(read_patch_set(tmp_path))
    assert "1 pictures stand under two labels" in caplog.text
