"""Text in pictures: one typeface, sizes in pixels, lines that fit their width."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

INK = (32, 32, 36)
PALE_INK = (96, 96, 102)
PAPER = (255, 255, 255)

Font = ImageFont.FreeTypeFont


@cache
def font(size_px: int, bold: bool = False) -> Font:
    """DejaVu Sans, which comes with matplotlib and knows Greek, Cyrillic and accents."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(file), size_px, layout_engine=ImageFont.Layout.BASIC)


def text_width(text: str, typeface: Font) -> int:
    return round(typeface.getlength(text))


def line_height(typeface: Font) -> int:
    ascent, descent = typeface.getmetrics()
    return int(ascent + descent)


def shortened(text: str, typeface: Font, width: int) -> str:
    """``text``, or its beginning and end around an ellipsis where it is wider than ``width``."""
    if text_width(text, typeface) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        shorter = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
        if text_width(shorter, typeface) <= width:
            return shorter
    return "…"


def wrapped(text: str, typeface: Font, width: int) -> list[str]:
    """Lines of ``text`` no wider than ``width``; a word that is wider alone is shortened."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if text_width(longer, typeface) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        line = shortened(word, typeface, width)
    return [*lines, line] if line else lines


def paragraph(
    text: str, width: int, size_px: int, bold: bool = False, ink: tuple[int, int, int] = INK
) -> Image.Image:
    """A white strip of ``width`` with ``text`` wrapped into it, as high as its lines."""
    typeface = font(size_px, bold)
    lines = wrapped(text, typeface, width)
    step = round(line_height(typeface) * 1.12)
    strip = Image.new("RGB", (width, max(1, step * len(lines))), PAPER)
    draw = ImageDraw.Draw(strip)
    for index, line in enumerate(lines):
        draw.text((0, index * step), line, font=typeface, fill=ink)
    return strip
