"""The report is one file that says everything, escapes everything, and points at what is there."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from tests.cohort.make_results import finished_slide, hills, listed
from tests.make_slides import tissue_image
from wsi_cam.cohort.gathering import gather_cohort
from wsi_cam.cohort.presets import PRESETS
from wsi_cam.cohort.report import page
from wsi_cam.cohort.report.page import write_report
from wsi_cam.cohort.report.pictures import framed_parts, thumbnail
from wsi_cam.cohort.tables import write_tables
from wsi_cam.export.colour_maps import probability_scale
from wsi_cam.export.overview import overview
from wsi_cam.export.png import write_png
from wsi_cam.export.slide_view import SlideView
from wsi_cam.geometry import Affine, Box, Mpp
from wsi_cam.heatmap.store import open_heatmap
from wsi_cam.process_list import ProcessRow
from wsi_cam.run_folder import RunFolder

HOSTILE = """<script>alert('x')</script>" onload="alert(1)' & </template></table>"""


class _Tags(HTMLParser):
    """Every tag with its attributes, those inside of templates too."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def with_pictures(run: RunFolder, sample_id: str, size: tuple[int, int] = (300, 420)) -> None:
    """Write the pictures that a run leaves beside a slide's numbers."""
    files = run.slide(sample_id)
    image = tissue_image(*size, [(20, 20, size[1] // 2, size[0] // 2)])
    shown = Box(0, 0, size[1] * 2, size[0] * 2)
    view = SlideView(image, Affine(2, 2), Mpp(0.5, 0.5), shown)
    store = open_heatmap(files.probability_zarr)
    picture = overview(view, store, "tumour", probability_scale("tumour"), title=sample_id, width=900)
    write_png(files.overview_png, picture)
    write_png(files.tissue_png, image)
    for name in ("0_normal_1", "1_tumour_1", "1_tumour_2", "1_tumour_10"):
        write_png(files.patch_pictures / f"{name}.png", image[:50, :150])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Three slides, one with pictures, one failed; a hostile patient, label, reason and path."""
    run = RunFolder(tmp_path / "run & <b>results")
    for number, name in enumerate(("Größe #1 50%", "b")):
        row = ProcessRow(name, f"/slides/{HOSTILE}.svs", "done", patient_id=HOSTILE, label=HOSTILE)
        finished_slide(run, name, hills(12, 14, seed=number), row=row)
    with_pictures(run, "b")
    listed(
        run, ProcessRow("failed", f"/slides/{HOSTILE}", "failed", error=f"/slides/{HOSTILE}: no {HOSTILE}")
    )
    write_png(run.failed_tissue_png("failed"), tissue_image(200, 300, []))
    run.log("failed").parent.mkdir()
    run.log("failed").write_text("Traceback")
    run.run_json.write_text(
        '{"command": ["wsi-cam", "<script>alert(2)</script>"], "started": "", "ended": ""}'
    )
    return run


def reported(run: RunFolder) -> str:
    cohort = gather_cohort(run, preset=PRESETS["lymph-node"])
    return write_report(run, cohort).read_text(encoding="utf-8")


def test_what_comes_from_outside_stays_text(run: RunFolder) -> None:
    text = reported(run)
    tags = _Tags(text).tags
    assert [tag for tag, _ in tags].count("script") == 1
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "<b>results" not in text
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(" in text
    rows = [attributes for tag, attributes in tags if tag == "tr" and "data-label" in attributes]
    assert {attributes["data-label"] for attributes in rows} == {HOSTILE}


def test_only_the_reports_own_script_may_run_and_nothing_is_fetched(run: RunFolder) -> None:
    text = reported(run)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = next(a["content"] for tag, a in _Tags(text).tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    addresses = [a[key] for _, a in _Tags(text).tags for key in ("src", "href") if a.get(key)]
    assert not [address for address in addresses if re.match(r"(https?:)?//", address or "")]


def test_every_link_leads_to_a_file_of_the_run(run: RunFolder) -> None:
    (run.path / "cohort.csv").write_text("")
    addresses = [a[key] or "" for _, a in _Tags(reported(run)).tags for key in ("src", "href") if key in a]
    files = {unquote(each) for each in addresses if not each.startswith(("#", "data:"))}
    assert {"slides/b/overview.png", "failed/failed.tissue.png", "logs/failed.log"} <= files
    assert "slides/Größe #1 50%/patches.csv" in files
    missing = [each for each in files if not (run.path / each).exists()]
    assert missing == []


def test_top_patches_stand_by_class_and_place(run: RunFolder) -> None:
    sources = [a["src"] or "" for tag, a in _Tags(reported(run)).tags if tag == "img"]
    names = [source.rsplit("/", 1)[1] for source in sources if "/patches/" in source]
    assert names == ["1_tumour_1.png", "1_tumour_2.png", "1_tumour_10.png", "0_normal_1.png"]


def test_failures_have_their_reason_picture_and_log(run: RunFolder) -> None:
    text = reported(run)
    failure = text[text.index('class="failure"') :]
    failure = failure[: failure.index("</article>")]
    assert "no &lt;script&gt;" in failure
    assert "logs/failed.log" in failure
    assert 'src="data:image/jpeg' in failure


def test_slides_that_wait_are_named_and_are_no_failures(run: RunFolder) -> None:
    listed(run, ProcessRow("waiting_1", "1.svs", "pending"), ProcessRow("waiting_2", "2.svs", "pending"))
    text = reported(run)
    assert text.count('class="failure"') == 1
    assert "waiting_2</span>. Run the same command again" in text


def test_equal_results_give_equal_pages(run: RunFolder) -> None:
    assert reported(run) == reported(run)


def test_many_pictures_lie_beside_the_page_and_old_ones_go(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = run.path / "report_files"
    reported(run)
    assert not beside.exists()
    monkeypatch.setattr(page, "EMBEDDED_BYTES", 0)
    (beside).mkdir()
    (beside / "gone.jpg").write_bytes(b"")
    text = reported(run)
    assert "data:image" not in text
    assert sorted(path.name for path in beside.iterdir()) == ["Größe #1 50%.jpg", "b.jpg", "failed.jpg"]
    monkeypatch.undo()
    reported(run)
    assert not beside.exists()


@pytest.mark.parametrize("size", [(300, 420), (900, 120), (90, 1200)])
def test_the_panels_of_an_overview_are_found_again(tmp_path: Path, size: tuple[int, int]) -> None:
    run = RunFolder(tmp_path / "run")
    finished_slide(run, "a", hills(9, 9, seed=0))
    with_pictures(run, "a", size)
    with Image.open(run.slide("a").overview_png) as picture:
        parts = framed_parts(np.asarray(picture.convert("RGB")))
    assert len(parts) == 3
    (width,), (height,) = ({part[i + 2] - part[i] for part in parts} for i in (0, 1))
    assert width / height == pytest.approx(size[1] / size[0], rel=0.05)


def test_a_thumbnail_shows_tissue_and_overlay_or_the_heatmap_alone(run: RunFolder) -> None:
    slides = {slide.sample_id: slide for slide in gather_cohort(run).slides}
    for name in slides:
        picture = thumbnail(run, slides[name])
        assert picture is not None
        with Image.open(BytesIO(picture)) as opened:
            assert opened.width <= 2 * 208 + 8
            assert opened.height <= 152
            assert (opened.width > 208) == (name == "b")
    run.slide("b").overview_png.write_bytes(b"not a picture")
    run.failed_tissue_png("failed").unlink()
    assert thumbnail(run, slides["b"]) is None
    assert thumbnail(run, slides["failed"]) is None


def test_names_that_are_no_text_do_not_stop_tables_or_report(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    path = "/slides/caf\udce9.svs"  # a file name in Latin-1, as Python reads it
    finished_slide(run, "cafe", hills(6, 6, seed=1), row=ProcessRow("cafe", path, "done"))
    listed(run, ProcessRow("b", path, "failed", error=f"{path}: cut off"))
    write_tables(run.path, gather_cohort(run))
    assert path.encode("utf-8", "surrogateescape") in (run.path / "cohort.csv").read_bytes()
    assert "caf?.svs" in reported(run)


def test_a_run_of_failures_alone_has_a_report(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    listed(run, ProcessRow("a", "a.svs", "failed", error="gone"))
    assert "No slide has numbers." in reported(run)
