"""Frames and units: where a number lies, said in its type.

Coordinates are pixel corners: pixel i of a frame spans i to i + 1, its centre lies at i + 0.5. A
frame is a type parameter, so that mypy refuses a heatmap box where a level-0 box is wanted;
one axis-aligned float affine leads from any frame to any other, and nothing here
divides image sizes to guess a scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray


class Frame:
    """A coordinate system. Subclasses are markers for the type checker and never instantiated."""


class Level0(Frame):
    """Pixels of the slide at full resolution; the frame in which everything is exported."""


class Level(Frame):
    """Pixels of one level of the slide's pyramid."""


class Thumbnail(Frame):
    """Pixels of the small picture on which tissue is found; a tissue mask lives here too."""


class Patch(Frame):
    """Model pixels of one patch: 0 to the model's input size."""


class Heatmap(Frame):
    """Pixels of the heatmap at its finest resolution (level 0 of its own pyramid)."""


F = TypeVar("F", bound=Frame)
S = TypeVar("S", bound=Frame)
T = TypeVar("T", bound=Frame)
U = TypeVar("U", bound=Frame)


@dataclass(frozen=True)
class Size:
    """Width and height in whole pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Mpp:
    """Pixel spacing in um per pixel, of each axis."""

    x: float
    y: float


@dataclass(frozen=True)
class Point(Generic[F]):
    x: float
    y: float


@dataclass(frozen=True)
class Box(Generic[F]):
    """A rectangle: its upper left corner and its extent."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def intersection(self, other: Box[F]) -> Box[F]:
        """What both cover; width or height is 0 where they do not meet."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Box(x, y, max(0.0, right - x), max(0.0, bottom - y))


@dataclass(frozen=True)
class Affine(Generic[S, T]):
    """Maps frame S to frame T: ``t = scale * s + offset``, axis by axis.

    Scales must be positive and finite: no frame here is mirrored or turned.
    """

    scale_x: float
    scale_y: float
    offset_x: float = 0.0
    offset_y: float = 0.0

    def __post_init__(self) -> None:
        scales = (self.scale_x, self.scale_y)
        # math, not numpy: this runs for every tile and patch, and an array of four costs ten times as much.
        if not (all(map(math.isfinite, (*scales, self.offset_x, self.offset_y))) and min(scales) > 0):
            raise ValueError(f"not a usable transform between frames: {self}")

    def point(self, p: Point[S]) -> Point[T]:
        return Point(self.scale_x * p.x + self.offset_x, self.scale_y * p.y + self.offset_y)

    def box(self, b: Box[S]) -> Box[T]:
        corner = self.point(Point(b.x, b.y))
        return Box(corner.x, corner.y, self.scale_x * b.width, self.scale_y * b.height)

    def points(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps an array (..., 2) of x, y."""
        scaled: NDArray[np.float64] = xy * [self.scale_x, self.scale_y] + [self.offset_x, self.offset_y]
        return scaled

    def inverse(self) -> Affine[T, S]:
        return Affine(
            1 / self.scale_x,
            1 / self.scale_y,
            -self.offset_x / self.scale_x,
            -self.offset_y / self.scale_y,
        )

    def then(self, after: Affine[T, U]) -> Affine[S, U]:
        """First this transform, then ``after``."""
        return Affine(
            after.scale_x * self.scale_x,
            after.scale_y * self.scale_y,
            after.scale_x * self.offset_x + after.offset_x,
            after.scale_y * self.offset_y + after.offset_y,
        )
