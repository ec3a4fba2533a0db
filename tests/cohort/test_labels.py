"""Labels find their slides by any of their names, and say yes or no in the words of this field."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_cam.cohort.labels import assign_to_slides, is_positive, read_labels
from wsi_cam.errors import SettingsError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("column", ["sample_id", "slide", "Image", " name "])
def test_labels_are_read_by_any_name_of_the_column(tmp_path: Path, column: str) -> None:
    file = written(tmp_path / "labels.csv", f"\ufeff{column},Label,other\na,1,x\nb,,y\n\nc, normal ,z\n")
    assert read_labels(file) == {"a": "1", "c": "normal"}


@pytest.mark.parametrize("name", ["node_1", "/data/node_1.ome.tif", "node_1.ome.tif", "node_1.ome"])
def test_a_slide_is_found_by_its_id_its_path_and_its_file_name(name: str) -> None:
    assert assign_to_slides([("node_1", "/data/node_1.ome.tif")], {name: "1"}) == ({"node_1": "1"}, [])


def test_a_name_that_two_slides_share_is_that_of_the_one_whose_id_it_is_or_of_neither() -> None:
    slides = [("node", "/p1/node.svs"), ("node-p2", "/p2/node.svs")]
    assert assign_to_slides(slides, {"node": "1"}) == ({"node": "1"}, [])
    assert assign_to_slides(slides, {"node.svs": "1", "node-p2": "0"}) == ({"node-p2": "0"}, ["node.svs"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name\na\n", "sample_id and label"),
        ("sample_id,label\n,1\n", "line 2"),
        ("sample_id,label\na,1\na,0\n", "line 3"),
    ],
)
def test_a_file_that_says_nothing_clear_is_an_error_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        read_labels(written(tmp_path / "labels.csv", text))


def test_words_for_yes_and_no_are_known_and_others_are_asked_about() -> None:
    assert all(is_positive(word, "tumour") for word in ("1", "Yes", "TUMOUR", "macro", "itc"))
    assert is_positive("Squamous", "squamous")
    assert not any(is_positive(word, "tumour") for word in ("0", "no", "Normal", "benign"))
    with pytest.raises(SettingsError, match="grade 2"):
        is_positive("grade 2", "tumour")


def test_words_of_disease_speak_for_a_class_only_where_it_is_that() -> None:
    assert not is_positive("tumour", "normal", ("normal", "tumour"))
    assert not is_positive("ITC", "normal", ("normal", "tumour"))
    assert is_positive("normal", "normal", ("normal", "tumour"))
    assert is_positive("cancer", "class_1", ("class_0", "class_1"))
    assert not is_positive("malignant", "stroma", ("benign", "malignant", "stroma"))
    assert is_positive("cancer", "malignant", ("benign", "malignant", "stroma"))
    for word, name in (("cancer", "stroma"), ("normal", "stroma"), ("normal", "benign")):
        with pytest.raises(SettingsError, match=f"that {name} is there"):
            is_positive(word, name, ("benign", "malignant", "stroma"))
