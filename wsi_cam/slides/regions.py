"""What every reader does with the box it is asked for, whatever stands behind it."""

from __future__ import annotations

from wsi_cam.errors import SlideError
from wsi_cam.geometry import Size
from wsi_cam.slides.slide import LARGEST_REGION_BYTES, PixelBox, SlideInfo


def check_region(info: SlideInfo, level: int, box: PixelBox) -> Size:
    """The size of the level; SlideError where there is no such level or the box cannot be meant."""
    if not 0 <= level < len(info.levels):
        raise region_error(info, level, box, f"the slide has {len(info.levels)} levels")
    width, height = box[2:]
    if width < 0 or height < 0:
        raise region_error(info, level, box, "its size is negative")
    if width * height * 3 > LARGEST_REGION_BYTES:
        raise region_error(info, level, box, "it would need more than 1 GiB; read it in smaller parts")
    return info.levels[level].size


def inside(box: PixelBox, size: Size) -> PixelBox | None:
    """The part of a box that lies on an image of this size; None where there is none."""
    x, y, width, height = box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, size.width), min(y + height, size.height)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def region_error(info: SlideInfo, level: int, box: PixelBox, cause: object) -> SlideError:
    """One line that names file, level, box and cause."""
    x, y, width, height = box
    cause = " ".join(str(cause).split())
    return SlideError(
        f"{info.path}: cannot read {width} x {height} px at ({x}, {y}) of level {level}: {cause}"
    )
