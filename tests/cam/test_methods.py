"""Each method against its paper's formula written out in loops."""

from __future__ import annotations

import math

import pytest
import torch

from wsi_cam.cam.methods import CAM_METHODS

N, K, H, W = 2, 3, 4, 5


def random_pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    activations = torch.rand(N, K, H, W, generator=generator, dtype=torch.float64)
    gradients = torch.randn(N, K, H, W, generator=generator, dtype=torch.float64)
    return activations, gradients


def channel_weight(name: str, a: torch.Tensor, g: torch.Tensor, i: int, j: int) -> float:
    """What channel activations ``a`` (h, w) are multiplied by at (i, j), gradients being ``g``."""
    cells = [(p, q) for p in range(H) for q in range(W)]
    if name == "gradcam":
        return sum(float(g[c]) for c in cells)
    if name == "hirescam":
        return H * W * float(g[i, j])
    if name == "layercam":
        return H * W * max(float(g[i, j]), 0.0)
    assert name == "gradcam++"
    total = math.fsum(float(a[c]) for c in cells)
    alphas = {c: float(g[c]) ** 2 / (2 * float(g[c]) ** 2 + total * float(g[c]) ** 3) for c in cells}
    return math.fsum(alphas[c] * max(float(g[c]), 0.0) for c in cells)


@pytest.mark.parametrize("name", CAM_METHODS)
def test_a_method_is_its_formula(name: str) -> None:
    activations, gradients = random_pair()
    maps = CAM_METHODS[name](activations, gradients)
    assert maps.shape == (N, H, W)
    for n in range(N):
        for i in range(H):
            for j in range(W):
                expected = sum(
                    channel_weight(name, activations[n, k], gradients[n, k], i, j)
                    * float(activations[n, k, i, j])
                    for k in range(K)
                )
                assert float(maps[n, i, j]) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", CAM_METHODS)
def test_where_nothing_matters_the_map_is_zero_and_not_a_number_lost(name: str) -> None:
    activations, _ = random_pair()
    maps = CAM_METHODS[name](activations, torch.zeros_like(activations))
    assert torch.equal(maps, torch.zeros_like(maps))


@pytest.mark.parametrize("name", CAM_METHODS)
def test_values_do_not_depend_on_the_size_of_the_map(name: str) -> None:
    """A layer behind which there is a mean over space: twice as large a map, a quarter of the gradient."""
    activations = torch.full((1, K, H, W), 0.7, dtype=torch.float64)
    larger = torch.full((1, K, 2 * H, 2 * W), 0.7, dtype=torch.float64)
    gradient = torch.tensor([0.5, -0.2, 0.3], dtype=torch.float64).view(1, K, 1, 1)
    small_map = CAM_METHODS[name](activations, (gradient / (H * W)).expand_as(activations))
    large_map = CAM_METHODS[name](larger, (gradient / (4 * H * W)).expand_as(larger))
    torch.testing.assert_close(large_map[:, :H, :W], small_map)
