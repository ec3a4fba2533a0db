"""From activations and gradients of a layer to a signed map of one class, in logits.

``A`` are the activations of the target layer, ``g = dy/dA`` the gradients of one class's logit, both
(n, channels, h, w). Nothing is rectified or rescaled here: a map's sign and size mean something, and
whoever draws it decides what to clip. Every map carries the factor h * w relative to its
paper, so that its values do not depend on the patch's size; on a layer that is followed by global
average pooling and one linear layer, the mean of the Grad-CAM map is the logit less its bias.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

CamMethod = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(activations, gradients), each (n, k, h, w), to a signed map (n, h, w) in logits."""


def gradcam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """sum_k (sum_ij g_k) A_k (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2, without the ReLU)."""
    return _weighted(activations, gradients.sum(dim=(2, 3)))


def hirescam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """h w sum_k g_k A_k, position by position (Draelos and Carin 2020, arXiv 2011.08891, eq. 5)."""
    return _n_cells(activations) * (gradients * activations).sum(dim=1)


def gradcam_plus_plus(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """sum_k w_k A_k with w_k = sum_ij alpha_kij ReLU(g_kij) (Chattopadhay et al. 2018, arXiv 1710.11063).

    alpha = g^2 / (2 g^2 + sum_ij A g^3) (eq. 19, scores exponentiated), where g^2 cancels; only positive
    activations, the ones the paper has, count in its sum.
    """
    activation_sums = activations.clamp(min=0).sum(dim=(2, 3), keepdim=True)
    rising = gradients.clamp(min=0)
    weights = (rising / (2 + activation_sums * rising)).sum(dim=(2, 3))
    return _weighted(activations, weights)


def layercam(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """h w sum_k ReLU(g_k) A_k, position by position (Jiang et al. 2021, eq. 5 and 6)."""
    return _n_cells(activations) * (gradients.clamp(min=0) * activations).sum(dim=1)


#: A new method is one function above and one line here.
CAM_METHODS: dict[str, CamMethod] = {
    "gradcam": gradcam,
    "hirescam": hirescam,
    "gradcam++": gradcam_plus_plus,
    "layercam": layercam,
}

#: Methods that equal ``sum_k w_ck A_k`` where the layer is followed by pooling and one linear layer.
CLOSED_FORM_METHODS = frozenset({"gradcam", "hirescam"})


def _weighted(activations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nkhw,nk->nhw", activations, weights)


def _n_cells(activations: torch.Tensor) -> int:
    return activations.shape[2] * activations.shape[3]
