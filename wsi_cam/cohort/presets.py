"""What sizes of foci are called in a field. A new field is one more line in ``PRESETS``.

The names describe what the model marked, measured on its heatmap; they are no diagnosis and no stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Of a focus that is too short for the run to tell which of two classes it belongs to.
BELOW_RESOLUTION = "below resolution"


@dataclass(frozen=True)
class SizeClass:
    """A name for foci whose longest diameter is above the class before and at most ``up_to_mm``."""

    name: str
    up_to_mm: float = math.inf


@dataclass(frozen=True)
class Preset:
    """How foci are named by their longest diameter."""

    name: str
    size_classes: tuple[SizeClass, ...]
    """From the smallest to the largest; the last one has no end."""
    source: str
    """Where the limits come from."""

    def __str__(self) -> str:
        """The classes and their limits in words."""
        named = [
            f"{each.name} up to {each.up_to_mm:g} mm"
            if math.isfinite(each.up_to_mm)
            else f"{each.name} above"
            for each in self.size_classes
        ]
        return f"{self.name}: {', '.join(named)}"

    def size_class(self, longest_diameter_mm: float, resolution_mm: float) -> str:
        """The class of a focus; ``""`` for a diameter of 0, which is no focus.

        ``resolution_mm`` is the diagonal of the square that one patch can mark. A focus no longer than
        that may be the mark of a single patch, and what made it may be of any size below. Where
        the smallest class ends before that, the focus is :data:`BELOW_RESOLUTION`.
        """
        if longest_diameter_mm <= 0:
            return ""
        one_patch_mm = resolution_mm * (1 + 1e-6)  # lengths are differences of coordinates
        if self.size_classes[0].up_to_mm < resolution_mm and longest_diameter_mm <= one_patch_mm:
            return BELOW_RESOLUTION
        return next(each.name for each in self.size_classes if longest_diameter_mm <= each.up_to_mm)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "lymph-node",
            (
                SizeClass("isolated tumour cells", 0.2),
                SizeClass("micrometastasis", 2.0),
                SizeClass("macrometastasis"),
            ),
            "sizes of breast cancer's metastases in lymph nodes: AJCC Cancer Staging Manual, 8th ed. (2017), "
            "as used by CAMELYON17 (P. Bándi et al., IEEE Trans. Med. Imaging 38:550, 2019); "
            "the count of cells, by which isolated tumour cells are also told, is not looked at",
        ),
    )
}
