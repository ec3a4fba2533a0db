"""Small pictures for the report, made of the pictures that a run left: the slides are not opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.cohort.gathering import SlideSummary
from wsi_cam.export.colour_maps import probability_scale
from wsi_cam.export.jpeg import jpeg_bytes
from wsi_cam.export.legend import uncovered_pattern
from wsi_cam.export.lettering import PALE_INK, PAPER
from wsi_cam.heatmap.store import HeatmapStore, open_heatmap
from wsi_cam.run_folder import RunFolder

#: Largest width and height of one panel; a screen shows them at half of that, sharp on a fine one too.
PANEL_PX = (208, 152)
_GAP_PX = 8
_SMALLEST_FRAME_PX = 16

Pixels = NDArray[np.uint8]
#: Left, upper, right and lower pixel of a picture's part, the last two not in it.
Part = tuple[int, int, int, int]


def thumbnail(run: RunFolder, slide: SlideSummary) -> bytes | None:
    """A JPEG of a slide: tissue and overlay side by side, of a failed slide what was taken for tissue.

    Made of ``overview.png``, or of the heatmap alone where there is none. None where nothing is there or it
    cannot be read: a report does not fail for a picture.
    """
    files = run.slide(slide.sample_id)
    try:
        if slide.numbers is None:
            return _jpeg([Image.open(run.failed_tissue_png(slide.sample_id)).convert("RGB")])
        if files.overview_png.is_file():
            return _jpeg(_slide_and_overlay(files.overview_png))
        return _jpeg([_heatmap_picture(open_heatmap(files.probability_zarr), slide.target_class)])
    except (OSError, ValueError):
        return None


def framed_parts(pixels: Pixels) -> list[Part]:
    """The insides of the frames that :func:`wsi_cam.export.overview.overview` draws, in reading order."""
    ink: NDArray[np.bool_] = (pixels == np.array(PALE_INK, np.uint8)).all(axis=-1)
    found: list[Part] = []
    for row in np.flatnonzero(ink.sum(axis=1) >= _SMALLEST_FRAME_PX).tolist():
        if any(top <= row < bottom + 1 for _, top, _, bottom in found):
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], ink[row].view(np.int8), [0]])))
        for left, right in edges.reshape(-1, 2).tolist():
            # Down the left side; what is framed has a right side and a lower edge too.
            down = ink[row:, left]
            bottom = row + (len(down) if down.all() else int(np.argmin(down)))
            closed = ink[row:bottom, right - 1].all() and ink[bottom - 1, left:right].all()
            if closed and min(right - left, bottom - row) >= _SMALLEST_FRAME_PX:
                found.append((left + 1, row + 1, right - 1, bottom - 1))
    return found


def _slide_and_overlay(path: Path) -> list[Image.Image]:
    """First and last panel of an overview; all of it where its panels cannot be made out."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    parts = framed_parts(np.asarray(picture))
    return [picture.crop(parts[0]), picture.crop(parts[-1])] if len(parts) == 3 else [picture]


def _heatmap_picture(store: HeatmapStore, class_name: str) -> Image.Image:
    """The coarsest level that fills a panel, hatched where nothing was seen."""
    fitting = [k for k, size in enumerate(store.levels) if max(size.width, size.height) >= max(PANEL_PX)]
    values = store.read(fitting[-1] if fitting else 0, channels=[store.channel_index(class_name)])[0]
    colours = probability_scale(class_name).colours(values)
    height, width = values.shape
    scale = max(1, max(PANEL_PX) // max(width, height))
    seen = np.kron(np.isfinite(values), np.ones((scale, scale), np.bool_))[..., None]
    enlarged = np.asarray(
        Image.fromarray(colours).resize((width * scale, height * scale), Image.Resampling.NEAREST)
    )
    return Image.fromarray(np.where(seen, enlarged, uncovered_pattern(height * scale, width * scale)))


def _jpeg(panels: list[Image.Image]) -> bytes:
    """Panels side by side on white, none larger than its place and none enlarged."""
    for panel in panels:
        panel.thumbnail(PANEL_PX, Image.Resampling.LANCZOS, reducing_gap=3.0)
    sheet = Image.new(
        "RGB",
        (sum(panel.width for panel in panels) + _GAP_PX * (len(panels) - 1), max(p.height for p in panels)),
        PAPER,
    )
    x = 0
    for panel in panels:
        sheet.paste(panel, (x, (sheet.height - panel.height) // 2))
        x += panel.width + _GAP_PX
    return jpeg_bytes(np.asarray(sheet))
