"""Where the pixels of a lower level lie on level 0."""

from __future__ import annotations

from collections.abc import Sequence

from wsi_cam.geometry import Affine, Level, Level0, Size


def level_maps(sizes: Sequence[Size]) -> list[Affine[Level, Level0]]:
    """One transform per level, from sizes alone, level 0 first.

    A level of 375 px under one of 1503 px was made with a factor of 4 and lost its last three pixels;
    1503 / 375 = 4.008 would drift by 3 px over the slide. So the whole factor that explains both axes
    is taken where there is one (powers of two first, then the nearest to the ratio); otherwise one for
    each axis, otherwise the exact ratio of each axis.
    """
    return [_level_map(sizes[0], size) for size in sizes]


def _level_map(full: Size, size: Size) -> Affine[Level, Level0]:
    by_width = _whole_factors(full.width, size.width)
    by_height = _whole_factors(full.height, size.height)
    ratio_x, ratio_y = full.width / size.width, full.height / size.height
    common = _choose(by_width & by_height, (ratio_x + ratio_y) / 2)
    if common is not None:
        return Affine(float(common), float(common))
    factor_x, factor_y = _choose(by_width, ratio_x), _choose(by_height, ratio_y)
    if factor_x is not None and factor_y is not None:
        return Affine(float(factor_x), float(factor_y))
    return Affine(ratio_x, ratio_y)


def _whole_factors(full: int, part: int) -> set[int]:
    """Whole numbers r for which ``part`` is full / r, rounded down or up."""
    lowest, highest = full // (part + 1), full // max(part - 1, 1) + 1
    # Tiny levels fit many factors; the far ones are of no use.
    lowest, highest = max(1, lowest), min(highest, 2 * full // part + 1)
    return {r for r in range(lowest, highest + 1) if full // r == part or -(-full // r) == part}


def _choose(factors: set[int], ratio: float) -> int | None:
    """A power of two before any other, then the nearest to the ratio."""
    return min(factors, key=lambda r: (r & (r - 1) != 0, abs(r - ratio)), default=None)
