"""Slides, folders and manifests become one list; every slide gets a safe id of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_cam.errors import SettingsError
from wsi_cam.inputs import SlideInput, assign_sample_ids, collect_inputs, path_key, safe_name


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_a_folder_is_searched_in_a_fixed_order_and_nothing_is_taken_twice(tmp_path: Path) -> None:
    second, first = touch(tmp_path / "b" / "two.svs"), touch(tmp_path / "a.ndpi")
    touch(tmp_path / "notes.txt")
    touch(tmp_path / ".hidden" / "three.svs")
    os.symlink(tmp_path, tmp_path / "loop")
    found = collect_inputs([tmp_path, second])
    assert [entry.path for entry in found] == [first, second]


def test_results_inside_the_folder_that_is_searched_are_no_slides(tmp_path: Path) -> None:
    slide = touch(tmp_path / "a.svs")
    for output in (tmp_path / "results", tmp_path):
        touch(output / "process_list.csv")
        touch(output / "slides" / "a" / "slide.json")
        touch(output / "slides" / "a" / "heatmap.ome.tif")
        touch(output / "slides" / ".b.partial" / "heatmap.ome.tif")
    assert [entry.path for entry in collect_inputs([tmp_path])] == [slide]
    scan = touch(tmp_path / "b.tif")
    assert [entry.path for entry in collect_inputs([tmp_path / "**" / "*.tif"])] == [scan]


def test_a_slide_is_recognised_from_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = touch(tmp_path / "slides" / "a.svs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (back,) = collect_inputs([Path("../slides"), slide, Path("../elsewhere/../slides/a.svs")])
    assert path_key(back.path) == path_key(slide) == str(slide)


def test_a_link_to_a_slide_keeps_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = touch(tmp_path / "store" / "0f3a")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "case.svs"
    link.symlink_to(store)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert path_key(Path("../case.svs")) == str(link)


def test_a_manifest_says_spacing_mask_and_names(tmp_path: Path) -> None:
    manifest = tmp_path / "cohort.csv"
    manifest.write_text(
        "sample_id,wsi,spacing_at_level_0,mask_path,patient_id,label\n"
        "case 1,one.svs,0.25,roi.geojson,P1,tumour\n"
        ",two.svs,,,,\n"
    )
    one, two = collect_inputs([manifest])
    assert one == SlideInput(tmp_path / "one.svs", "case 1", 0.25, tmp_path / "roi.geojson", "P1", "tumour")
    assert two == SlideInput(tmp_path / "two.svs")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("image_path,mpp\na.svs,fast\n", "line 2: mpp is 'fast'"),
        ("image_path,mpp\na.svs,nan\n", "line 2: mpp"),
        ("name,mpp\na,0.5\n", "no image_path among its columns name, mpp"),
        ("image_path,mpp\n,0.5\n", "line 2: no image_path"),
        ("image_path\n", "no rows"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_with_the_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    manifest = tmp_path / "cohort.csv"
    manifest.write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        collect_inputs([manifest])


def test_a_path_that_is_not_there_and_a_folder_without_slides_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        collect_inputs([tmp_path / "gone.svs"])
    with pytest.raises(SettingsError, match="no slide in this folder"):
        collect_inputs([tmp_path])


def test_a_pattern_that_the_shell_left_alone_is_filled_in(tmp_path: Path) -> None:
    first, second = touch(tmp_path / "a" / "1.svs"), touch(tmp_path / "b" / "c" / "2.svs")
    touch(tmp_path / "a" / "1.txt")
    odd = touch(tmp_path / "d" / "x[1].svs")
    found = collect_inputs([tmp_path / "[ab]" / "**" / "*.svs", odd])
    assert [entry.path for entry in found] == [first, second, odd]
    with pytest.raises(SettingsError, match="no file matches this pattern"):
        collect_inputs([tmp_path / "*.ndpi"])


def test_what_a_manifest_says_of_a_slide_goes_before_its_mere_path(tmp_path: Path) -> None:
    slide = touch(tmp_path / "a.svs")
    manifest = tmp_path / "cohort.csv"
    manifest.write_text("image_path,mpp\na.svs,0.25\n")
    for inputs in ([slide, manifest], [manifest, slide]):
        assert collect_inputs(inputs) == [SlideInput(slide, mpp=0.25)]


def test_a_slide_that_stands_twice_in_a_manifest_is_said(tmp_path: Path) -> None:
    manifest = tmp_path / "cohort.csv"
    manifest.write_text("image_path,sample_id\na.svs,one\nb.svs,two\na.svs,three\n")
    with pytest.raises(SettingsError, match=r"line 4: a\.svs stands in line 2 already"):
        collect_inputs([manifest])


def test_what_is_named_like_a_slide_never_vanishes(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "notes.txt")
    os.symlink(tmp_path / "gone", tmp_path / "dangling.svs")
    os.symlink(tmp_path / "real", tmp_path / "link.svs")
    (tmp_path / "folder.svs").mkdir()
    kept = touch(tmp_path / "holder.svs" / "inside.svs")
    found = [entry.path for entry in collect_inputs([tmp_path])]
    assert found == [tmp_path / "dangling.svs", tmp_path / "folder.svs", kept, tmp_path / "link.svs"]


def ids(paths: list[str], known: dict[str, str] | None = None) -> list[str]:
    return [name for name, _ in assign_sample_ids([SlideInput(Path(p)) for p in paths], known or {})]


def test_equal_stems_get_the_name_of_their_folder() -> None:
    assert ids(["/x/siteA/1.svs", "/x/siteB/1.svs", "/x/2.svs"]) == ["1-siteA", "1-siteB", "2"]


def test_names_that_differ_in_case_only_are_equal() -> None:
    names = ids(["/x/a/S1.svs", "/x/b/s1.svs"])
    assert len({name.lower() for name in names}) == 2


def test_an_id_once_given_stays_when_another_slide_wants_it() -> None:
    known = {path_key(Path("/x/a/1.svs")): "1"}
    assert ids(["/x/b/1.svs", "/x/a/1.svs"], known) == ["1-b", "1"]


@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=8))
def test_any_names_give_unique_ids_that_stay_in_their_folder(names: list[str]) -> None:
    slides = [SlideInput(Path(f"/data/{i}") / f"x{i}.svs", sample_id=name) for i, name in enumerate(names)]
    given_ids = [sample_id for sample_id, _ in assign_sample_ids(slides, {})]
    assert len({sample_id.lower() for sample_id in given_ids}) == len(slides)
    for sample_id in given_ids:
        assert Path(sample_id).name == sample_id
        assert not sample_id.startswith(".")
        assert len(sample_id.encode()) <= 130


def test_device_names_of_windows_are_avoided() -> None:
    assert safe_name("con") != "con"
    assert safe_name("../../etc/passwd") == "etc_passwd"


def test_what_is_named_like_a_slide_and_is_none_is_taken_so_that_its_reason_is_recorded(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty_folder.svs").mkdir()
    inside = touch(tmp_path / "folder.svs" / "slide.svs")
    (tmp_path / "to_nothing.svs").symlink_to(tmp_path / "gone.svs")
    assert [entry.path.name for entry in collect_inputs([tmp_path])] == [
        "empty_folder.svs", inside.name, "to_nothing.svs",
    ]  # fmt: skip
