from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_cam.heatmap.blending import window


def test_without_overlap_all_cells_count_the_same() -> None:
    assert (window(7, 7) == 1).all()
    assert (window(3, 5) == 1).all()


@given(map_cells=st.integers(2, 20), data=st.data())
def test_with_overlap_the_middle_counts_most_and_no_cell_counts_nothing(
    map_cells: int, data: st.DataObject
) -> None:
    weights = window(map_cells, data.draw(st.integers(1, map_cells - 1)))
    middle = weights[map_cells // 2, map_cells // 2]
    assert weights.shape == (map_cells, map_cells)
    assert (weights > 0).all()
    assert np.isclose(weights.max(), middle)
    assert weights.max() <= 1


def test_the_window_is_the_same_from_all_sides() -> None:
    weights = window(7, 3)
    np.testing.assert_allclose(weights, weights.T)
    np.testing.assert_allclose(weights, weights[::-1, ::-1])


def test_a_raised_cosine_at_half_overlap_adds_up_to_the_same_everywhere() -> None:
    profile = window(8, 4)[4] / window(8, 4)[4].max()
    np.testing.assert_allclose(profile[:4] + profile[4:], profile[0] + profile[4])


@pytest.mark.parametrize(("map_cells", "stride_cells"), [(0, 1), (3, 0), (-1, -1)])
def test_nothing_smaller_than_a_cell_is_a_map_or_a_stride(map_cells: int, stride_cells: int) -> None:
    with pytest.raises(ValueError, match="cannot be laid out"):
        window(map_cells, stride_cells)
