"""Colour bars, scale bars and swatches: what a picture needs so that it can be read alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_cam.export.colour_maps import ColourScale, colour_table
from wsi_cam.export.lettering import INK, PAPER, font, line_height, shortened, text_width

_TEXT_PX = 17
_BAR_HEIGHT = 18


def colour_bar(scale: ColourScale, width: int, grey: bool = False) -> Image.Image:
    """A horizontal bar of a scale with its numbers beneath and its title above."""
    typeface = font(_TEXT_PX)
    text = line_height(typeface)
    picture = Image.new("RGB", (width, text + 6 + _BAR_HEIGHT + 6 + text), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((0, 0), shortened(scale.title, typeface, width), font=typeface, fill=INK)
    steps = np.linspace(0, 255, width - 2).round().astype(np.uint8)
    ramp = np.repeat(steps[:, None], 3, axis=1) if grey else colour_table(scale.colour_map)[steps]
    top = text + 6
    draw.rectangle((0, top, width - 1, top + _BAR_HEIGHT - 1), outline=INK)
    picture.paste(Image.fromarray(np.tile(ramp, (_BAR_HEIGHT - 2, 1, 1))), (1, top + 1))
    ticks = _ticks(scale)
    for index, (value, label) in enumerate(ticks):
        x = round((value - scale.low) / (scale.high - scale.low) * (width - 1))
        draw.line((x, top + _BAR_HEIGHT, x, top + _BAR_HEIGHT + 4), fill=INK)
        length = text_width(label, typeface)
        left = 0 if index == 0 else width - length if index == len(ticks) - 1 else x - length // 2
        draw.text((left, top + _BAR_HEIGHT + 6), label, font=typeface, fill=INK)
    return picture


def _ticks(scale: ColourScale) -> list[tuple[float, str]]:
    middle = (scale.low + scale.high) / 2
    low, high = f"{scale.low:.3g}", f"{scale.high:.3g}"
    if scale.open_ended:
        low, high = f"≤ {low}", f"≥ {high}"
    return [(scale.low, low), (middle, f"{middle:.3g}"), (scale.high, high)]


def scale_bar(um_per_px: float, longest_px: int) -> Image.Image:
    """A bar of a round length, at most ``longest_px`` long, with the length written beneath."""
    length_um = round_length(longest_px * um_per_px)
    length_px = max(1, round(length_um / um_per_px))
    typeface, label = font(_TEXT_PX), length_text(length_um)
    width = max(length_px, text_width(label, typeface))
    picture = Image.new("RGB", (width, 10 + 6 + line_height(typeface)), PAPER)
    draw = ImageDraw.Draw(picture)
    left = (width - length_px) // 2
    right = left + length_px - 1
    draw.rectangle((left, 4, right, 6), fill=INK)
    for x in (left, right):
        draw.line((x, 0, x, 10), fill=INK)
    draw.text(((width - text_width(label, typeface)) // 2, 14), label, font=typeface, fill=INK)
    return picture


def length_text(length_um: float) -> str:
    """A length in the unit that pathologists, and the scale bars of viewers, use for it: um below 1 mm."""
    return f"{length_um:.10g} µm" if length_um < 1000 else f"{length_um / 1000:.10g} mm"


def round_length(longest: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above ``longest``."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def swatch(pattern: NDArray[np.uint8], label: str, longest_px: int) -> Image.Image:
    """A sample of a colour or pattern (h, w, 3) with a frame, and beside it what it means; both together
    at most ``longest_px`` long.
    """
    typeface = font(_TEXT_PX)
    label = shortened(label, typeface, longest_px - pattern.shape[1] - 10)
    sample = Image.fromarray(pattern)
    height = max(line_height(typeface), sample.height)
    picture = Image.new("RGB", (sample.width + 10 + text_width(label, typeface), height), PAPER)
    picture.paste(sample, (0, (height - sample.height) // 2))
    draw = ImageDraw.Draw(picture)
    top = (height - sample.height) // 2
    draw.rectangle((0, top, sample.width - 1, top + sample.height - 1), outline=INK)
    draw.text((sample.width + 10, (height - line_height(typeface)) // 2), label, font=typeface, fill=INK)
    return picture


def uncovered_pattern(height: int, width: int) -> NDArray[np.uint8]:
    """Light grey with diagonal lines (height, width, 3): no colour of any map, so no number."""
    y, x = np.mgrid[:height, :width]
    line = (x + y) % 9 < 1
    pattern = np.where(line, 205, 238).astype(np.uint8)
    return np.repeat(pattern[..., None], 3, axis=2)


def side_by_side(
    pictures: Sequence[Image.Image], width: int, gap: int = 36, row_gap: int = 14
) -> Image.Image:
    """Pictures from the left, aligned at their tops, on as many rows as a strip of ``width`` needs."""
    rows: list[list[Image.Image]] = [[]]
    used = 0
    for picture in pictures:
        if rows[-1] and used + gap + picture.width > width:
            rows.append([])
            used = 0
        used += picture.width + (gap if rows[-1] else 0)
        rows[-1].append(picture)
    heights = [max((p.height for p in row), default=1) for row in rows]
    strip = Image.new("RGB", (width, sum(heights) + row_gap * (len(rows) - 1)), PAPER)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for picture in row:
            strip.paste(picture, (x, y))
            x += picture.width + gap
        y += height + row_gap
    return strip


def stacked(strips: Sequence[Image.Image], gap: int = 14, margin: int = 24) -> Image.Image:
    """Strips under each other on white, centred, with a margin around."""
    width = max(strip.width for strip in strips)
    height = sum(strip.height for strip in strips) + gap * (len(strips) - 1)
    sheet = Image.new("RGB", (width + 2 * margin, height + 2 * margin), PAPER)
    y = margin
    for strip in strips:
        sheet.paste(strip, (margin + (width - strip.width) // 2, y))
        y += strip.height + gap
    return sheet
