"""The pages in a real browser: they show what is there, do what their controls say, and stay on this machine.

Playwright drives the Chromium that is installed; nothing is downloaded. What was drawn is kept as pictures.
"""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.export.make_run import CELL_PX, MPP, SLIDE_SIZE, finished_run
from tests.make_slides import write_svs
from tests.viewer.serving import Client, serving
from wsi_cam.process_list import ProcessRow, write_process_list

CELLS = (12, 8, 24, 20)  # left, top, right, bottom of a dark square on the slide, tumour on the heatmap
WINDOW = {"width": 1280, "height": 800}


@dataclass
class Browsing:
    """A page, all that it asked for, and all that it complained about."""

    page: Any
    client: Client
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.client.server.url.rstrip('/')}{path}")

    def request_failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # given up by the page: it was left, or a layer replaced
            self.complaints.append(f"{request.url}: {request.failure}")

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(100):
            if holds():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"waited 10 s for {what}; asked: {self.asked[-20:]}; {self.complaints}")

    def wait_until_drawn(self) -> None:
        """Until no tile has been asked for, and no pixel has changed, for a moment."""
        before = b""
        for _ in range(60):
            self.page.wait_for_timeout(250)
            now = self.picture_of_canvas()
            if now == before and len(now) > 0:
                return
            before = now
        raise AssertionError(f"the picture does not come to rest; {self.complaints}")

    def picture_of_canvas(self) -> bytes:
        """PNG of what OpenSeadragon drew, without the outlines and controls over it."""
        url = self.page.evaluate("document.querySelector('.openseadragon-canvas canvas').toDataURL()")
        return base64.b64decode(url.partition(",")[2])

    def pixels(self) -> NDArray[np.int16]:
        with Image.open(io.BytesIO(self.picture_of_canvas())) as picture:
            drawn = picture.convert("RGBA")
        paper = Image.new("RGBA", drawn.size, "white")
        return np.asarray(Image.alpha_composite(paper, drawn).convert("RGB")).astype(np.int16)

    def edges(self, mask: NDArray[np.bool_]) -> list[int]:
        """Left, top, right and bottom of what fills the better part of a row or column that it has."""
        rows, columns = (np.flatnonzero(count > count.max() / 2) for count in (mask.sum(1), mask.sum(0)))
        return [int(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("browser")
    width, height = SLIDE_SIZE
    image = np.full((height, width, 3), 235, np.uint8)
    left, top, right, bottom = (edge * CELL_PX for edge in CELLS)
    image[top:bottom, left:right] = 90
    slide = write_svs(folder / "case_7.svs", image, mpp=MPP.x, levels=(1, 4), quality=95)
    values = np.full((height // CELL_PX, width // CELL_PX), np.nan, np.float32)
    values[CELLS[1] : CELLS[3], CELLS[0] : CELLS[2]] = 1
    values[30:33, 36:40] = 0.7
    run = finished_run(folder / "results", slide, values=values)
    gone = finished_run(folder / "results", folder / "gone.svs", sample_id="gone", values=values)
    assert gone.path == run.path
    rows = {"blank": ProcessRow("blank", "blank.svs", "failed", error="blank.svs: no tissue was found")}
    write_process_list(run.process_list, rows)
    with serving(run) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with playwright.sync_playwright() as driver:
        # A machine with a small /dev/shm would end the page.
        flags = [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
        ]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def browsing(served: Client, browser: Any) -> Iterator[Browsing]:
    page = browser.new_page(viewport=WINDOW)
    page.set_default_timeout(15_000)
    seen = Browsing(page, served)
    page.on("request", lambda request: seen.asked.append(request.url))
    page.on("console", lambda said: seen.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("requestfailed", seen.request_failed)
    yield seen
    page.close()


def asked_elsewhere(browsing: Browsing) -> list[str]:
    own = urlsplit(browsing.client.server.url).netloc
    return [url for url in browsing.asked if urlsplit(url).netloc != own]


def test_a_slide_is_found_in_the_list_and_looked_at(browsing: Browsing, tmp_path: Path) -> None:
    page = browsing.page
    browsing.open("/")
    page.get_by_text("blank.svs: no tissue was found").wait_for()
    assert page.locator("#count").inner_text() == "2 of 2 done, 1 without a result"
    page.get_by_label("Find a slide").fill("case")
    assert page.locator("#done tbody tr:visible").count() == 1
    page.get_by_role("link", name="case_7").click()
    browsing.wait_for(lambda: "region" in page.locator("#regions").inner_text(), "the regions")
    browsing.wait_until_drawn()

    # The slide alone, the heatmap over it: their edges lie on each other on the screen.
    page.keyboard.press("h")
    browsing.wait_until_drawn()
    bare = browsing.pixels()
    dark = browsing.edges(bare.sum(2) < 3 * 160)
    page.keyboard.press("h")
    page.locator("#opacity").fill("1")
    browsing.wait_until_drawn()
    covered = browsing.pixels()
    yellow = (covered[..., 0] > 200) & (covered[..., 2] < 90)
    assert (covered != bare).any()
    np.testing.assert_allclose(browsing.edges(yellow), dark, atol=1)

    # Half the opacity: half the way from the slide to the colour.
    page.locator("#opacity").fill("0.5")
    browsing.wait_until_drawn()
    middle = tuple((np.array(dark[:2]) + dark[2:])[::-1] // 2)
    half = browsing.pixels()[middle]
    np.testing.assert_allclose(half, (bare[middle] + covered[middle]) / 2, atol=3)

    # Another class: nothing of it in the square.
    page.get_by_role("radio", name="normal").check()
    page.locator("#opacity").fill("1")
    browsing.wait_until_drawn()
    np.testing.assert_allclose(browsing.pixels()[middle], bare[middle], atol=3)
    assert "probability of normal" in page.locator("#legend-title").inner_text()
    page.keyboard.press("2")

    # Evidence has another map; its tile's colours are checked elsewhere.
    page.get_by_role("radio", name="Evidence").check()
    browsing.wait_for(
        lambda: any("/heatmap/evidence/1/" in url for url in browsing.asked), "tiles of evidence"
    )
    assert page.locator("#legend-title").inner_text() == "evidence for tumour (logit)"
    page.keyboard.press("e")

    # Hidden below the threshold: the paler focus goes, and is no region any more.
    assert page.locator("#regions").inner_text().startswith("2 regions")
    page.locator("#threshold").fill("0.9")
    page.get_by_label("Hide the heatmap below it").check()
    browsing.wait_for(lambda: page.locator("#regions").inner_text().startswith("1 region,"), "one region")
    browsing.wait_for(lambda: any("hide=0.9" in url for url in browsing.asked), "tiles above the threshold")

    # A click in the square: numbers of the patches there.
    browsing.wait_until_drawn()
    box = page.locator("#slide").bounding_box()
    page.mouse.click(box["x"] + dark[0] + 10, box["y"] + dark[1] + 10)
    page.get_by_text("over this place").wait_for()
    words = page.locator("#place").inner_text()
    assert "At 2" in words
    assert "1.000" in words

    assert (asked_elsewhere(browsing), browsing.complaints) == ([], [])
    page.screenshot(path=tmp_path / "slide.png")
    print(f"\nwhat the viewer showed: {tmp_path / 'slide.png'}")


def test_keys_move_zoom_and_switch(browsing: Browsing) -> None:
    page = browsing.page
    browsing.open("/slides/case_7")
    browsing.wait_until_drawn()
    bar = page.locator("#scale-bar")
    whole = browsing.picture_of_canvas()
    assert bar.inner_text() == "50 µm"
    page.keyboard.press("+")
    page.keyboard.press("+")
    browsing.wait_until_drawn()
    assert browsing.picture_of_canvas() != whole
    assert bar.inner_text() == "20 µm"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("0")
    browsing.wait_until_drawn()
    assert browsing.picture_of_canvas() == whole
    for key, box in (("r", "#outline"), ("g", "#grey")):
        before = page.locator(box).is_checked()
        page.keyboard.press(key)
        assert page.locator(box).is_checked() != before
    page.keyboard.press("n")
    assert page.locator("#regions").inner_text().startswith("region 1 of 2: ")
    page.keyboard.press("c")
    assert page.locator("#panel").is_hidden()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Slides").click()
    page.get_by_text("Slides of results").wait_for()
    assert (asked_elsewhere(browsing), browsing.complaints) == ([], [])


def test_a_slide_that_is_gone_is_said_and_its_heatmap_shown(browsing: Browsing) -> None:
    browsing.open("/slides/gone")
    browsing.page.get_by_text("the slide is not where it was classified").wait_for()
    browsing.wait_until_drawn()
    assert (browsing.pixels()[..., 1] > 100).any()
    assert not [url for url in browsing.asked if "/slide_files/" in url]
    browsing.open("/slides/nothing")
    assert "no slide 'nothing' is done" in browsing.page.evaluate("document.body.innerText")
