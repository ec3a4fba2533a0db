"""Areas are those for which patches answer: against a slow sum, and against planted truths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.cohort.make_results import (
    CELL_LEVEL0,
    CELL_PX,
    MAP_CELLS,
    MODEL_MPP_UM,
    SLIDE_MPP,
    patch_table,
    slide_record,
    stitched,
)
from tests.make_models import MARKER_RGB, colour_network, model_card
from tests.make_slides import tissue_image, write_svs
from wsi_cam.classifiers.classifier import Classifier
from wsi_cam.cohort.gathering import gather_cohort
from wsi_cam.cohort.patch_areas import answered_areas_mm2, patch_lattice
from wsi_cam.geometry import Box, Level0, Size
from wsi_cam.heatmap.blending import window
from wsi_cam.pipeline import explain_slide
from wsi_cam.run_folder import RunFolder
from wsi_cam.settings import RunSettings

CELL_MM2 = (CELL_PX * MODEL_MPP_UM / 1000) ** 2


def slow_area(
    cell_xy: NDArray[np.int64],
    above: NDArray[np.bool_],
    stride: int,
    size: Size,
    shown: Box[Level0],
) -> float:
    """Of each heatmap pixel: weights of the patches above over those of all, times its part on the slide."""
    weights = window(MAP_CELLS, stride)
    total = 0.0
    for row in range(int(np.ceil(size.height / CELL_LEVEL0))):
        for column in range(int(np.ceil(size.width / CELL_LEVEL0))):
            inside = all_weights = 0.0
            for (x, y), is_above in zip(cell_xy.tolist(), above.tolist(), strict=True):
                if 0 <= row - y < MAP_CELLS and 0 <= column - x < MAP_CELLS:
                    weight = weights[row - y, column - x]
                    all_weights += weight
                    inside += weight * is_above
            if all_weights:
                box = Box[Level0](column * CELL_LEVEL0, row * CELL_LEVEL0, CELL_LEVEL0, CELL_LEVEL0)
                part = box.intersection(shown)
                mm2 = part.width * SLIDE_MPP.x * part.height * SLIDE_MPP.y * 1e-6
                total += mm2 * inside / all_weights
    return total


@given(
    seed=st.integers(0, 2**32 - 1),
    stride=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    bounded=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_areas_are_sums_over_pixels_of_what_their_patches_say(
    seed: int, stride: int, grid: tuple[int, int], bounded: bool
) -> None:
    rng = np.random.default_rng(seed)
    kept = np.argwhere(rng.random(grid) < 0.8)[:, ::-1] * stride
    if not len(kept):
        kept = np.array([[0, 0]])
    tumour = rng.random(len(kept)).astype(np.float32)
    tumour[1:][rng.random(len(kept) - 1) < 0.1] = np.nan
    probabilities = np.stack([1 - tumour, tumour], axis=1)
    # The last cells hang over the slide's edge by half.
    cells = (np.array(grid[::-1]) - 1) * stride + MAP_CELLS - 0.5
    size = Size(*(int(side) for side in cells * CELL_LEVEL0))
    bounds = Box[Level0](20, 40, size.width - 60, size.height - 70) if bounded else None
    shown = bounds or Box[Level0](0, 0, size.width, size.height)
    record = slide_record(RunFolder(Path("run")), "a", probabilities, size, bounds, stride)
    areas = answered_areas_mm2(patch_table(kept, probabilities), patch_lattice(record), 0.5, shown)
    readable = ~np.isnan(tumour)
    for class_index in (0, 1):
        above = probabilities[readable, class_index] >= 0.5
        assert areas[class_index] == pytest.approx(slow_area(kept[readable], above, stride, size, shown))


def planted_foci(rng: np.random.Generator, side: int = 180) -> NDArray[np.bool_]:
    """(side, side) cells: round foci of whole patches of three cells, 1 to some 30 each, at least 50."""
    layout = np.zeros((side // MAP_CELLS,) * 2, np.bool_)
    y, x = np.mgrid[: layout.shape[0], : layout.shape[1]]
    while layout.sum() < 50:
        at_y, at_x = rng.integers(6, layout.shape[0] - 6, 2)
        layout |= (y - at_y) ** 2 + (x - at_x) ** 2 <= rng.uniform(0.5, 3.3) ** 2
    return np.kron(layout, np.ones((MAP_CELLS, MAP_CELLS), np.bool_)) > 0


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_an_oracle_of_the_patches_centres_gives_the_planted_areas(stride: int) -> None:
    """On 16 slides: exactly where the centres fall on every cell, or one in each patch. Where they fall on
    every other cell, a slide of some 60 patches scatters by a few percent, and the mean stays true.
    """
    errors, of_pixels = [], []
    for seed in range(16):
        truth = planted_foci(np.random.default_rng(seed))
        side = len(truth)
        starts = np.arange(0, side - MAP_CELLS + 1, stride)
        cell_xy = np.stack(np.meshgrid(starts, starts), axis=-1).reshape(-1, 2)
        # Not quite sure, as a network is; a little less so where there is tumour.
        tumour = np.where(truth[cell_xy[:, 1] + 1, cell_xy[:, 0] + 1], 0.998, 0.001).astype(np.float32)
        probabilities = np.stack([1 - tumour, tumour], axis=1)
        size = Size(*[round(side * CELL_LEVEL0)] * 2)
        record = slide_record(RunFolder(Path("run")), "a", probabilities, size, None, stride)
        lattice = patch_lattice(record)
        area = answered_areas_mm2(patch_table(cell_xy, probabilities), lattice, 0.5, None)[1]
        errors.append(area / (truth.sum() * CELL_MM2) - 1)
        blended = stitched(lattice.size, cell_xy, probabilities, stride)[1]
        of_pixels.append((blended >= 0.5).sum() / truth.sum() - 1)
    assert abs(np.mean(errors)) < 0.02
    assert np.abs(errors).max() < (0.1 if stride == 2 else 1e-4)
    if stride == 2:  # why pixels are not simply counted
        assert np.mean(of_pixels) < -0.05


def test_a_run_with_a_network_that_knows_the_colour_gives_the_painted_area(tmp_path: Path) -> None:
    """The whole way: a slide with 56 painted patches, the network, the heatmaps, the table."""
    card = model_card(patch_size_px=96, mpp_um=1.0, label_region_px=32, default_overlap=0.0)
    image = tissue_image(96 * 14, 96 * 16, [(0, 0, 96 * 16, 96 * 14)])
    painted = ((1, 1, 7, 6), (9, 2, 4, 3), (10, 8, 2, 1))  # column, row, columns, rows, in patches
    for column, row, columns, rows in painted:
        image[96 * row : 96 * (row + rows), 96 * column : 96 * (column + columns)] = MARKER_RGB
    write_svs(tmp_path / "slide.svs", image, mpp=1.0, levels=(1, 4), quality=95, subsampling="444")
    classifier = Classifier(colour_network(card=card), card, device="cpu")
    explain_slide(tmp_path / "slide.svs", tmp_path / "out", classifier, RunSettings(export=("csv",)))
    (slide,) = gather_cohort(RunFolder(tmp_path / "out")).slides
    assert slide.numbers is not None
    truth = sum(columns * rows for *_, columns, rows in painted) * 0.096**2
    assert slide.numbers.classes["tumour"].area_mm2 == pytest.approx(truth, rel=0.05)
    assert slide.numbers.classes["tumour"].foci.count == 3
    assert slide.numbers.classes["tumour"].foci.longest_diameter_mm == pytest.approx(np.hypot(7, 6) * 0.096)
