"""Numbers as text, whole columns at a time: exact, short, the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Places after the point that a level-0 coordinate keeps; a hundredth of a pixel is seen by nobody.
COORDINATE_DECIMALS = 2


def rounded(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates in pixels, rounded as they are exported; never -0.0."""
    result: NDArray[np.float64] = np.round(coordinates, COORDINATE_DECIMALS) + 0.0
    return result


def coordinate_texts(coordinates: NDArray[np.float64]) -> list[str]:
    """Each coordinate (n,) rounded to 0.01 px; an integer where it is one: ``512``, ``7.25``."""
    values = rounded(np.asarray(coordinates, dtype=np.float64))
    if np.array_equal(values, np.trunc(values)):
        return [str(value) for value in values.astype(np.int64).tolist()]
    return [str(int(value)) if value.is_integer() else repr(value) for value in values.tolist()]


def float_texts(values: NDArray[np.float32], missing: str = "") -> list[str]:
    """Each float32 of (n,) in the fewest digits that read back as the same float32.

    What is not finite becomes ``missing``. The texts are numbers in CSV and in JSON.
    """
    column = np.ascontiguousarray(values, dtype=np.float32)
    texts: list[str] = column.astype(np.str_).tolist()
    for index in np.flatnonzero(~np.isfinite(column)).tolist():
        texts[index] = missing
    return texts
