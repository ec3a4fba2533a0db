"""Batches of patches through a classifier and an explainer: pixels in, small arrays out.

Every batch has the same size on the device, the last one filled up: the same patch gives the same bits
in whatever company it comes, and a GPU sees one shape. Only logits, probabilities and maps
come back; activations never leave the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_cam.cam.explain import Explainer
from wsi_cam.classifiers.classifier import Classifier, pad_batch
from wsi_cam.classifiers.folding import with_norms_folded
from wsi_cam.errors import ModelError


@dataclass(frozen=True)
class ExplainedBatch:
    """What was seen in n patches; all float32.

    ``probabilities`` (n, classes) are calibrated, ``logits`` (n, classes) are not; ``evidence``
    (n, classes, map cells, map cells) is signed and in logits.
    """

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    evidence: NDArray[np.float32]


class PendingBatch:
    """A batch that the device may still be working on."""

    def __init__(self, n: int, tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        self._n = n
        self._done: torch.cuda.Event | None = None
        if tensors[0].device.type == "cuda":
            # Into pinned memory, so that the copy is under way while the next batch is prepared.
            self._arrays = tuple(torch.empty_like(t, device="cpu", pin_memory=True) for t in tensors)
            for array, tensor in zip(self._arrays, tensors, strict=True):
                array.copy_(tensor, non_blocking=True)
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record(torch.cuda.current_stream(tensors[0].device))
        else:
            self._arrays = tuple(t.cpu() for t in tensors)

    def result(self) -> ExplainedBatch:
        """Waits for the device."""
        if self._done is not None:
            self._done.synchronize()
        return ExplainedBatch(*(array[: self._n].numpy() for array in self._arrays))


class PatchExplainer:
    """Classifies and explains uint8 patches at the model's size.

    On CUDA the network runs in mixed precision (bfloat16 where the GPU has it, float16 elsewhere) with
    head and maps in float32; on other devices all is float32. Batch norms are folded where that
    agrees to 1e-5. Raises ModelError for an unknown or unsuited layer or method.
    """

    def __init__(
        self,
        classifier: Classifier,
        target_layer: str = "layer4",
        method: str = "gradcam",
        batch_size: int = 32,
    ) -> None:
        if batch_size < 1:
            raise ModelError(f"batch size {batch_size}: must be at least 1")
        self.classifier = classifier
        self.target_layer, self.method = target_layer, method
        self.batch_size = batch_size
        network = with_norms_folded(classifier.network, untouched=(target_layer,))
        self._explainer = Explainer(network, target_layer, method, mixed_precision_dtype(classifier.device))
        self.closed_form = self._explainer.closed_form
        self.cell_px = self._explainer.cell_px
        """Model pixels that one cell of a map spans."""
        self.map_cells = math.ceil(classifier.card.patch_size_px / self.cell_px)
        """Cells along each side of a patch's map."""

    def explain(self, images: NDArray[np.uint8] | torch.Tensor) -> ExplainedBatch:
        """Probabilities, logits and evidence of up to ``batch_size`` images, uint8 (n, s, s, 3) RGB.

        Raises ModelError for other shapes, dtypes or too many images.
        """
        return self.submit(images).result()

    def submit(self, images: NDArray[np.uint8] | torch.Tensor) -> PendingBatch:
        """As ``explain``, without waiting: on a GPU the next batch can be prepared meanwhile."""
        self.classifier.check_images(images)
        n = len(images)
        if n > self.batch_size:
            raise ModelError(f"{n} images at once, but the batch size is {self.batch_size}; give fewer")
        batch = self.classifier.normalise(pad_batch(images, self.batch_size))
        logits, evidence = self._explainer(batch)
        if evidence.shape[2:] != (self.map_cells, self.map_cells):
            shape = tuple(evidence.shape[2:])
            raise ModelError(
                f"target layer: its maps are {shape} cells, where {self.map_cells} along each side would "
                "cover the patch, so they cannot be laid onto a slide; take another layer"
            )
        return PendingBatch(n, (self.classifier.probabilities(logits), logits.float(), evidence.float()))


def mixed_precision_dtype(device: torch.device) -> torch.dtype | None:
    """The half precision that pays on this device; None where there is none."""
    if device.type != "cuda":
        return None
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
