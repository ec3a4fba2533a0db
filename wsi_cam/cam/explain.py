"""Logits and the evidence of every class for a batch, from one forward pass where that is exact.

Evidence of class c is the signed Grad-CAM map ``e_c = sum_k (sum_ij dy_c / dA_k(i,j)) A_k`` of the
target layer's activations A, in logits. Where the layer is followed by global average pooling and one
linear layer (weights w, biases b), that is ``sum_k w_ck A_k``, and its mean over space plus b_c
is the logit: no gradient is needed. Elsewhere autograd runs from the target layer on.
"""

from __future__ import annotations

import torch
from torch import nn

from wsi_cam.cam.methods import CAM_METHODS, CLOSED_FORM_METHODS
from wsi_cam.cam.structure import PROBE_PX, Observation, evaluating, find_layer, observe, output_hook
from wsi_cam.errors import ModelError

LogitsAndEvidence = tuple[torch.Tensor, torch.Tensor]


class Explainer:
    """Explains what a network sees at one of its layers.

    ``explainer(batch)`` takes (n, 3, h, w) floats as the network does, any n, and gives logits
    (n, classes) and evidence (n, classes, map h, map w), signed and in logits, on the network's device, in
    float32 (float64 for a float64 network). The network is watched in evaluation mode and left as
    it was; between calls nothing of it is held but the network itself.

    ``target_layer`` is a name as ``named_modules`` has it, ``method`` one of ``CAM_METHODS``. With
    ``trunk_dtype`` (bfloat16, float16) the layers up to the target run in mixed precision and
    everything after in float32. ``patch_px`` is the side of the pictures to come: pooling of a fixed size
    is global at one size and not at another. Raises ModelError for a layer or method that is unknown or
    unsuited.
    """

    def __init__(
        self,
        network: nn.Module,
        target_layer: str = "layer4",
        method: str = "gradcam",
        trunk_dtype: torch.dtype | None = None,
        patch_px: int = PROBE_PX,
    ) -> None:
        if method not in CAM_METHODS:
            raise ModelError(f"CAM method {method!r}: unknown; use one of {', '.join(CAM_METHODS)}")
        self._network = network
        self._layer = find_layer(network, target_layer)
        self._method = CAM_METHODS[method]
        self._trunk_dtype: torch.dtype | None = None
        with evaluating(network):
            observation = observe(network, self._layer, target_layer, patch_px)
            self._head = observation.head if method in CLOSED_FORM_METHODS else None
            self._check_by_gradients(observation, target_layer)
        self.cell_px = observation.cell_px
        """Pixels of the input that one cell of a map spans, along each axis."""
        self._trunk_dtype = trunk_dtype

    @property
    def closed_form(self) -> bool:
        """Whether evidence comes from the forward pass alone."""
        return self._head is not None

    def __call__(self, batch: torch.Tensor) -> LogitsAndEvidence:
        # The caller's mixed precision must not reach the maps.
        with evaluating(self._network), torch.autocast(batch.device.type, enabled=False):
            if self._head is None:
                return self._by_gradients(batch)
            return self._by_head(batch, self._head)

    @torch.inference_mode()
    def _by_head(self, batch: torch.Tensor, head: nn.Linear) -> LogitsAndEvidence:
        kept: list[torch.Tensor] = []

        def keep(module: nn.Module, args: object, output: torch.Tensor) -> None:
            kept.append(output)

        with output_hook(self._layer, keep), self._mixed_precision(batch):
            logits: torch.Tensor = self._network(batch)
        evidence = head_evidence(kept[0], head)
        if self._trunk_dtype is not None:
            # The network's own head ran in mixed precision; the mean of the maps did not.
            logits = evidence.mean(dim=(2, 3))
            logits = logits if head.bias is None else logits + head.bias
        return logits, evidence

    @torch.inference_mode(False)
    def _by_gradients(self, batch: torch.Tensor) -> LogitsAndEvidence:
        kept: list[torch.Tensor] = []

        def start_graph(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
            activations = output.detach() if self._trunk_dtype is None else output.detach().float()
            activations.requires_grad_()
            kept.append(activations)
            # Both switches fall back when the blocks around the forward pass end.
            torch.set_grad_enabled(True)
            torch.set_autocast_enabled(batch.device.type, False)
            # A copy, since what follows may work in place and a leaf must stay as it is.
            return activations.clone()

        with torch.no_grad(), self._mixed_precision(batch), output_hook(self._layer, start_graph):
            logits = self._network(batch)
        (activations,), n_classes = kept, logits.shape[1]
        maps = []
        for c in range(n_classes):
            (gradients,) = torch.autograd.grad(
                logits[:, c].sum(), activations, retain_graph=c < n_classes - 1
            )
            maps.append(self._method(_at_least_float32(activations.detach()), _at_least_float32(gradients)))
        return logits.detach(), torch.stack(maps, dim=1)

    def _mixed_precision(self, batch: torch.Tensor) -> torch.autocast:
        return torch.autocast(batch.device.type, self._trunk_dtype, enabled=self._trunk_dtype is not None)

    def _check_by_gradients(self, observation: Observation, name: str) -> None:
        """Drops the closed form unless the gradients say the same; a layer without gradients is an error."""
        try:
            _, evidence = self._by_gradients(observation.probe)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"target layer {name!r}: no gradient reaches it ({reason}); take another"
            ) from error
        if self._head is not None:
            closed = head_evidence(observation.features, self._head).detach()
            if not torch.allclose(closed, evidence, rtol=0, atol=1e-4 * float(evidence.abs().max())):
                self._head = None


def head_evidence(features: torch.Tensor, head: nn.Linear) -> torch.Tensor:
    """Evidence (n, classes, h, w) of features (n, k, h, w) that are pooled and given to a linear head."""
    pixels = _at_least_float32(features).permute(0, 2, 3, 1)  # no copy where the memory is channels_last
    weights = head.weight.t().to(pixels.dtype)
    return (pixels @ weights).permute(0, 3, 1, 2).contiguous()


def _at_least_float32(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
