"""The picture of a slide and one layer of its heatmap, complete enough to be passed on alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_cam.export.colour_maps import ColourScale
from wsi_cam.export.legend import colour_bar, scale_bar, side_by_side, stacked, swatch, uncovered_pattern
from wsi_cam.export.lettering import INK, PALE_INK, PAPER, font, line_height, paragraph, shortened, text_width
from wsi_cam.export.slide_view import PanelGrid, SlideView, heatmap_on_panel
from wsi_cam.heatmap.store import HeatmapStore

_GAP = 20
_NARROWEST_SHEET = 640
_NARROWEST_PANEL = 130
_PANEL_TITLE_PX = 20


def overview(
    view: SlideView,
    store: HeatmapStore,
    class_name: str,
    scale: ColourScale,
    *,
    title: str,
    note: str = "",
    width: int = 1800,
) -> NDArray[np.uint8]:
    """Slide, heatmap and overlay of one class, with colour bar, scale bar and legend; RGB (h, w, 3).

    ``class_name`` is the channel of ``store`` to draw, ``scale`` its fixed range. The three panels
    stand side by side, or under each other where the slide is wide, within about ``width`` pixels and two
    thirds of it in height. ``title`` and ``note`` are free text above and below. Where no patch
    was seen, the heatmap is hatched and the overlay pale.
    """
    grid, in_a_row = _arrangement(view, width)
    slide = view.pixels(grid)
    values = heatmap_on_panel(store, class_name, grid)
    covered = np.isfinite(values)[..., None]
    heatmap = np.where(covered, scale.colours(values), uncovered_pattern(grid.height, grid.width))
    panels = [
        _titled("slide", slide),
        _titled(_that_fits(scale.title, scale.layer, grid.width), heatmap),
        _titled("overlay", scale.over(values, slide)),
    ]
    body = _joined(panels, in_a_row)
    sheet_width = max(body.width, min(_NARROWEST_SHEET, width))
    strips = [
        paragraph(title, sheet_width, 28, bold=True),
        body,
        _legend(scale, grid, sheet_width),
        paragraph(scale.meaning, sheet_width, 17),
    ]
    if note:
        strips.append(paragraph(note, sheet_width, 15, ink=PALE_INK))
    return np.asarray(stacked(strips))


def _arrangement(view: SlideView, width: int) -> tuple[PanelGrid, bool]:
    """The panel of whichever arrangement shows the slide larger; True for side by side."""
    height = round(width * 2 / 3)
    row = view.panel((width - 2 * _GAP) // 3, height)
    column = view.panel(width, height // 3)
    return (row, True) if row.um_per_px <= column.um_per_px else (column, False)


def _titled(title: str, pixels: NDArray[np.uint8]) -> Image.Image:
    """A panel with a frame and its title above."""
    panel = Image.fromarray(pixels)
    typeface = font(_PANEL_TITLE_PX)
    head = line_height(typeface) + 6
    width = max(panel.width + 2, _NARROWEST_PANEL)
    picture = Image.new("RGB", (width, head + panel.height + 2), PAPER)
    draw = ImageDraw.Draw(picture)
    left = (width - panel.width - 2) // 2
    text = shortened(title, typeface, width)
    centred = (width - text_width(text, typeface)) // 2
    draw.text((min(left, centred), 0), text, font=typeface, fill=INK)
    draw.rectangle((left, head, left + panel.width + 1, head + panel.height + 1), outline=PALE_INK)
    picture.paste(panel, (left + 1, head + 1))
    return picture


def _that_fits(long: str, short: str, width: int) -> str:
    return long if text_width(long, font(_PANEL_TITLE_PX)) <= max(width, _NARROWEST_PANEL) else short


def _joined(panels: list[Image.Image], in_a_row: bool) -> Image.Image:
    if not in_a_row:
        return stacked(panels, gap=_GAP, margin=0)
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    return side_by_side(panels, width, gap=_GAP)


def _legend(scale: ColourScale, grid: PanelGrid, width: int) -> Image.Image:
    uncovered = swatch(uncovered_pattern(22, 40), "not covered: no patch was classified here", width)
    bar = scale_bar(grid.um_per_px, min(200, max(40, grid.width)))
    return side_by_side([colour_bar(scale, min(360, width)), bar, uncovered], width)
