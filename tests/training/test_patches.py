"""Labelled pictures are found in every documented form, and unusable data say what is wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.make_patches import picture, png, write_class_folders, write_csv, write_zip
from wsi_cam.errors import DataError
from wsi_cam.training.patches import PatchSet, read_patch_set, require_trainable
from wsi_cam.training.pixels import PatchPixels


def labels_by_name(patches: PatchSet) -> list[tuple[str, str]]:
    return [(n, patches.class_names[i]) for n, i in zip(patches.names, patches.labels, strict=True)]


class TestReading:
    def test_a_folder_and_its_zip_hold_the_same_pictures_in_the_same_order(self, tmp_path: Path) -> None:
        folder = read_patch_set(write_class_folders(tmp_path / "data", 3))
        zipped = read_patch_set(write_zip(tmp_path / "data.zip", tmp_path / "data", inside="a/train"))
        assert folder.class_names == zipped.class_names == ("normal", "tumour")
        assert [f"a/train/{name}" for name in folder.names] == list(zipped.names)
        assert folder.content_digests() == zipped.content_digests()
        assert folder.counts() == {"normal": 3, "tumour": 3}

    def test_pictures_below_a_class_folder_belong_to_the_class(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 1)
        (tmp_path / "tumour" / "slide7").mkdir()
        (tmp_path / "tumour" / "slide7" / "a.png").write_bytes(png(picture("tumour", 50)))
        assert ("tumour/slide7/a.png", "tumour") in labels_by_name(read_patch_set(tmp_path))

    def test_what_file_managers_leave_behind_is_not_data(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 1)
        (tmp_path / ".DS_Store").write_bytes(b"x")
        (tmp_path / "__MACOSX").mkdir()
        (tmp_path / "normal" / "._patch000.png").write_bytes(b"x")
        (tmp_path / "notes.txt").write_text("hello")
        assert len(read_patch_set(tmp_path)) == 2

    def test_a_csv_names_pictures_labels_groups_and_splits(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "p", 2)
        rows = [f"p/{c}/patch00{i}.png,{c},case{i},train" for i in (1, 0) for c in ("tumour", "normal")]
        patches = read_patch_set(write_csv(tmp_path / "list.csv", "path,label,group,split", *rows))
        assert patches.names[0] == "p/tumour/patch001.png"
        assert patches.groups == ("case1", "case1", "case0", "case0")
        assert patches.splits == ("train",) * 4
        assert len(patches.content_digests()) == 4

    def test_class_names_fix_the_order(self, tmp_path: Path) -> None:
        patches = read_patch_set(write_class_folders(tmp_path, 1), ("tumour", "normal"))
        assert labels_by_name(patches) == [
            ("normal/patch000.png", "normal"),
            ("tumour/patch000.png", "tumour"),
        ]
        assert patches.labels.tolist() == [1, 0]

    def test_groups_come_from_a_second_csv_that_may_know_more(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "p", 1)
        groups = write_csv(
            tmp_path / "g.csv", "path,label,group",
            "tumour/patch000.png,tumour,case2", "other.png,x,case9", "normal/patch000.png,normal,case1",
        )  # fmt: skip
        assert read_patch_set(tmp_path / "p", groups=groups).groups == ("case1", "case2")


class TestRefusing:
    def test_missing_data(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"nothing.*no such data; give"):
            read_patch_set(tmp_path / "nothing")

    def test_a_file_that_is_neither_zip_nor_csv(self, tmp_path: Path) -> None:
        (tmp_path / "data.tar").write_bytes(b"x")
        with pytest.raises(DataError, match="neither folder, zip nor CSV"):
            read_patch_set(tmp_path / "data.tar")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no picture in it"):
            read_patch_set(tmp_path)

    def test_a_class_folder_with_no_image(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 1)
        (tmp_path / "stroma").mkdir()
        with pytest.raises(DataError, match="class folder 'stroma' has no picture"):
            read_patch_set(tmp_path)

    def test_a_picture_beside_the_class_folders(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 1)
        (tmp_path / "lost.png").write_bytes(png(picture("normal", 1)))
        with pytest.raises(DataError, match=r"lost\.png lies in no class folder"):
            read_patch_set(tmp_path)

    @pytest.mark.parametrize("inside", ["", "train/"])
    def test_one_class_only(self, tmp_path: Path, inside: str) -> None:
        write_class_folders(tmp_path / inside, 2, classes=("normal",))
        with pytest.raises(DataError, match=r"only one class \(normal\)"):
            require_trainable(read_patch_set(tmp_path))

    def test_a_class_that_was_named_and_has_no_picture(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 1)
        with pytest.raises(DataError, match="no picture of class 'stroma'"):
            require_trainable(read_patch_set(tmp_path, ("normal", "stroma", "tumour")))

    def test_a_label_that_the_bundle_does_not_know(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 1, classes=("normal", "stroma"))
        with pytest.raises(DataError, match=r"labelled 'stroma'; the classes are normal, tumour"):
            read_patch_set(tmp_path, ("normal", "tumour"))

    @pytest.mark.parametrize(
        ("header", "rows", "message"),
        [
            ("picture,label", ["a.png,x"], "no column 'path'"),
            ("path,label", [], "no rows"),
            ("path,label", ["a.png,x", ",y"], "line 3: empty path"),
            ("path,label", ["a.png,"], "line 2: empty label"),
            ("path,label", ["a.png,x", "a.png,y"], r"a\.png is listed twice"),
            (
                "path,label,group",
                ["a.png,x,1", "b.png,y,", "c.png,y,"],
                r"line 3: empty group \(2 such rows\)",
            ),
            (
                "path,label,split",
                ["a.png,x,train", "b.png,y,maybe"],
                "split 'maybe'; it must be one of train",
            ),
        ],
    )
    def test_a_csv_with_gaps(self, tmp_path: Path, header: str, rows: list[str], message: str) -> None:
        with pytest.raises(DataError, match=message):
            read_patch_set(write_csv(tmp_path / "list.csv", header, *rows))

    def test_a_csv_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00path")
        with pytest.raises(DataError, match="not a readable CSV"):
            read_patch_set(tmp_path / "list.csv")

    def test_groups_with_gaps(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "p", 2)
        groups = write_csv(tmp_path / "g.csv", "path,group", "normal/patch000.png,1", "tumour/patch000.png,")
        with pytest.raises(DataError, match=r"3 of 4 pictures have no group, first normal/patch001\.png"):
            read_patch_set(tmp_path / "p", groups=groups)

    def test_groups_whose_labels_contradict_the_folders(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path / "p", 1)
        rows = ["normal/patch000.png,tumour,1", "tumour/patch000.png,tumour,2"]
        groups = write_csv(tmp_path / "g.csv", "path,label,group", *rows)
        with pytest.raises(DataError, match="labelled 'tumour' there and 'normal'"):
            read_patch_set(tmp_path / "p", groups=groups)


class TestPixels:
    def test_lazily_read_pictures_equal_those_kept_in_memory_to_the_stride(self, tmp_path: Path) -> None:
        patches = read_patch_set(write_zip(tmp_path / "d.zip", write_class_folders(tmp_path / "d", 4)))
        kept, lazy = PatchPixels(patches, 32), PatchPixels(patches, 32, ram_bytes=0)
        chosen = torch.tensor([5, 0, 3])
        assert torch.equal(kept.batch(chosen), lazy.batch(chosen))
        assert kept.batch(chosen).stride() == lazy.batch(chosen).stride()
        expected = np.stack([picture("tumour", 1), picture("normal", 0), picture("normal", 3)])
        np.testing.assert_array_equal(kept.batch(chosen).permute(0, 2, 3, 1).numpy(), expected)

    def test_a_zip_is_read_after_pickling(self, tmp_path: Path) -> None:
        patches = read_patch_set(write_zip(tmp_path / "d.zip", write_class_folders(tmp_path / "d", 2)))
        lazy = PatchPixels(patches, 32, ram_bytes=0)
        copied = pickle.loads(pickle.dumps(lazy))
        assert torch.equal(copied.batch([1, 2]), lazy.batch([1, 2]))

    def test_larger_pictures_are_resized_and_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        pixels = PatchPixels(read_patch_set(write_class_folders(tmp_path, 1)), 16)
        assert pixels.batch([0]).shape == (1, 3, 16, 16)
        assert "2 of 2 pictures are not 16 px wide" in caplog.text

    @pytest.mark.parametrize("ram_bytes", [0, 1 << 30])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "empty file"),
            (b"this is no picture", "damaged"),
            (png(picture("normal", 1)[:20]), "32 x 20 px; patches must be square"),
        ],
    )
    def test_an_unreadable_image_is_named_before_the_work_begins(
        self, tmp_path: Path, content: bytes, message: str, ram_bytes: int
    ) -> None:
        write_class_folders(tmp_path, 2)
        (tmp_path / "tumour" / "patch001.png").write_bytes(content)
        with pytest.raises(DataError, match=rf"tumour/patch001\.png: .*{message}"):
            PatchPixels(read_patch_set(tmp_path), 32, ram_bytes)

    def test_a_truncated_image_is_named(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 1)
        whole = (tmp_path / "normal" / "patch000.png").read_bytes()
        (tmp_path / "normal" / "patch000.png").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=r"normal/patch000\.png: unreadable picture"):
            PatchPixels(read_patch_set(tmp_path), 32)

    def test_sixteen_bit_pictures_are_refused(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, 1)
        Image.fromarray(np.zeros((32, 32), np.uint16)).save(tmp_path / "normal" / "deep.png")
        with pytest.raises(DataError, match=r"normal/deep\.png: pixels of type I"):
            PatchPixels(read_patch_set(tmp_path), 32)

    def test_a_listed_picture_that_is_not_there(self, tmp_path: Path) -> None:
        patches = read_patch_set(write_csv(tmp_path / "l.csv", "path,label", "gone.png,normal"))
        with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
            PatchPixels(patches, 32)
