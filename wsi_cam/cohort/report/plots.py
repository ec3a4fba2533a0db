"""Two drawings of a cohort as plain numbers: where bars and dots lie, for the template to draw as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wsi_cam.cohort.gathering import Cohort, SlideSummary
from wsi_cam.cohort.labels import is_positive
from wsi_cam.errors import SettingsError

BINS = 20
#: Size of the drawing area in the SVG's units; axes and words lie around it.
WIDTH, HEIGHT = 420, 170


@dataclass(frozen=True)
class Bar:
    """A part of a histogram's column: how many slides of one kind, drawn on top of the kinds before."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    """``positive`` or ``negative`` by the label, ``unknown`` without one."""
    says: str


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    kind: str
    sample_id: str
    says: str


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Plots:
    """Slide scores as a histogram; area against score with a dot per slide."""

    bars: tuple[Bar, ...]
    count_ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    area_ticks: tuple[Tick, ...]
    score_ticks: tuple[Tick, ...]
    threshold_x: float
    kinds: tuple[str, ...]
    width: int = WIDTH
    height: int = HEIGHT


def draw(cohort: Cohort) -> Plots | None:
    """None where no slide has a score."""
    slides = cohort.measured
    if not slides:
        return None
    bars, highest = _histogram(slides)
    dots, area_ticks = _areas(slides)
    kinds = [kind for kind in ("positive", "negative", "unknown") if any(bar.kind == kind for bar in bars)]
    return Plots(
        bars,
        tuple(Tick(HEIGHT * (1 - n / highest), str(n)) for n in (0, highest // 2, highest) if n or highest),
        dots,
        area_ticks,
        tuple(Tick(WIDTH * tenths / 10, f"{tenths / 10:g}") for tenths in range(0, 11, 2)),
        WIDTH * cohort.score_threshold,
        tuple(kinds),
    )


def kind_of(slide: SlideSummary) -> str:
    """What the label says of the target class."""
    if not slide.label:
        return "unknown"
    others = slide.numbers.classes if slide.numbers else ()
    try:
        return "positive" if is_positive(slide.label, slide.target_class, others) else "negative"
    except SettingsError:
        return "unknown"  # a label of another kind, such as a grade


def _histogram(slides: list[SlideSummary]) -> tuple[tuple[Bar, ...], int]:
    """Stacked bars, and what the axis of counts ends with: an even number, at least 2."""
    counts: dict[tuple[int, str], int] = {}
    for slide in slides:
        key = (min(int((slide.score or 0.0) * BINS), BINS - 1), kind_of(slide))
        counts[key] = counts.get(key, 0) + 1
    totals = [sum(count for (column, _), count in counts.items() if column == each) for each in range(BINS)]
    highest = max(2, max(totals) + max(totals) % 2)
    bars, filled = [], [0] * BINS
    for column, kind in sorted(
        counts, key=lambda key: (key[0], ("positive", "negative", "unknown").index(key[1]))
    ):
        count = counts[column, kind]
        filled[column] += count
        says = f"score {column / BINS:.2f} to {(column + 1) / BINS:.2f}: {count}"
        left, step = WIDTH * column / BINS, WIDTH / BINS
        y, height = HEIGHT * (1 - filled[column] / highest), HEIGHT * count / highest
        bars.append(Bar(left + 1, y, step - 2, height, kind, says if kind == "unknown" else f"{says} {kind}"))
    return tuple(bars), highest


def _areas(slides: list[SlideSummary]) -> tuple[tuple[Dot, ...], tuple[Tick, ...]]:
    """Area on a logarithmic axis of whole decades; slides without any lie on a line of their own below."""
    areas = [slide.target.area_mm2 for slide in slides if slide.target]
    positive = [area for area in areas if area > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    foot = 24.0

    def y_of(area: float) -> float:
        if area <= 0:
            return HEIGHT - 6.0
        return (HEIGHT - foot) * (1 - (math.log10(area) - low) / (high - low))

    dots = tuple(
        Dot(WIDTH * (slide.score or 0.0), y_of(area), kind_of(slide), slide.sample_id,
            f"{slide.sample_id}: score {slide.score or 0.0:.3f}, {area:.3g} mm²")
        for slide, area in zip(slides, areas, strict=True)
    )  # fmt: skip
    ticks = [Tick(y_of(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)]
    return dots, (*ticks, Tick(HEIGHT - 6.0, "0"))
