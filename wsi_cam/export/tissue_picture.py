"""What was taken for tissue and where patches were planned; or why there was nothing to plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from wsi_cam.export.legend import scale_bar, side_by_side, stacked, swatch
from wsi_cam.export.lettering import PALE_INK, PAPER, paragraph
from wsi_cam.export.slide_view import PanelGrid, SlideView
from wsi_cam.geometry import Mpp
from wsi_cam.tiling.patch_plan import PatchPlan
from wsi_cam.tiling.tissue import TissueMask

_OUTLINE = (0, 140, 60)
_PATCH = (25, 80, 210)
_WARNING = (176, 0, 32)
_NARROWEST_SHEET = 560
#: Patches that lie closer than this on the picture are shown as one area, or they would hide the tissue.
_TELLABLE_PX = 12.0


def tissue_picture(
    view: SlideView,
    mask: TissueMask | None,
    plan: PatchPlan | None,
    *,
    title: str,
    reason: str = "",
    width: int = 1400,
) -> NDArray[np.uint8]:
    """The slide with the tissue outlined and the patches drawn; RGB (h, w, 3), about ``width`` wide at most.

    ``mask`` and ``plan`` are None where the slide has none; ``reason`` then says why, in red above
    the picture.
    """
    grid = view.panel(width, width)
    picture = view.pixels(grid).copy()
    if plan is not None:
        picture = _with_patches(picture, plan, grid)
    if mask is not None:
        _outline(picture, mask, grid)
    panel = Image.new("RGB", (grid.width + 2, grid.height + 2), PALE_INK)
    panel.paste(Image.fromarray(picture), (1, 1))
    sheet_width = max(panel.width, _NARROWEST_SHEET)
    legend = [scale_bar(grid.um_per_px, min(200, max(40, grid.width)))]
    if mask is not None:
        legend.append(swatch(_sample(_OUTLINE), _mask_in_words(mask, view.mpp), sheet_width))
    if plan is not None:
        legend.append(swatch(_sample(_PATCH), _plan_in_words(plan), sheet_width))
    strips = [paragraph(title, sheet_width, 26, bold=True), panel, side_by_side(legend, sheet_width)]
    if reason:
        strips.insert(1, paragraph(reason, sheet_width, 19, ink=_WARNING))
    return np.asarray(stacked(strips))


def _mask_in_words(mask: TissueMask, mpp: Mpp) -> str:
    source = "found by its colour" if mask.source == "colour" else f"given by {Path(mask.source).name}"
    return f"tissue: {mask.area_mm2(mpp):.3g} mm², {source}"


def _plan_in_words(plan: PatchPlan) -> str:
    overlap = f", overlap {plan.effective_overlap:.0%}" if plan.effective_overlap > 0 else ""
    count = f"{len(plan):,}".replace(",", " ")
    noun = "patch" if len(plan) == 1 else "patches"
    return f"{count} {noun} of {plan.size_px} px at {plan.mpp_um:.4g} µm/px{overlap}"


def _with_patches(picture: NDArray[np.uint8], plan: PatchPlan, grid: PanelGrid) -> NDArray[np.uint8]:
    """Tints what patches cover, and draws their borders: of each where they can be told, else of all.

    ``picture`` is written over.
    """
    to_panel = grid.to_level0.inverse()
    first = to_panel.points(plan.level0_xy)
    last = to_panel.points(plan.level0_xy + np.array(plan.patch_level0))
    covered = _covered(first, last, picture.shape[:2])
    for channel, tint in enumerate(_PATCH):
        tinted = np.rint(0.8 * np.arange(256) + 0.2 * tint).astype(np.uint8)
        values = picture[..., channel]
        values[covered] = tinted[values[covered]]
    canvas = Image.fromarray(picture)
    stride_px = plan.stride_cells * plan.heatmap_to_level0.scale_x / grid.to_level0.scale_x
    if stride_px >= _TELLABLE_PX:
        draw = ImageDraw.Draw(canvas)
        for corners in np.rint(np.hstack([first, last])).astype(int).tolist():
            draw.rectangle(corners, outline=_PATCH)
        return np.array(canvas)
    result = np.array(canvas)
    result[covered & ~ndimage.binary_erosion(covered, np.ones((3, 3)))] = _PATCH
    return result


def _covered(
    first: NDArray[np.float64], last: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Pixels of ``shape`` inside any box from ``first`` to ``last`` (n, 2), by sums of corners."""
    height, width = shape
    x0, y0 = np.clip(np.floor(first), 0, [width, height]).astype(np.int64).T
    x1, y1 = np.clip(np.ceil(last), 0, [width, height]).astype(np.int64).T
    steps = np.zeros((height + 1, width + 1), np.int32)
    for y, x, sign in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
        np.add.at(steps, (y, x), sign)
    for axis in (0, 1):
        steps.cumsum(axis=axis, dtype=np.int32, out=steps)
    covered: NDArray[np.bool_] = steps[:height, :width] > 0
    return covered


def _outline(picture: NDArray[np.uint8], mask: TissueMask, grid: PanelGrid) -> None:
    """Draws the border of the tissue, two pixels wide, into ``picture``."""
    level0_x, level0_y = grid.centres()
    affine = mask.to_level0
    column = np.floor((level0_x - affine.offset_x) / affine.scale_x).astype(np.int64)
    row = np.floor((level0_y - affine.offset_y) / affine.scale_y).astype(np.int64)
    height, width = mask.mask.shape
    tissue = mask.mask[np.ix_(np.clip(row, 0, height - 1), np.clip(column, 0, width - 1))]
    border = tissue ^ ndimage.binary_erosion(tissue, np.ones((3, 3)), iterations=2, border_value=1)
    picture[border] = _OUTLINE


def _sample(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    pattern = np.full((22, 34, 3), PAPER, np.uint8)
    pattern[:] = np.rint(0.8 * pattern + 0.2 * np.array(colour)).astype(np.uint8)
    pattern[:3] = pattern[-3:] = colour
    pattern[:, :3] = pattern[:, -3:] = colour
    return pattern
