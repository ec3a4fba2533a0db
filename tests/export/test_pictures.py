"""Pictures: complete, uncut, fixed in their colours, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.export.make_heatmaps import heatmap
from wsi_cam.errors import OutputError
from wsi_cam.export.colour_maps import PROBABILITY_MAP, colour_table, evidence_scale, probability_scale
from wsi_cam.export.legend import (
    colour_bar,
    length_text,
    round_length,
    scale_bar,
    swatch,
    uncovered_pattern,
)
from wsi_cam.export.lettering import INK, font, shortened, text_width, wrapped
from wsi_cam.export.overview import overview
from wsi_cam.export.png import write_png
from wsi_cam.export.slide_view import SlideView
from wsi_cam.export.tissue_picture import _WARNING, _covered, tissue_picture
from wsi_cam.export.triptych import patch_panels, triptych
from wsi_cam.geometry import Affine, Box, Mpp, Size
from wsi_cam.tiling.patch_plan import plan_patches
from wsi_cam.tiling.tissue import TissueMask

MPP = Mpp(0.5, 0.5)
ASPECTS = [(900, 700), (4000, 160), (160, 4000), (64, 64), (40, 900)]
Picture = NDArray[np.uint8]


def slide_view(width: int, height: int) -> SlideView:
    rng = np.random.default_rng(5)
    image = rng.integers(120, 255, (max(1, height // 4), max(1, width // 4), 3), dtype=np.uint8)
    return SlideView(image, Affine(4, 4), MPP, Box(0, 0, width, height))


def constant_overview(folder: Path, width: int, height: int, value: float = 1.0, **words: str) -> Picture:
    """An overview whose left half has one value and whose right half was never seen."""
    values = np.full((2, -(-height // 20), -(-width // 20)), value, np.float32)
    values[:, :, values.shape[2] // 2 :] = np.nan
    store = heatmap(folder / f"{width}x{height}-{value}.ome.zarr", values, Affine(20, 20), MPP)
    title, note = words.get("title", "slide 1"), words.get("note", "a note")
    view, scale = slide_view(width, height), probability_scale("tumour")
    return overview(view, store, "tumour", scale, title=title, note=note, width=900)


def count(picture: Picture, colour: object) -> int:
    return int((picture == np.array(colour, np.uint8)).all(axis=2).sum())


def assert_margins_are_white(picture: Picture, margin: int) -> None:
    """Nothing drawn reaches the border, so nothing was cut off there."""
    inner = picture[margin:-margin, margin:-margin]
    assert (picture == 255).sum() - (inner == 255).sum() == picture.size - inner.size


@pytest.mark.parametrize(("width", "height"), ASPECTS)
def test_an_overview_fits_its_sheet_at_every_shape_of_slide(tmp_path: Path, width: int, height: int) -> None:
    words = {"title": "a long name of a slide " * 6, "note": "what must be said of the model " * 9}
    picture = constant_overview(tmp_path, width, height, **words)
    assert_margins_are_white(picture, 24)
    assert picture.shape[1] <= 900 + 2 * 24 + 4
    assert picture.shape[0] < 1700


def test_an_overview_paints_the_fixed_colour_and_hatches_what_was_not_seen(tmp_path: Path) -> None:
    picture = constant_overview(tmp_path, 800, 800)
    panel = (900 - 40) // 3
    assert count(picture, colour_table(PROBABILITY_MAP)[255]) == pytest.approx(panel**2 / 2, rel=0.03)
    hatch = sum(count(picture, (grey, grey, grey)) for grey in (205, 238))
    assert hatch == pytest.approx(panel**2 / 2, rel=0.07)  # the sample in the legend included


def test_one_number_has_one_colour_whatever_else_is_on_the_slide(tmp_path: Path) -> None:
    table = colour_table(PROBABILITY_MAP)
    for value in (0.2, 0.6):
        picture = constant_overview(tmp_path, 800, 800, value)
        assert count(picture, table[round(value * 255)]) > 30_000


def test_no_colour_of_a_map_is_grey() -> None:
    for name in (PROBABILITY_MAP, "plasma"):
        table = colour_table(name).astype(int)
        assert (table.max(axis=1) - table.min(axis=1)).min() > 40
    pattern = uncovered_pattern(20, 20)
    assert (pattern.max(axis=2) == pattern.min(axis=2)).all()


def test_a_picture_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_png(tmp_path / f"{name}.png", constant_overview(tmp_path / name, 300, 300))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a_file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"overview\.png: cannot be written"):
        write_png(tmp_path / "a_file" / "overview.png", np.zeros((2, 2, 3), np.uint8))


def some_tissue(width: int, height: int) -> TissueMask:
    mask = np.zeros((height // 16, width // 16), bool)
    mask[len(mask) // 4 : len(mask) // 2 + 1] = True
    return TissueMask(mask, Affine(16, 16), "colour")


@pytest.mark.parametrize(("width", "height"), [(3000, 2000), (9000, 640), (640, 9000)])
def test_a_tissue_picture_fits_its_sheet(width: int, height: int) -> None:
    mask = some_tissue(width, height)
    plan = plan_patches(mask, Size(width, height), MPP, [Affine(1, 1)], 96, 1.0)
    picture = tissue_picture(slide_view(width, height), mask, plan, title="a long title " * 9, width=700)
    assert_margins_are_white(picture, 24)
    assert count(picture, (0, 140, 60)) > 100
    assert count(picture, (25, 80, 210)) > 100


def test_crowded_patches_are_drawn_as_one_area_and_others_one_by_one() -> None:
    mask = some_tissue(3000, 2000)
    blue = []
    for width in (150, 1200):
        plan = plan_patches(mask, Size(3000, 2000), MPP, [Affine(1, 1)], 96, 1.0)
        picture = tissue_picture(slide_view(3000, 2000), None, plan, title="plan", width=width)
        blue.append(count(picture[:-60], (25, 80, 210)) / width)
    assert blue[0] < 4 < blue[1]


def test_a_slide_without_tissue_is_shown_with_the_reason_in_red() -> None:
    view = slide_view(1000, 800)
    failed = tissue_picture(view, None, None, title="slide", reason="no tissue found: nothing is coloured")
    plain = tissue_picture(view, None, None, title="slide")
    assert count(failed, _WARNING) > 100 > count(plain, _WARNING) == 0
    assert failed.shape[0] > plain.shape[0]


@given(st.integers(0, 2**32 - 1))
def test_covered_pixels_equal_the_slow_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.uniform(-5, 20, (6, 2))
    last = first + rng.uniform(0.1, 8, (6, 2))
    expected = np.zeros((15, 17), bool)
    for (x0, y0), (x1, y1) in zip(np.floor(first).astype(int), np.ceil(last).astype(int), strict=True):
        expected[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    np.testing.assert_array_equal(_covered(first, last, (15, 17)), expected)


def patch(side: int = 96) -> Picture:
    return np.random.default_rng(side).integers(90, 250, (side, side, 3), dtype=np.uint8)


def test_a_triptych_paints_evidence_on_the_scale_of_the_model_not_on_its_own() -> None:
    scale = evidence_scale("tumour", 10.0)
    for value, grey in ((2.5, 64), (5.0, 128), (10.0, 255), (40.0, 255), (-3.0, 0)):
        panels = patch_panels(patch(), np.full((3, 3), value, np.float32), scale)
        assert np.abs(panels[1].astype(int) - grey).max() <= 1


def test_a_cell_lies_in_a_triptych_where_it_lies_in_the_patch() -> None:
    evidence = np.zeros((4, 4), np.float32)
    evidence[1, 2] = 10
    grey = patch_panels(patch(100), evidence, evidence_scale("tumour", 10.0), cell_px=32)[1][..., 0]
    y, x = np.argwhere(grey > 128).mean(axis=0) / len(grey) * 100
    assert (x, y) == pytest.approx((80, 48), abs=0.5)


@pytest.mark.parametrize("side", [32, 96, 224, 500])
def test_a_triptych_fits_its_sheet(side: int) -> None:
    evidence = np.random.default_rng(1).normal(size=(7, 7)).astype(np.float32)
    name = "lung squamous cell carcinoma, keratinising, of a very long name indeed " * 2
    picture = triptych(patch(side), evidence, 2.0, class_name=name, probability=1.0, place="x 1, y 2 " * 30)
    assert_margins_are_white(picture, 16)


def test_a_triptych_of_other_arrays_is_refused() -> None:
    with pytest.raises(ValueError, match="a patch"):
        triptych(patch()[..., 0], np.zeros((3, 3), np.float32), 1.0, class_name="tumour")
    with pytest.raises(ValueError, match="a patch"):
        triptych(patch(), np.zeros((2, 3, 3), np.float32), 1.0, class_name="tumour")


@given(st.floats(1e-4, 1e4))
def test_scale_bars_have_round_lengths(longest: float) -> None:
    length = round_length(longest)
    assert longest / 2.5 < length * (1 + 1e-6)
    assert length <= longest * (1 + 1e-6)
    assert f"{length:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("length_um", "text"),
    [(0.5, "0.5 µm"), (20, "20 µm"), (500, "500 µm"), (1000, "1 mm"), (20_000, "20 mm")],
)
def test_lengths_below_a_millimetre_are_in_micrometres(length_um: float, text: str) -> None:
    assert length_text(length_um) == text


def test_a_scale_bar_is_as_long_as_it_says() -> None:
    bar = np.asarray(scale_bar(um_per_px=7.3, longest_px=200))
    ink = np.flatnonzero((bar[5] == INK).all(axis=1))
    assert ink.max() + 1 - ink.min() == pytest.approx(1000 / 7.3, abs=1)


def test_words_fit_their_width() -> None:
    typeface = font(17)
    text = "Rechtsschutzversicherungsgesellschaften " + "and other words " * 8
    lines = wrapped(text, typeface, 150)
    assert all(text_width(line, typeface) <= 150 for line in lines)
    assert lines[0].startswith("Rechts")
    assert "…" in lines[0]
    assert shortened("short", typeface, 150) == "short"
    assert swatch(uncovered_pattern(22, 40), text, 300).width <= 300
    assert colour_bar(evidence_scale(text, 3.0), 200).size == colour_bar(evidence_scale("a", 3.0), 200).size


def test_class_names_of_other_alphabets_have_letters() -> None:
    def drawn(text: str) -> bytes:
        canvas = Image.new("L", (40, 40))
        ImageDraw.Draw(canvas).text((2, 2), text, font=font(20), fill=255)
        return canvas.tobytes()

    no_letter = "\u0378"
    assert len({drawn(letter) for letter in "ЖΩéß" + no_letter}) == 5
