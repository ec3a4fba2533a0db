"""One patch and why: the patch, its Grad-CAM in grey, and both over each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_cam.export.colour_maps import ColourScale, evidence_scale
from wsi_cam.export.legend import colour_bar, side_by_side, stacked
from wsi_cam.export.lettering import INK, PALE_INK, PAPER, font, line_height, paragraph
from wsi_cam.export.slide_view import interpolated

_PANEL_PX = 336
_GAP = 16


def triptych(
    image: NDArray[np.uint8],
    evidence: NDArray[np.float32],
    scale: float,
    *,
    class_name: str,
    probability: float | None = None,
    cell_px: int | None = None,
    place: str = "",
) -> NDArray[np.uint8]:
    """Patch, grey Grad-CAM and overlay side by side, with labels and colour bars; RGB (height, width, 3).

    ``image`` is the patch as the model saw it, RGB (s, s, 3); ``evidence`` its signed map (h, w) in logits,
    whose cell i spans ``cell_px`` image pixels from ``i * cell_px`` (the last may reach past the patch; by
    default the map covers the patch exactly). Black to white and the colours stand for 0 to ``scale``
    logits, a property of the model and class. ``probability`` (0 to 1) and ``place`` are written above.
    Raises ValueError for arrays of other shapes.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or evidence.ndim != 2:
        raise ValueError(
            f"a patch (s, s, 3) of uint8 and a map (h, w) are wanted: {image.shape}, {evidence.shape}"
        )
    colours = evidence_scale(class_name, scale)
    titles = ("patch", "Grad-CAM", "overlay")
    pixels = patch_panels(image, evidence, colours, cell_px)
    panels = [_titled(title, panel) for title, panel in zip(titles, pixels, strict=True)]
    body = side_by_side(panels, 3 * panels[0].width + 2 * _GAP, gap=_GAP)
    heading = class_name if probability is None else f"{class_name}: probability {probability:.3f}"
    bar_width = (body.width - _GAP) // 2
    bars = [colour_bar(colours, bar_width, grey=True), colour_bar(colours, bar_width)]
    strips = [paragraph(heading, body.width, 22, bold=True), body, side_by_side(bars, body.width, gap=_GAP)]
    if place:
        strips.insert(1, paragraph(place, body.width, 15, ink=PALE_INK))
    return np.asarray(stacked(strips, gap=10, margin=16))


def patch_panels(
    image: NDArray[np.uint8], evidence: NDArray[np.float32], scale: ColourScale, cell_px: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """The three panels of a triptych without its words, each RGB (height, width, 3): patch, grey, overlay."""
    height, width = (max(1, round(_PANEL_PX * side / max(image.shape[:2]))) for side in image.shape[:2])
    patch = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    values = _on_patch(evidence, image.shape[:2], (height, width), cell_px)
    grey = np.rint(scale.fractions(np.nan_to_num(values)) * 255).astype(np.uint8)
    return patch, np.repeat(grey[..., None], 3, axis=2), scale.over(values, patch)


def _on_patch(
    evidence: NDArray[np.float32],
    image_shape: tuple[int, ...],
    panel_shape: tuple[int, int],
    cell_px: int | None,
) -> NDArray[np.float32]:
    """The map at the pixel centres of a panel that shows the whole patch."""
    positions = []
    for cells, image_px, panel_px in zip(evidence.shape, image_shape, panel_shape, strict=True):
        cell = cell_px or image_px / cells
        positions.append((np.arange(panel_px, dtype=np.float64) + 0.5) * image_px / panel_px / cell)
    return interpolated(evidence, x=positions[1], y=positions[0])


def _titled(title: str, pixels: NDArray[np.uint8]) -> Image.Image:
    typeface = font(17)
    head = line_height(typeface) + 4
    picture = Image.new("RGB", (pixels.shape[1] + 2, head + pixels.shape[0] + 2), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((0, 0), title, font=typeface, fill=INK)
    draw.rectangle((0, head, picture.width - 1, picture.height - 1), outline=PALE_INK)
    picture.paste(Image.fromarray(pixels), (1, head + 1))
    return picture
