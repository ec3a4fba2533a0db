"""Points of a probability map: those that MONAI picks, and what the definition demands of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.export.make_heatmaps import heatmap
from wsi_cam.evaluation.detections import find_detections, suppress
from wsi_cam.geometry import Affine, Mpp


def points(
    probability: NDArray[np.float32], least: float, reach: tuple[int, int]
) -> list[tuple[float, int, int]]:
    """(probability, row, column) of what stays."""
    row, column = np.nonzero(probability > least)
    values = probability[row, column]
    kept = suppress(row, column, values, reach, probability.shape)  # type: ignore[arg-type]
    return [(float(values[i]), int(row[i]), int(column[i])) for i in kept]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), reach=st.integers(0, 6), digits=st.integers(1, 6))
def test_points_are_those_of_monai(seed: int, reach: int, digits: int) -> None:
    monai = pytest.importorskip("monai.transforms.post.array", reason="MONAI is a development dependency")
    random = np.random.default_rng(seed)
    # Few digits make ties, of which the upper left one counts.
    probability = np.round(random.random((17, 23)), digits).astype(np.float32)
    theirs = monai.ProbNMS(prob_threshold=0.5, box_size=2 * reach + 1)(probability.copy())
    assert points(probability, 0.5, (reach, reach)) == [(float(p), int(y), int(x)) for p, y, x in theirs]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    reach=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    least=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)
def test_what_stays_is_apart_and_what_goes_has_a_better_one_near(
    seed: int, reach: tuple[int, int], least: float
) -> None:
    probability = np.random.default_rng(seed).random((12, 15)).astype(np.float32)
    kept = points(probability, least, reach)
    assert [p for p, _, _ in kept] == sorted((p for p, _, _ in kept), reverse=True)

    def near(y: int, x: int, other: tuple[float, int, int]) -> bool:
        return abs(y - other[1]) <= reach[0] and abs(x - other[2]) <= reach[1]

    for number, (_, y, x) in enumerate(kept):
        assert not any(near(y, x, other) for other in kept[number + 1 :])
    for y, x in np.argwhere(probability > least).tolist():
        assert any(near(y, x, other) and other[0] >= probability[y, x] for other in kept)


def test_points_lie_at_pixel_centres_in_level_0_and_windows_are_um(tmp_path: Path) -> None:
    values = np.full((2, 300, 40), np.nan, np.float32)
    values[1, 10:290, 5:35] = 0.2
    values[1, 20, 10], values[1, 20, 12], values[1, 20, 14] = 0.9, 0.8, 0.7
    values[1, 280, 30] = 0.6  # in another band of chunks
    values[0] = 1 - values[1]
    # Pixels of 64 x 32 level-0 px at 0.5 x 1.0 um: 32 um both ways.
    store = heatmap(tmp_path / "probability.ome.zarr", values, Affine(64, 32), Mpp(0.5, 1.0))
    found = find_detections(store, 1, window_um=70)
    np.testing.assert_allclose(found.probability, [0.9, 0.7, 0.6], rtol=1e-6)
    expected = [(10.5 * 64, 20.5 * 32), (14.5 * 64, 20.5 * 32), (30.5 * 64, 280.5 * 32)]
    np.testing.assert_allclose(found.level0_xy, expected)
    assert len(find_detections(store, 1, window_um=150).probability) == 2
    assert len(find_detections(store, 1, least=0.95).level0_xy) == 0
