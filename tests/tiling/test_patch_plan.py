"""Which patches are planned: all of the tissue, each patch once, on one exact lattice."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_cam.errors import SettingsError, SpacingError, TissueError
from wsi_cam.geometry import Affine, Level, Level0, Mpp, Size, Thumbnail
from wsi_cam.tiling.patch_grid import BLOCK_PX
from wsi_cam.tiling.patch_plan import PatchPlan, choose_level, plan_patches
from wsi_cam.tiling.tissue import TissueMask

ONE_LEVEL = [Affine[Level, Level0](1, 1)]


def mask_of(array: Any, scale: tuple[float, float] = (1, 1)) -> TissueMask:
    return TissueMask(np.asarray(array, bool), Affine[Thumbnail, Level0](*scale), "test")


def full_mask(size: Size, side: int = 16) -> TissueMask:
    """Tissue everywhere, on a mask that ends exactly at the slide's edge."""
    return mask_of(np.ones((side, side)), (size.width / side, size.height / side))


@st.composite
def plans(draw: st.DrawFn, min_tissue: float | None = None) -> tuple[TissueMask, PatchPlan]:
    """A plan over a random mask on a slide of any small size, spacing, patch size and overlap."""
    size = Size(draw(st.integers(1, 3000)), draw(st.integers(1, 3000)))
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    cells = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    cells[draw(st.integers(0, len(cells) - 1))] = True
    tissue = mask_of(np.reshape(cells, (rows, columns)), (size.width / columns, size.height / rows))
    spacings = st.floats(0.2, 1.1)
    levels = [Affine[Level, Level0](r, r) for r in (1.0, 4.0, 16.0)][: draw(st.integers(1, 3))]
    try:
        plan = plan_patches(
            tissue,
            size,
            Mpp(draw(spacings), draw(spacings)),
            levels,
            size_px=draw(st.integers(32, 300)),
            mpp_um=draw(st.floats(0.9, 4)),
            overlap=draw(st.floats(0, 0.95)),
            min_tissue=draw(st.floats(0, 0.5)) if min_tissue is None else min_tissue,
        )
    except TissueError:
        plan = None
    if plan is None:
        assert min_tissue != 0, "any tissue makes a patch"
        return draw(plans(min_tissue=0))
    return tissue, plan


def slow_starts(extent: int, patch: float, cell: float, stride: int) -> list[int]:
    """First cells of the patches along one axis: on until one reaches the edge."""
    starts = [0]
    while starts[-1] * cell + patch < extent * (1 - 1e-12):
        starts.append(starts[-1] + stride)
    return starts


def slow_fractions(tissue: TissueMask, plan: PatchPlan) -> dict[tuple[int, int], float]:
    """The share of tissue of every position of the grid, pixel by pixel of the mask."""
    to0, cell, size, patch = tissue.to_level0, plan.heatmap_to_level0, plan.slide_size, plan.patch_level0
    fractions = {}
    for row in slow_starts(size.height, patch[1], cell.scale_y, plan.stride_cells):
        for column in slow_starts(size.width, patch[0], cell.scale_x, plan.stride_cells):
            left, top = column * cell.scale_x, row * cell.scale_y
            right, bottom = min(left + patch[0], size.width), min(top + patch[1], size.height)
            area = 0.0
            for r, c in zip(*np.nonzero(tissue.mask), strict=True):
                width = min(right, (c + 1) * to0.scale_x) - max(left, c * to0.scale_x)
                height = min(bottom, (r + 1) * to0.scale_y) - max(top, r * to0.scale_y)
                area += max(width, 0) * max(height, 0)
            fractions[column, row] = area / ((right - left) * (bottom - top))
    return fractions


@settings(deadline=None)
@given(plans())
def test_the_tissue_under_a_patch_is_the_exact_area_of_the_mask(case: tuple[TissueMask, PatchPlan]) -> None:
    tissue, plan = case
    slow = slow_fractions(tissue, plan)
    planned = {tuple(cell): f for cell, f in zip(plan.cell_xy.tolist(), plan.tissue_fraction, strict=True)}
    for cell, fraction in planned.items():
        assert fraction == pytest.approx(slow[cell], abs=1e-5)
    left_out = [fraction for cell, fraction in slow.items() if cell not in planned]
    assert all(fraction < plan.min_tissue + 1e-6 for fraction in left_out)


@settings(deadline=None)
@given(plans(min_tissue=0))
def test_every_point_of_tissue_lies_in_a_patch(case: tuple[TissueMask, PatchPlan]) -> None:
    tissue, plan = case
    row, column = np.nonzero(tissue.mask)
    corners = np.array([(0.01, 0.01), (0.99, 0.01), (0.5, 0.5), (0.01, 0.99), (0.99, 0.99)])
    points = tissue.to_level0.points((np.stack([column, row], axis=1)[:, None] + corners).reshape(-1, 2))
    inside = (points[:, None] >= plan.level0_xy) & (points[:, None] <= plan.level0_xy + plan.patch_level0)
    assert inside.all(axis=2).any(axis=1).all()


@settings(deadline=None)
@given(plans())
def test_patches_start_at_whole_strides_and_no_error_accumulates(case: tuple[TissueMask, PatchPlan]) -> None:
    _, plan = case
    assert (plan.cell_xy % plan.stride_cells == 0).all()
    scale = plan.heatmap_to_level0
    exact = plan.cell_xy * np.array([scale.scale_x, scale.scale_y])
    assert (plan.level0_xy == exact).all()
    back = scale.inverse().points(plan.level0_xy)
    assert np.abs(back - plan.cell_xy).max() < 1e-6


@settings(deadline=None)
@given(plans())
def test_each_patch_is_planned_once_and_read_block_by_block(case: tuple[TissueMask, PatchPlan]) -> None:
    _, plan = case
    assert len({tuple(cell) for cell in plan.cell_xy.tolist()}) == len(plan) == len(plan.tissue_fraction)
    blocks = list(plan.blocks())
    assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(len(plan)))
    level = plan.level_to_level0.inverse()
    right, lowest = -1, -1
    for block in blocks:
        cells = plan.cell_xy[block]
        assert cells.tolist() == sorted(cells.tolist(), key=lambda xy: (xy[1], xy[0])), "row by row"
        assert cells[:, 0].min() > right or cells[:, 1].min() > lowest, "to the right, or in the next row"
        right, lowest = cells[:, 0].max(), max(lowest, cells[:, 1].max())
        first, last = plan.level0_xy[block].min(axis=0), plan.level0_xy[block].max(axis=0)
        extent = level.points(last + plan.patch_level0) - level.points(first)
        several = cells.max(axis=0) > cells.min(axis=0)
        assert (extent[several] <= BLOCK_PX * (1 + 1e-9)).all()


@settings(deadline=None)
@given(plans())
def test_the_heatmap_covers_the_whole_slide_with_no_cell_to_spare(
    case: tuple[TissueMask, PatchPlan],
) -> None:
    _, plan = case
    cell, size = plan.heatmap_to_level0, plan.heatmap_size
    for cells, scale, pixels in (
        (size.width, cell.scale_x, plan.slide_size.width),
        (size.height, cell.scale_y, plan.slide_size.height),
    ):
        assert cells * scale >= pixels * (1 - 1e-9)
        assert (cells - 1) * scale < pixels


@pytest.mark.parametrize(
    ("size_px", "overlap", "stride_cells", "effective"),
    [
        (224, 0.0, 7, 0.0),
        (224, 0.5, 3, 1 - 96 / 224),  # half a patch is 3.5 cells; the next smaller stride is 3
        (224, 6 / 7, 1, 6 / 7),
        (224, 0.99, 1, 6 / 7),
        (96, 0.5, 1, 2 / 3),
        (96, 2 / 3, 1, 2 / 3),
        (100, 0.0, 3, 1 - 96 / 100),  # the patch is no whole number of cells: no gap between patches
    ],
)
def test_the_stride_is_the_next_smaller_number_of_whole_cells(
    size_px: int, overlap: float, stride_cells: int, effective: float
) -> None:
    size = Size(2000, 1000)
    plan = plan_patches(full_mask(size), size, Mpp(1, 1), ONE_LEVEL, size_px, 1.0, overlap)
    assert plan.stride_cells == stride_cells
    assert plan.map_cells == math.ceil(size_px / 32)
    assert plan.requested_overlap == overlap
    assert plan.effective_overlap == pytest.approx(effective)


def test_the_last_patch_reaches_past_the_edge_and_is_judged_by_what_lies_inside() -> None:
    size = Size(224 * 3 + 1, 224)
    plan = plan_patches(full_mask(size), size, Mpp(0.5, 0.5), ONE_LEVEL, 224, 0.5, min_tissue=1 - 1e-6)
    assert plan.cell_xy.tolist() == [[0, 0], [7, 0], [14, 0], [21, 0]]
    assert plan.tissue_fraction == pytest.approx(1)


def test_whole_patches_that_fill_the_slide_get_no_neighbour_past_the_edge() -> None:
    mpp = 0.1 + 0.2  # not quite 0.3: 10 patches of 300 px then end a rounding before the edge
    size = Size(3000, 300)
    plan = plan_patches(full_mask(size), size, Mpp(mpp, mpp), ONE_LEVEL, 300, 0.3, cell_px=30)
    assert len(plan) == 10
    assert plan.heatmap_size == Size(100, 10)


def test_a_slide_smaller_than_a_patch_gets_one_patch() -> None:
    size = Size(50, 40)
    plan = plan_patches(full_mask(size), size, Mpp(0.5, 0.5), ONE_LEVEL, 96, 1.0)
    assert plan.cell_xy.tolist() == [[0, 0]]
    assert plan.heatmap_size == Size(1, 1)


def test_patches_are_as_wide_and_high_as_each_axis_spacing_says() -> None:
    size = Size(1000, 1000)
    plan = plan_patches(full_mask(size), size, Mpp(0.5, 0.25), ONE_LEVEL, 64, 1.0)
    assert plan.patch_level0 == (128, 256)
    assert plan.heatmap_to_level0 == Affine(64, 128)
    assert plan.resize_factors == (0.5, 0.25)


@pytest.mark.parametrize(
    ("downsamples", "slide_mpp", "model_mpp", "level"),
    [
        ([1, 4, 16], Mpp(0.25, 0.25), 1.0, 1),
        ([1, 4, 16], Mpp(0.25, 0.25), 0.99, 1),  # 1 % apart counts as the same
        ([1, 4, 16], Mpp(0.25, 0.25), 0.94, 0),
        ([1, 4, 16], Mpp(0.25, 0.25), 5.0, 2),
        ([1, 4, 16], Mpp(0.25, 0.3), 1.0, 0),  # 1.2 um along y is too coarse
        ([1, 4, 16], Mpp(1.2, 1.0), 1.0, 0),  # enlarged by a fifth
        ([1], Mpp(0.5, 0.5), 0.5, 0),
    ],
)
def test_the_coarsest_level_that_is_fine_enough_is_read(
    downsamples: list[float], slide_mpp: Mpp, model_mpp: float, level: int
) -> None:
    levels = [Affine[Level, Level0](d, d) for d in downsamples]
    assert choose_level(levels, slide_mpp, model_mpp) == level


def test_a_slide_too_coarse_for_the_model_is_refused_with_both_spacings() -> None:
    with pytest.raises(SpacingError, match=r"2 um.*0\.5 um"):
        choose_level(ONE_LEVEL, Mpp(2, 0.5), 0.5)


def test_patches_with_too_little_tissue_are_left_out() -> None:
    mask = np.zeros((10, 10))
    mask[:, :5] = 1
    mask[0, 9] = 1
    tissue = mask_of(mask, (32, 32))  # one patch of 32 px for each pixel of the mask
    plan = plan_patches(tissue, Size(320, 320), Mpp(1, 1), ONE_LEVEL, 64, 1.0, min_tissue=0.3)
    assert set(plan.tissue_fraction.tolist()) == {0.5, 1.0}
    assert len(plan) == 15


@pytest.mark.parametrize(("tissue_px", "patches"), [(111, 2), (109, 1)])
def test_by_default_an_edge_of_a_tenth_of_a_patch_is_kept(tissue_px: int, patches: int) -> None:
    mask = np.zeros((100, 200))
    mask[:, :tissue_px] = 1
    plan = plan_patches(mask_of(mask), Size(200, 100), Mpp(1, 1), ONE_LEVEL, 100, 1.0, cell_px=20)
    assert len(plan) == patches


@pytest.mark.parametrize(
    ("mask", "min_tissue", "reason"),
    [
        (np.zeros((4, 4)), 0.1, "empty"),
        (np.eye(8), 0.9, r"fullest patch holds 0\.1.*asks for 0\.9"),
    ],
)
def test_no_patch_is_an_error_that_says_why(mask: Any, min_tissue: float, reason: str) -> None:
    size = Size(256, 256)
    tissue = mask_of(mask, (256 / len(mask), 256 / len(mask)))
    with pytest.raises(TissueError, match=reason):
        plan_patches(tissue, size, Mpp(1, 1), ONE_LEVEL, 256, 1.0, min_tissue=min_tissue)


def test_tissue_outside_the_slide_is_named_as_such() -> None:
    tissue = TissueMask(np.ones((4, 4), bool), Affine(1, 1, 1000, 1000), "roi.geojson")
    with pytest.raises(TissueError, match=r"roi\.geojson.*outside the slide"):
        plan_patches(tissue, Size(256, 256), Mpp(1, 1), ONE_LEVEL, 64, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap": 1.0},
        {"overlap": -0.1},
        {"min_tissue": 1.5},
        {"min_tissue": math.nan},
        {"overlap": math.nan},
        {"size_px": 16},
        {"mpp_um": 0.0},
        {"mpp_um": math.inf},
    ],
)
def test_settings_that_make_no_plan_are_refused(wrong: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"size_px": 64, "mpp_um": 1.0} | wrong
    with pytest.raises(SettingsError):
        plan_patches(full_mask(Size(100, 100)), Size(100, 100), Mpp(1, 1), ONE_LEVEL, **settings)


def test_a_slide_of_320_000_px_is_planned_in_little_memory() -> None:
    side = 320_000
    tissue = mask_of(np.ones((4096, 4096)), (side / 4096, side / 4096))
    tracemalloc.start()
    try:
        plan = plan_patches(tissue, Size(side, side), Mpp(0.25, 0.25), ONE_LEVEL, 96, 0.972)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(plan) == math.ceil(side / plan.patch_level0[0]) ** 2 == 736_164
    assert peak < 200e6
