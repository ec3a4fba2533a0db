"""Foci are named by their longest diameter, and not where a run cannot tell."""

from __future__ import annotations

import math

import pytest

from wsi_cam.cohort.presets import BELOW_RESOLUTION, PRESETS

LYMPH_NODE = PRESETS["lymph-node"]


@pytest.mark.parametrize(
    ("diameter_mm", "name"),
    [
        (0.0, ""),
        (0.044, "isolated tumour cells"),
        (0.2, "isolated tumour cells"),
        (0.2001, "micrometastasis"),
        (2.0, "micrometastasis"),
        (2.001, "macrometastasis"),
        (31.0, "macrometastasis"),
    ],
)
def test_limits_belong_to_the_smaller_class(diameter_mm: float, name: str) -> None:
    assert LYMPH_NODE.size_class(diameter_mm, resolution_mm=0.132) == name


def test_a_mark_of_one_patch_that_is_larger_than_the_smallest_class_is_below_resolution() -> None:
    resolution = math.sqrt(2) * 0.224
    assert LYMPH_NODE.size_class(resolution + 1e-12, resolution) == BELOW_RESOLUTION
    assert LYMPH_NODE.size_class(0.3, resolution) == BELOW_RESOLUTION
    assert LYMPH_NODE.size_class(0.1, resolution) == BELOW_RESOLUTION
    assert LYMPH_NODE.size_class(0.4, resolution) == "micrometastasis"


def test_where_one_patch_fits_into_the_smallest_class_nothing_is_below_resolution() -> None:
    assert LYMPH_NODE.size_class(0.05, resolution_mm=0.2) == "isolated tumour cells"


@pytest.mark.parametrize("preset", PRESETS.values())
def test_every_preset_covers_every_length_and_cites_its_source(preset: object) -> None:
    limits = [each.up_to_mm for each in preset.size_classes]  # type: ignore[attr-defined]
    assert limits == sorted(limits)
    assert limits[-1] == math.inf
    assert preset.source  # type: ignore[attr-defined]
