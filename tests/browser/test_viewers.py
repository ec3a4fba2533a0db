"""OME-Zarr and OME-TIFF as viewers in a browser show them: viv by WebGL, and ome-zarr.js."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.browser.chromium import Drawn, draw, require_page
from tests.export.make_heatmaps import heatmap
from tests.make_slides import tissue_image, write_svs
from wsi_cam.export.colour_maps import probability_scale
from wsi_cam.export.ome_tiff import write_heatmap_ome_tiff
from wsi_cam.export.overlay_tiff import write_overlay_ome_tiff
from wsi_cam.geometry import Affine, Mpp
from wsi_cam.slides.opening import open_slide

MPP, CELL_PX = Mpp(0.5, 0.5), 4
WIDTH, HEIGHT = 600, 480  # heatmap pixels; a pyramid of three levels
SQUARE = (300, 120, 480, 300)  # left, top, right, bottom
RED = [255, 0, 0]


def planted() -> NDArray[np.float32]:
    """(480, 600): 0.25 on the right, 0.9 in a square there, NaN on the left fifth."""
    values = np.full((HEIGHT, WIDTH), 0.25, np.float32)
    left, top, right, bottom = SQUARE
    values[top:bottom, left:right] = 0.9
    values[:, :120] = np.nan
    return values


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drawn]:
    require_page()
    folder = tmp_path_factory.mktemp("browser")
    values = np.stack([1 - planted(), planted()])
    affine: Affine = Affine(CELL_PX, CELL_PX)  # type: ignore[type-arg]
    probability = heatmap(folder / "probability.ome.zarr", values, affine, MPP)
    evidence = heatmap(folder / "evidence.ome.zarr", 10 * values, affine, MPP)
    write_heatmap_ome_tiff(folder / "heatmap.ome.tif", probability, evidence)
    image = tissue_image(HEIGHT * CELL_PX, WIDTH * CELL_PX, [(0, 0, WIDTH * CELL_PX, HEIGHT * CELL_PX)])
    with open_slide(write_svs(folder / "slide.svs", image, mpp=MPP.x)) as slide:
        write_overlay_ome_tiff(
            folder / "overlay.ome.tif", slide, MPP, probability, "tumour", probability_scale("tumour"),
            um_per_px=1.0,
        )  # fmt: skip
    tumour = {"viewer": "viv", "channel": 1, "colour": RED, "limits": [0, 1]}
    panels = [
        {**tumour, "name": "zarr in viv", "kind": "zarr", "file": "probability.ome.zarr"},
        {**tumour, "name": "tiff in viv", "kind": "tiff", "file": "heatmap.ome.tif"},
        {**tumour, "name": "overlay in viv", "kind": "tiff", "file": "overlay.ome.tif", "limits": [0, 255]},
        {"viewer": "ome-zarr.js", "name": "zarr in ome-zarr.js", "file": "probability.ome.zarr"},
    ]
    drawn = draw(folder, panels, tmp_path_factory.mktemp("chromium"))
    sheet = folder / "drawn.png"
    Image.fromarray(np.concatenate([_on_sheet(panel.pixels) for panel in drawn.values()])).save(sheet)
    print(f"\nwhat the viewers drew: {sheet}")
    return drawn


def _on_sheet(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    sheet = np.full((330, 410, 3), 90, np.uint8)
    sheet[: pixels.shape[0], : pixels.shape[1]] = pixels
    return sheet


def places(picture: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Mean colours where the heatmap has 0.9, 0.25 and nothing; the picture fits the heatmap's width."""
    height, width = picture.shape[:2]
    scale = min(width / WIDTH, height / HEIGHT)
    left, top = (width - scale * WIDTH) / 2, (height - scale * HEIGHT) / 2

    def mean(x: int, y: int) -> NDArray[np.float64]:
        column, row = round(left + x * scale), round(top + y * scale)
        colour: NDArray[np.float64] = picture[row - 3 : row + 4, column - 3 : column + 4].mean((0, 1))
        return colour

    # Just inside and outside of the square's corners: a shift of two heatmap pixels would be seen.
    inside = np.mean([mean(SQUARE[0] + 8, SQUARE[1] + 8), mean(SQUARE[2] - 8, SQUARE[3] - 8)], axis=0)
    outside = np.mean([mean(SQUARE[0] - 8, SQUARE[1] + 60), mean(SQUARE[2] + 8, SQUARE[3] - 60)], axis=0)
    return {"0.9": inside, "0.25": outside, "nothing": mean(50, 240)}


@pytest.mark.parametrize("name", ["zarr in viv", "tiff in viv"])
def test_viv_shows_the_numbers_where_they_lie(drawn: dict[str, Drawn], name: str) -> None:
    seen = places(drawn[name].pixels)
    np.testing.assert_allclose(seen["0.9"], [0.9 * 255, 0, 0], atol=6)
    np.testing.assert_allclose(seen["0.25"], [0.25 * 255, 0, 0], atol=6)
    np.testing.assert_allclose(seen["nothing"], [0, 0, 0], atol=1)


def test_viv_reads_the_pyramids_names_and_spacing(drawn: dict[str, Drawn]) -> None:
    zarr, tiff = drawn["zarr in viv"].facts, drawn["tiff in viv"].facts
    assert [shape[-2:] for shape in zarr["levels"]] == [[480, 600], [240, 300], [120, 150]]
    assert zarr["facts"]["channels"] == ["normal", "tumour"]
    assert [shape[-2:] for shape in tiff["levels"]] == [[480, 600], [240, 300], [120, 150]]
    assert tiff["facts"]["channels"] == [
        "normal probability", "tumour probability", "normal evidence", "tumour evidence"
    ]  # fmt: skip
    assert tiff["facts"]["spacing"] == [2.0, 2.0]


def test_viv_shows_the_overlay_in_its_colours(drawn: dict[str, Drawn]) -> None:
    picture = drawn["overlay in viv"].pixels
    seen = places(picture)
    scale, white = probability_scale("tumour"), np.full((1, 1, 3), 160, np.uint8)
    for name in ("0.9", "0.25"):
        expected = scale.over(np.array([[float(name)]], np.float32), white)[0, 0].astype(float)
        # The slide beneath is grey and textured: the colours' differences tell the heatmap.
        np.testing.assert_allclose(seen[name] - seen[name].mean(), expected - expected.mean(), atol=15)
    assert np.ptp(seen["nothing"]) < 6


def test_ome_zarr_js_draws_classes_in_their_colours_over_their_windows(drawn: dict[str, Drawn]) -> None:
    picture = drawn["zarr in ome-zarr.js"].pixels
    assert picture.shape[1] / picture.shape[0] == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    seen = places(picture)
    # The stronger of two coloured channels: tumour (200, 0, 0) and normal tissue (70, 130, 180).
    for name, tumour in (("0.9", 0.9), ("0.25", 0.25)):
        expected = np.maximum(tumour * np.array([200, 0, 0]), (1 - tumour) * np.array([70, 130, 180]))
        np.testing.assert_allclose(seen[name], expected, atol=3)
    assert seen["nothing"].max() < 3
