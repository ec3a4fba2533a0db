"""What every reader does with what it is asked for, whatever stands behind it."""

from __future__ import annotations

from wsi_cam.errors import SlideError
from wsi_cam.slides.slide import LARGEST_REGION_BYTES, PixelBox, SlideInfo


def part_on_level(info: SlideInfo, level: int, box: PixelBox) -> PixelBox | None:
    """The part of a box that lies on the level; None where there is none.

    Raises SlideError where there is no such level or the box cannot be meant.
    """
    if not 0 <= level < len(info.levels):
        raise region_error(info, level, box, f"the slide has {len(info.levels)} levels")
    x, y, width, height = box
    if width < 0 or height < 0:
        raise region_error(info, level, box, "its size is negative")
    if width * height * 3 > LARGEST_REGION_BYTES:
        raise region_error(info, level, box, "it would need more than 1 GiB; read it in smaller parts")
    size = info.levels[level].size
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, size.width), min(y + height, size.height)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def require_associated_image(info: SlideInfo, name: str) -> None:
    """Raises SlideError, with the names of those there are, where the slide holds no image of that name."""
    if name not in info.associated_images:
        known = ", ".join(info.associated_images) or "none"
        raise SlideError(f"{info.path}: there is no associated image {name!r}; it holds: {known}")


def region_error(info: SlideInfo, level: int, box: PixelBox, cause: object) -> SlideError:
    """One line that names file, level, box and cause."""
    x, y, width, height = box
    cause = " ".join(str(cause).split())
    return SlideError(
        f"{info.path}: cannot read {width} x {height} px at ({x}, {y}) of level {level}: {cause}"
    )
