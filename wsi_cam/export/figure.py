"""The figure of a slide for a paper: slide, probability, evidence, overlay.

PNG, SVG and PDF of one drawing, without dates and random ids: equal input gives equal bytes. Letters of
SVG are paths, those of PDF an embedded font, so that both look the same everywhere.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from wsi_cam.export.colour_maps import ColourScale
from wsi_cam.export.legend import length_text, round_length
from wsi_cam.export.slide_view import PanelGrid, SlideView, heatmap_on_panel
from wsi_cam.heatmap.store import HeatmapStore
from wsi_cam.publishing import published

#: What stands beside the name of the figure.
SUFFIXES = (".png", ".svg", ".pdf")
#: A double column of most journals.
_WIDTH_INCHES = 7.0
_PNG_DPI = 300
_UNSEEN = (0.93, 0.93, 0.93)
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.linewidth": 0.5,
    "svg.hashsalt": "wsi_cam",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "path.simplify": False,
    "text.parse_math": False,  # a dollar in a class's name is a dollar
}
#: Without these each file would say when it was made.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": "wsi_cam"},
    ".svg": {"Date": None, "Creator": "wsi_cam"},
    ".pdf": {"CreationDate": None, "Creator": "wsi_cam", "Producer": None},
}


@dataclass(frozen=True, eq=False)
class FigureLayer:
    """One class of a store and the scale that colours it."""

    store: HeatmapStore
    class_name: str
    scale: ColourScale


def write_figure(
    path: Path, view: SlideView, probability: FigureLayer, evidence: FigureLayer
) -> tuple[Path, ...]:
    """Write ``path`` with each of ``.png``, ``.svg`` and ``.pdf`` in place of its suffix; gives all three.

    Four panels of one place and size, a to d: the slide with a scale bar, the probability and the
    evidence with their colour bars, the slide under the probability. Grey is where no patch was
    classified. Raises OutputError where a file cannot be written or a store cannot be read.
    """
    with matplotlib.rc_context(_STYLE):
        figure = _draw(view, probability, evidence)
        written = []
        for suffix in SUFFIXES:
            target = path.with_suffix(suffix)
            with published(target) as partial:
                figure.savefig(partial, format=suffix[1:], dpi=_PNG_DPI, metadata=_METADATA[suffix])
            written.append(target)
    return tuple(written)


def _draw(view: SlideView, probability: FigureLayer, evidence: FigureLayer) -> Figure:
    width_um, height_um = view.shown_um
    layout = _Layout.of(width_um / height_um)
    dots = _PNG_DPI * layout.panel_width, _PNG_DPI * layout.panel_height
    grid = view.panel(round(dots[0]), round(dots[1]))
    slide = view.pixels(grid)
    figure = Figure(figsize=(_WIDTH_INCHES, layout.height))
    FigureCanvasAgg(figure)
    panels = [figure.add_axes(layout.panel(index)) for index in range(4)]
    bars = [figure.add_axes(layout.bar(index)) for index in (1, 2)]
    seen = heatmap_on_panel(probability.store, probability.class_name, grid)
    _show(panels[0], "a", "slide", slide)
    _add_scale_bar(panels[0], grid, layout)
    _show_values(panels[1], bars[0], "b", probability, seen, layout)
    explained = heatmap_on_panel(evidence.store, evidence.class_name, grid)
    _show_values(panels[2], bars[1], "c", evidence, explained, layout)
    _show(panels[3], "d", "b over a", probability.scale.over(seen, slide))
    unseen = Patch(facecolor=_UNSEEN, edgecolor="0.4", linewidth=0.5, label="b, c: no patch classified here")
    panels[3].legend(
        handles=[unseen],
        loc="upper left",
        bbox_to_anchor=(0, -0.1 / layout.panel_height),
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.5,
        fontsize=6,
    )
    return figure


@dataclass(frozen=True)
class _Layout:
    """Where four panels stand, in inches: a title above each, room for a bar and its words beneath."""

    rows: int
    columns: int
    panel_width: float
    panel_height: float

    TITLE = 0.24
    FOOT = 0.66
    GAP = 0.12
    HIGHEST = 9.0
    NARROWEST_BAR = 1.2

    @classmethod
    def of(cls, aspect: float) -> _Layout:
        """For panels of width / height ``aspect``: the arrangement that comes nearest to 3 : 2."""

        def arranged(rows: int, columns: int) -> _Layout:
            width = (_WIDTH_INCHES - (columns + 1) * cls.GAP) / columns
            highest = cls.HIGHEST / rows - cls.TITLE - cls.FOOT
            # A strip of tissue is drawn narrower than its column rather than higher than a page.
            return cls(rows, columns, min(width, highest * aspect), min(width / aspect, highest))

        shapes = [arranged(1, 4), arranged(2, 2), arranged(4, 1)]
        return min(shapes, key=cls._preference)

    def _preference(self) -> tuple[float, float]:
        """How far from 3 : 2; of equals, the one with the larger panels."""
        distance = abs(math.log(_WIDTH_INCHES / self.height / 1.5))
        return round(distance, 3), -self.panel_width * self.panel_height

    @property
    def height(self) -> float:
        return self.rows * (self.TITLE + self.panel_height + self.FOOT)

    def panel(self, index: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel as fractions of the figure."""
        row, column = divmod(index, self.columns)
        left = self.GAP + column * (_WIDTH_INCHES - self.GAP) / self.columns
        bottom = self.height - (row + 1) * (self.TITLE + self.panel_height) - row * self.FOOT
        return self._fractions(left, bottom, self.panel_width, self.panel_height)

    def bar(self, index: int) -> tuple[float, float, float, float]:
        """The colour bar beneath a panel."""
        left, bottom, _, _ = self.panel(index)
        length = max(self.panel_width, self.NARROWEST_BAR)
        inset = 0.06 * length
        return self._fractions(
            left * _WIDTH_INCHES + inset, bottom * self.height - 0.18, length - 2 * inset, 0.09
        )

    @property
    def letters(self) -> int:
        """How many letters fit beneath a panel, at 6.5 points."""
        return int(18 * (_WIDTH_INCHES / self.columns - self.GAP))

    def _fractions(
        self, left: float, bottom: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        return left / _WIDTH_INCHES, bottom / self.height, width / _WIDTH_INCHES, height / self.height


def _show(panel: Axes, letter: str, title: str, picture: NDArray[np.uint8]) -> None:
    panel.imshow(picture, interpolation="nearest", aspect="auto")
    _name(panel, letter, title)


def _name(panel: Axes, letter: str, title: str) -> None:
    panel.set_title(letter, loc="left", fontweight="bold", fontsize=9, pad=3)
    panel.annotate(
        title, (0, 1), xytext=(11, 3.5), xycoords="axes fraction", textcoords="offset points", va="bottom"
    )
    panel.set_xticks([])
    panel.set_yticks([])


def _show_values(
    panel: Axes, bar: Axes, letter: str, layer: FigureLayer, values: NDArray[np.float32], layout: _Layout
) -> None:
    scale = layer.scale
    drawn = panel.imshow(
        np.ma.masked_invalid(values),
        cmap=matplotlib.colormaps[scale.colour_map].with_extremes(bad=_UNSEEN),
        norm=Normalize(scale.low, scale.high),
        interpolation="nearest",
        aspect="auto",
    )
    _name(panel, letter, scale.layer)
    legend = Colorbar(bar, drawn, orientation="horizontal", extend="both" if scale.open_ended else "neither")
    lines = textwrap.wrap(scale.title, layout.letters, max_lines=2, placeholder=" …")
    legend.set_label("\n".join(lines), labelpad=1, fontsize=6.5)
    legend.set_ticks([scale.low, (scale.low + scale.high) / 2, scale.high])
    legend.ax.tick_params(width=0.5, length=2, pad=1)
    legend.outline.set_linewidth(0.5)


def _add_scale_bar(panel: Axes, grid: PanelGrid, layout: _Layout) -> None:
    """A bar of a round length beneath the slide, where it hides nothing."""
    length_um = round_length(0.5 * grid.width * grid.um_per_px)
    length = length_um / grid.um_per_px / grid.width
    inch = 1 / layout.panel_height
    bar = Rectangle((0, -0.13 * inch), length, 0.03 * inch, transform=panel.transAxes, clip_on=False)
    bar.set(color="black", linewidth=0)
    panel.add_patch(bar)
    text = length_text(length_um)
    panel.text(length / 2, -0.17 * inch, text, transform=panel.transAxes, ha="center", va="top")
