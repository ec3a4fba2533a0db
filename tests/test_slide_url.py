"""What is a URL, what is a path, and what may be neither."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_cam.batch.fetching import copy_path, without_queries
from wsi_cam.errors import SettingsError
from wsi_cam.inputs import SlideInput, assign_sample_ids, collect_inputs
from wsi_cam.slide_url import SlideUrl, located


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("slides/a.svs", "slides/a.svs"),
        ("C:\\slides\\a.svs", "C:\\slides\\a.svs"),
        ("c://slides/a.svs", "c:/slides/a.svs"),
        ("FILE:///data/a%20b%23%C3%A4.svs", "/data/a b#ä.svs"),
        ("file://localhost/data/a#1?.svs", "/data/a#1?.svs"),
        ("local:///data/100%25.svs", "/data/100%25.svs"),
        ("local://here/a.svs", "here/a.svs"),
    ],
)
def test_a_file_of_this_machine_is_a_path(text: str, path: str) -> None:
    assert located(text) == Path(path)


@pytest.mark.parametrize(
    ("text", "name", "folder"),
    [
        ("https://host:8443/x/b%20c.tif", "b c.tif", "x"),
        ("S3://bucket/b%20c.tif", "b%20c.tif", "bucket"),
        ("abfs://container@account.dfs.core.windows.net/x/a.svs", "a.svs", "x"),
        ("https://host/%2E%2E%2Fa.svs", "../a.svs", "host"),
    ],
)
def test_everything_else_with_a_protocol_is_a_url(text: str, name: str, folder: str) -> None:
    url = located(text)
    assert isinstance(url, SlideUrl)
    assert (url.name, url.folder_name) == (name, folder)
    assert located(str(url)) == url


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("https://me:sesame@host/a.svs", "may hold a secret"),
        ("https://sesame@host/a.svs", "may hold a secret"),
        ("s3://key:sesame@bucket/a.svs", "may hold a secret"),
        ("https://host/a.svs?token=sesame", "may hold a secret"),
        ("https://host/a.svs#sesame", "may hold a secret"),
        ("https://[sesame@host/a.svs", "no URL"),
        ("s3://bucket/*.svs", "one file"),
        ("zip://a.svs::s3://bucket/b.zip", "one file"),
        ("https://host/a\n.svs", "one file"),
        ("https://host/slides/", "names no file"),
        ("https://host", "names no file"),
        ("https://host/%2e%2E", "names no file"),
        ("https://host/cohort.csv", "local file"),
        ("file://server/share/a.svs", "three slashes"),
    ],
)
def test_what_names_no_slide_or_may_hold_a_secret_is_refused(
    text: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=complaint) as refused:
        collect_inputs([text])
    assert "sesame" not in str(refused.value)
    if "\n" not in text:
        (tmp_path / "cohort.csv").write_text(f"image_path\n{text}\n")
        with pytest.raises(SettingsError, match=r"cohort\.csv, line 2: .*" + complaint):
            collect_inputs([tmp_path / "cohort.csv"])


def test_a_signature_that_a_server_sent_us_on_with_is_not_repeated() -> None:
    said = "403, message='Forbidden', url='https://store/a.svs?Signature=sesame&x=1' (twice?)"
    assert without_queries(said) == "403, message='Forbidden', url='https://store/a.svs' (twice?)"


def test_slides_of_one_name_from_two_places_get_two_ids_and_keep_them() -> None:
    slides = [SlideInput(located(u)) for u in ("s3://one/a.svs", "s3://two/a.svs", "https://h/x/..%2Fb.svs")]
    assigned = [name for name, _ in assign_sample_ids(slides, {"s3://two/a.svs": "second"})]
    assert assigned == ["a", "second", "b"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_whatever_its_name_a_copy_stays_in_its_folder(name: str) -> None:
    for text in (f"https://host/{name}", f"s3://bucket/{name}.svs"):
        try:
            url = located(text)
        except SettingsError:
            continue
        assert isinstance(url, SlideUrl)
        copy = copy_path(url, Path("/out"), "id")
        assert copy.parent == Path("/out/.fetched/id")
        assert copy.name not in ("", ".", "..")
        assert len(copy.name.encode()) < 140
