"""Tiles are the slide and its heatmap, pixel for pixel, and lie on each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.export.make_run import CELL_PX, MPP, SLIDE_SIZE, finished_run, planted_probability
from tests.make_slides import write_svs
from tests.viewer.serving import Client, serving
from wsi_cam.export.colour_maps import colour_table
from wsi_cam.export.jpeg import jpeg_bytes
from wsi_cam.export.source import export_source
from wsi_cam.geometry import Affine, Box
from wsi_cam.run_folder import RunFolder
from wsi_cam.slides.opening import open_slide

WIDTH, HEIGHT = SLIDE_SIZE
TOP_LEVEL = 10  # 900 px
SLIDE_LEVELS = {1: 0, 4: 1}  # downsample -> level of the slide


def block_means(path: Path, factor: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    """A window of the picture reduced by ``factor``: each pixel its block's mean, white off the slide."""
    with open_slide(path) as slide:
        own = max(each for each in SLIDE_LEVELS if each <= factor)
        size = slide.info.levels[SLIDE_LEVELS[own]].size
        whole = slide.read_region(SLIDE_LEVELS[own], (0, 0, size.width, size.height))
    rest = factor // own
    white = np.full(((y + height) * rest, (x + width) * rest, 3), 255.0)
    there = whole[: white.shape[0], : white.shape[1]]
    white[: there.shape[0], : there.shape[1]] = there
    result = np.empty((height, width, 3))
    for row, column in np.ndindex(height, width):
        top, left = (y + row) * rest, (x + column) * rest
        result[row, column] = white[top : top + rest, left : left + rest].mean((0, 1))
    return np.rint(result).astype(np.uint8)


@pytest.mark.parametrize(
    ("level", "column", "row", "box"),
    [
        (10, 0, 0, (0, 0, 255, 255)),  # the first: no neighbour on the left, none above
        (10, 1, 1, (253, 253, 256, 256)),
        (10, 3, 2, (761, 507, 139, 193)),  # the last
        (9, 1, 1, (253, 253, 197, 97)),
        (8, 0, 0, (0, 0, 225, 175)),
        (7, 0, 0, (0, 0, 113, 88)),  # 112.5 and 87.5: half a pixel is off the slide
        (0, 0, 0, (0, 0, 1, 1)),
    ],
)
def test_a_tile_of_the_slide_is_the_mean_of_what_it_covers(
    client: Client, slide_path: Path, level: int, column: int, row: int, box: tuple[int, int, int, int]
) -> None:
    reply = client.of("case_7", f"/slide_files/{level}/{column}_{row}.jpg")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/jpeg")
    assert reply.body == jpeg_bytes(block_means(slide_path, 2 ** (TOP_LEVEL - level), *box))


def test_a_grey_tile_has_the_brightness_of_the_coloured_one(client: Client) -> None:
    colour = client.of("case_7", "/slide_files/10/1_1.jpg").pixels.astype(float)
    grey = client.of("case_7", "/slide_files/10/1_1.jpg?grey=1").pixels.astype(float)
    assert np.ptp(grey, axis=2).max() <= 2
    assert abs((colour @ [0.299, 0.587, 0.114]) - grey[..., 0]).mean() < 3


@pytest.mark.parametrize(("layer", "low", "high"), [("probability", 0.0, 1.0), ("evidence", 0.0, 1.0)])
def test_heatmap_pixels_have_the_colour_of_their_value_and_are_as_opaque(
    client: Client, run: RunFolder, layer: str, low: float, high: float
) -> None:
    # Level 10 has one pixel per level-0 pixel: at a cell's centre nothing is interpolated.
    values = planted_probability() if layer == "probability" else 10 * planted_probability() - 2
    pixels = client.of("case_7", f"/heatmap/{layer}/1/10/0_0.png").pixels
    table = colour_table("viridis" if layer == "probability" else "plasma")
    seen = set()
    for cell_y, cell_x in np.ndindex(12, 12):
        value = values[cell_y, cell_x]
        # A centre lies between two pixels; their values differ by a fortieth of the step to a neighbour.
        pixel = pixels[cell_y * CELL_PX + CELL_PX // 2, cell_x * CELL_PX + CELL_PX // 2].astype(int)
        step = 0 if np.isnan(value) else int(np.rint(np.clip((value - low) / (high - low), 0, 1) * 255))
        assert abs(pixel[3] - step) <= 6
        np.testing.assert_array_equal(pixel[:3], table[pixel[3]])
        seen.add(step)
    assert len(seen) >= 2


def test_a_heatmap_tile_in_the_middle_of_cells_is_exact(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 45 * 35, dtype=np.float32).reshape(35, 45)
    values[10:14, 10:14] = np.nan
    run = finished_run(tmp_path / "results", tmp_path / "slide.svs", values=values, to_level0=Affine(21, 21))
    with serving(run) as client:
        pixels = client.of("case_7", "/heatmap/probability/1/10/0_0.png").pixels
    centres = pixels[10::21, 10::21]  # 21 px a cell: pixel 10 is its very centre
    expected = values[: len(centres), : len(centres)]
    steps = np.rint(np.nan_to_num(expected) * 255).astype(np.uint8)
    np.testing.assert_array_equal(centres[..., 3], steps)
    np.testing.assert_array_equal(centres[..., :3], colour_table("viridis")[steps])


def test_what_is_less_probable_than_the_threshold_is_hidden_in_both_layers(client: Client) -> None:
    all_of_it = client.of("case_7", "/heatmap/probability/1/10/0_0.png").pixels[..., 3]
    some = client.of("case_7", "/heatmap/probability/1/10/0_0.png?hide=0.5").pixels[..., 3]
    np.testing.assert_array_equal(some, np.where(all_of_it >= 128, all_of_it, 0))
    evidence = client.of("case_7", "/heatmap/evidence/1/10/0_0.png?hide=0.5").pixels[..., 3]
    assert set(np.unique(evidence[some == 0])) == {0}
    assert evidence[some > 0].min() > 0


def test_a_class_has_its_own_heatmap(client: Client) -> None:
    tumour, normal = (client.of("case_7", f"/heatmap/probability/{k}/10/0_0.png").pixels for k in (1, 0))
    covered = (tumour[..., 3] > 0) & (normal[..., 3] > 0)
    assert covered.any()
    np.testing.assert_allclose(tumour[covered, 3].astype(int) + normal[covered, 3], 255, atol=1)


@pytest.mark.parametrize("bounds", [None, Box(120.0, 60.0, 700.0, 600.0)])
@pytest.mark.parametrize("cell_px", [16.0, 23.7])
def test_heatmap_and_slide_lie_on_each_other_at_every_level(
    tmp_path: Path,
    bounds: Box | None,
    cell_px: float,  # type: ignore[type-arg]
) -> None:
    """A dark square on the slide, and the same square on the heatmap: their edges agree within a pixel."""
    cells = (12, 8, 22, 20)  # left, top, right, bottom
    left, top, right, bottom = (round(edge * cell_px) for edge in cells)
    image = np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
    image[top:bottom, left:right] = 20
    slide = write_svs(tmp_path / "slide.svs", image, mpp=MPP.x, levels=(1, 4), quality=98)
    values = np.zeros((int(np.ceil(HEIGHT / cell_px)), int(np.ceil(WIDTH / cell_px))), np.float32)
    values[cells[1] : cells[3], cells[0] : cells[2]] = 1
    run = finished_run(
        tmp_path / "results", slide, values=values, to_level0=Affine(cell_px, cell_px), bounds=bounds
    )
    with serving(run) as client:
        for level in (10, 9, 8, 7, 6):
            dark = whole_level(client, f"/slide_files/{level}", "jpg", level, bounds)[..., 0] < 130
            hot = whole_level(client, f"/heatmap/probability/1/{level}", "png", level, bounds)[..., 3] >= 128
            np.testing.assert_allclose(edges(hot), edges(dark), atol=1)
            # And both where they belong, on the finest level.
            if level == TOP_LEVEL:
                x, y = (0, 0) if bounds is None else (bounds.x, bounds.y)
                np.testing.assert_allclose(edges(dark), [left - x, top - y, right - x, bottom - y], atol=1)


def whole_level(
    client: Client, address: str, suffix: str, level: int, bounds: Box | None
) -> NDArray[np.uint8]:  # type: ignore[type-arg]
    """A level, put together of its tiles."""
    size = (WIDTH, HEIGHT) if bounds is None else (int(bounds.width), int(bounds.height))
    width, height = (-(-side // 2 ** (TOP_LEVEL - level)) for side in size)
    whole = np.zeros((height, width, 4), np.uint8)
    for column in range(-(-width // 254)):
        for row in range(-(-height // 254)):
            tile = client.of("case_7", f"{address}/{column}_{row}.{suffix}").pixels
            x, y = max(column * 254 - 1, 0), max(row * 254 - 1, 0)
            whole[y : y + tile.shape[0], x : x + tile.shape[1], : tile.shape[2]] = tile
    return whole


def edges(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_the_finest_heatmap_level_has_eight_pixels_a_cell_or_more(client: Client, run: RunFolder) -> None:
    finest = client.of("case_7").json["tiles"]["finest_heatmap_level"]
    affine = export_source(run, "case_7").probability.to_level0
    assert 8 <= affine.scale_x / 2 ** (TOP_LEVEL - finest) < 16
