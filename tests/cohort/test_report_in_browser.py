"""The report in a real browser, from a file: sorting, filtering, panels, by mouse and by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.cohort.make_results import finished_slide, hills, listed
from tests.cohort.test_report import HOSTILE, with_pictures
from wsi_cam.cohort.gathering import gather_cohort
from wsi_cam.cohort.presets import PRESETS
from wsi_cam.cohort.report.page import write_report
from wsi_cam.process_list import ProcessRow
from wsi_cam.run_folder import RunFolder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five slides with labels and patients, one with pictures, and one that failed."""
    run = RunFolder(tmp_path_factory.mktemp("browser") / "run")
    for number in range(5):
        values = hills(12, 14, seed=number, peaks=number)
        patient = HOSTILE if number == 3 else f"patient {number // 2}"
        label = "tumour" if number > 2 else "normal"
        name = f"slide_{number + 8}"
        row = ProcessRow(name, f"/slides/{name}.svs", "done", patient_id=patient, label=label)
        finished_slide(run, name, values, row=row)
    with_pictures(run, "slide_12")
    listed(run, ProcessRow("broken", "/slides/broken.svs", "failed", error="/slides/broken.svs: cut off"))
    return write_report(run, gather_cohort(run, preset=PRESETS["lymph-node"]))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, report: Path) -> Iterator[Page]:
    """The report, opened; afterwards: no error on the page, and nothing was asked for but files."""
    page = chromium.new_page(viewport={"width": 1400, "height": 900})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert errors == []
    assert asked
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def names(page: Page) -> list[str]:
    """Names of the slides in the table, as shown from the top."""
    shown: list[str] = page.locator("#table tbody tr:visible .open").all_inner_texts()
    return shown


def test_headings_sort_the_table_and_say_so(page: Page) -> None:
    by_rank = names(page)
    assert len(by_rank) == 5
    heading = page.get_by_role("columnheader", name="Slide")
    heading.get_by_role("button").click()
    assert names(page) == [f"slide_{number}" for number in (8, 9, 10, 11, 12)]  # numbers as numbers
    expect(heading).to_have_attribute("aria-sort", "ascending")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert names(page)[0] == "slide_12"
    score = page.get_by_role("columnheader", name="Score")
    score.get_by_role("button").press("Enter")
    assert names(page) == by_rank
    expect(score).to_have_attribute("aria-sort", "descending")
    assert page.locator("#table [aria-sort]").count() == 1


def test_filters_leave_what_was_asked_for_and_count_it(page: Page) -> None:
    page.get_by_label("Find").fill("PATIENT normal slide_1")
    assert names(page) == ["slide_10"]
    expect(page.locator("#count")).to_have_text("1 of 5 slides, 0 of 1 failed")
    expect(page.locator(".failure")).to_be_hidden()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#count")).to_have_text("5 of 5 slides, 1 of 1 failed")
    page.get_by_label("Label").select_option("tumour")
    assert set(names(page)) == {"slide_11", "slide_12"}
    page.get_by_label("Label").select_option("")
    page.get_by_label("Show").select_option("below")
    assert "slide_8" in names(page)
    assert "slide_12" not in names(page)
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Find").fill("cut off")
    assert names(page) == []
    expect(page.locator(".failure")).to_contain_text("broken")


def test_a_slides_panel_opens_steps_and_gives_the_keyboard_back(page: Page) -> None:
    shown = names(page)
    page.get_by_role("button", name=shown[1]).focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog")
    expect(panel).to_be_visible()
    expect(panel.locator("h2")).to_have_text(shown[1])
    assert page.url.endswith(f"#slide={shown[1]}")
    page.keyboard.press("ArrowRight")
    expect(panel.locator("h2")).to_have_text(shown[2])
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(panel.locator("h2")).to_have_text(shown[0])
    expect(panel.get_by_role("button", name="Before")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert page.evaluate("document.activeElement.textContent") == shown[0]


def test_an_address_put_into_the_open_page_opens_its_panel(page: Page, report: Path) -> None:
    page.goto(report.as_uri() + "#slide=slide_9")
    panel = page.get_by_role("dialog")
    expect(panel.locator("h2")).to_have_text("slide_9")
    page.evaluate("location.hash = '#slide=slide_10'")
    expect(panel.locator("h2")).to_have_text("slide_10")
    page.evaluate("location.hash = '#slide=nowhere'")
    expect(panel.locator("h2")).to_have_text("slide_10")


def test_a_panel_shows_pictures_numbers_and_foci(page: Page) -> None:
    page.get_by_role("button", name="slide_12").click()
    panel = page.get_by_role("dialog")
    expect(panel.get_by_role("table")).to_have_count(2)
    expect(panel.get_by_role("row", name="Highest probability")).to_contain_text("0.9")
    page.wait_for_function("[...document.querySelectorAll('#panel img')].every((image) => image.complete)")
    widths = page.evaluate("[...document.querySelectorAll('#panel img')].map((image) => image.naturalWidth)")
    assert len(widths) == 5
    assert np.all(np.array(widths) > 0)


def test_a_link_to_a_slide_opens_its_panel(page: Page, report: Path) -> None:
    page.goto("about:blank")
    page.goto(report.as_uri() + "#slide=slide_10")
    expect(page.get_by_role("dialog").locator("h2")).to_have_text("slide_10")


def test_a_dot_of_the_drawing_opens_its_slide(page: Page) -> None:
    page.locator('circle[data-slide="slide_11"]').click()
    expect(page.get_by_role("dialog").locator("h2")).to_have_text("slide_11")
    expect(page.get_by_role("dialog")).to_contain_text(HOSTILE)


def test_it_fits_a_narrow_window_and_prints_without_its_tools(page: Page) -> None:
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    page.set_viewport_size({"width": 1400, "height": 900})
    page.emulate_media(media="print")
    expect(page.locator(".filters")).to_be_hidden()
    expect(page.locator("#table")).to_be_visible()
    expect(page.locator(".failure")).to_be_visible()


def test_everything_can_be_reached_with_the_tab_key(page: Page) -> None:
    page.locator("body").focus()
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert reached[0] == "skip"
    assert {"find", "call", "label", "sort", "open"} <= set(reached)
