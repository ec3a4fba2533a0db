"""What a slide is, whatever file it came from and whoever reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import SpacingError
from wsi_cam.geometry import Affine, Box, Level, Level0, Mpp, S, Size

#: Spacings outside of this range (um/px) are no spacings of a slide scanner but mistakes of a header.
PLAUSIBLE_MPP = (0.05, 20.0)

#: Bounds of what one call may ask for, so that an absurd header ends in an error and not in swap.
LARGEST_REGION_BYTES = 2**30
LARGEST_TILE_BYTES = 2**28

PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class LevelInfo:
    """One level of a slide's pyramid. ``tile_size``: its storage block, None where unknown."""

    size: Size
    to_level0: Affine[Level, Level0]
    tile_size: Size | None = None


@dataclass(frozen=True)
class SlideInfo:
    """Facts of a slide, known when it is opened.

    ``mpp`` is what the file claims, plausible or not (:func:`require_mpp` decides); ``mpp_source``
    says where it came from, "" where there is none. ``bounds`` is the scanned part of level 0 where
    the file states one.
    """

    path: Path
    reader: str
    vendor: str
    levels: tuple[LevelInfo, ...]
    mpp: Mpp | None = None
    mpp_source: str = ""
    bounds: Box[Level0] | None = None
    associated_images: tuple[str, ...] = ()
    has_icc_profile: bool = False
    objective_power: float | None = None
    series: int = 0

    @property
    def size(self) -> Size:
        """Of level 0."""
        return self.levels[0].size

    def level_for(self, to_level0: Affine[S, Level0]) -> int:
        """The coarsest level that is at least as fine as pixels of this transform; level 0 where none is."""
        fine = [
            number
            for number, level in enumerate(self.levels)
            if level.to_level0.scale_x <= to_level0.scale_x * 1.001
            and level.to_level0.scale_y <= to_level0.scale_y * 1.001
        ]
        return max(fine, key=lambda number: self.levels[number].to_level0.scale_x, default=0)

    def as_dict(self) -> dict[str, Any]:
        """The same facts as JSON takes them."""
        facts = asdict(self)
        return {**facts, "path": str(self.path), "levels": list(facts["levels"]), "size": asdict(self.size)}


class Slide(Protocol):
    """A slide that is open for reading, from any number of threads.

    It can be pickled; a copy in another process opens the file for itself at its first read.
    """

    @property
    def info(self) -> SlideInfo: ...

    def read_region(self, level: int, box: PixelBox) -> NDArray[np.uint8]:
        """RGB (height, width, 3) of a box (x, y, width, height) in whole pixels of ``level``.

        What lies outside of the slide, was never scanned or is transparent is white. Raises
        SlideError naming file, level, box and cause.
        """
        ...

    def read_associated_image(self, name: str) -> NDArray[np.uint8]:
        """RGB (height, width, 3) of one of ``info.associated_images``; raises SlideError."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def with_given_mpp(info: SlideInfo, mpp: Mpp | None) -> SlideInfo:
    """The same facts with the caller's spacing in place of the file's, if there is one."""
    return info if mpp is None else replace(info, mpp=mpp, mpp_source="given")


def require_mpp(info: SlideInfo) -> Mpp:
    """The spacing of level 0, or a SpacingError that says what to do where it is missing or implausible."""
    if info.mpp is None:
        raise SpacingError(
            f"{info.path}: the file does not say its pixel spacing; give it with --mpp (um/px of level 0)"
        )
    if not (is_plausible(info.mpp.x) and is_plausible(info.mpp.y)):
        raise SpacingError(
            f"{info.path}: a spacing of {info.mpp.x:g} x {info.mpp.y:g} um/px (from {info.mpp_source}) is "
            "implausible; give the right one with --mpp (um/px of level 0)"
        )
    return info.mpp


def plausible_mpp(x: float | None, y: float | None) -> Mpp | None:
    """Both as a spacing in um/px where they can be one; one stands for both where the other is missing."""
    x, y = (y if x is None else x), (x if y is None else y)
    return Mpp(x, y) if x and y and is_plausible(x) and is_plausible(y) else None


def is_plausible(um_per_px: float) -> bool:
    """Whether a scanner may have made pixels of this size; see :data:`PLAUSIBLE_MPP`."""
    return PLAUSIBLE_MPP[0] <= um_per_px <= PLAUSIBLE_MPP[1]
