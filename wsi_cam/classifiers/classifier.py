"""A network with its card: uint8 patches in, calibrated probabilities out."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsi_cam.classifiers.card import ModelCard
from wsi_cam.classifiers.device import choose_device
from wsi_cam.errors import ModelError

Images = NDArray[np.uint8] | torch.Tensor

#: Images per forward pass of ``predict``. Fixed, since logits differ in their last bits between
#: batch sizes; small on the CPU, where larger batches gain nothing and one image should not be dear.
PREDICT_BATCH_SIZE = {"cpu": 8, "mps": 32, "cuda": 64}


class Classifier:
    """A network that gives logits (n, classes) for images (n, 3, s, s), and what its card says of it.

    The network is taken as it is, in any architecture, and changed in place: evaluation mode,
    float32, channels_last, on ``device`` ("auto" finds one). ``bundle_hash`` is the identity
    of weights and card together; it is computed where none is given.
    """

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        device: str | torch.device = "auto",
        bundle_hash: str | None = None,
    ) -> None:
        self.card = card
        self.device = choose_device(device)
        self.network = network.eval().float().to(memory_format=torch.channels_last).to(self.device)
        self._given_hash = bundle_hash
        self._copying: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            self._copying = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        # uint8 to normalised float in one multiplication and one addition per value.
        mean, std = torch.tensor(card.mean).double(), torch.tensor(card.std).double()
        self._scale = (1 / (255 * std)).float().to(self.device)
        self._shift = (-mean / std).float().to(self.device)

    @cached_property
    def bundle_hash(self) -> str:
        """sha256 in hex: of the card and the weight file, or, for a network made in memory, its tensors."""
        return self._given_hash or _hash_in_memory(self.network, self.card)

    def normalise(self, images: Images) -> torch.Tensor:
        """uint8 RGB (n, h, w, 3) to float32 (n, 3, h, w), channels_last, on the device.

        What travels to the device is the uint8, through pinned memory where it is a CUDA one.
        Raises ModelError for another shape or dtype.
        """
        pixels = self._on_device(_as_tensor(images))
        n, height, width, _ = pixels.shape
        # Whole rows at a time, scale and shift repeated along them: several times faster than by channel.
        rows = pixels.reshape(n, height, 3 * width).float()
        rows = torch.addcmul(self._shift.repeat(width), rows, self._scale.repeat(width))
        return rows.view(n, height, width, 3).permute(0, 3, 1, 2)

    def _on_device(self, pixels: torch.Tensor) -> torch.Tensor:
        """On CUDA they go in a stream of their own: while the batch before is still being computed."""
        if self._copying is None or pixels.device.type != "cpu":
            return pixels.to(self.device)
        with torch.cuda.stream(self._copying):
            copied = pixels.pin_memory().to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._copying)
        copied.record_stream(computing)  # or its memory would be given out again before it was looked at
        return copied

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities float32 (n, classes) of logits (n, classes): softmax(y / T)."""
        return torch.softmax(logits.float() / self.card.temperature, dim=1)

    def check_images(self, images: Images) -> None:
        """Raises ModelError unless the images are uint8 RGB (n, s, s, 3) at the model's size."""
        size = self.card.patch_size_px
        if tuple(images.shape[1:]) != (size, size, 3) or not _is_uint8(images):
            raise ModelError(
                f"images are {images.dtype} {tuple(images.shape)}; {self.card.name} takes uint8 RGB "
                f"(n, {size}, {size}, 3) at {self.card.mpp_um:g} um/px: resample them first"
            )

    def predict(self, images: Images) -> NDArray[np.float32]:
        """Calibrated probabilities float32 (n, classes) of uint8 RGB images (n, s, s, 3), any n.

        The same image gives the same bits however many are passed beside it. Raises ModelError for
        another shape or dtype.
        """
        self.check_images(images)
        batch_size = PREDICT_BATCH_SIZE.get(self.device.type, 32)
        parts = [np.empty((0, len(self.card.class_names)), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                part = images[start : start + batch_size]
                logits = self.network(self.normalise(pad_batch(part, batch_size)))
                parts.append(self.probabilities(logits)[: len(part)].cpu().numpy())
        return np.concatenate(parts)


def pad_batch(images: Images, batch_size: int) -> torch.Tensor:
    """uint8 images (n, h, w, 3), n at most ``batch_size``, filled up to it with black ones."""
    pixels = _as_tensor(images)
    missing = batch_size - len(pixels)
    return pixels if missing == 0 else torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])


def _is_uint8(images: Images) -> bool:
    return images.dtype == (torch.uint8 if isinstance(images, torch.Tensor) else np.uint8)


def _as_tensor(images: Images) -> torch.Tensor:
    if not _is_uint8(images) or images.ndim != 4 or images.shape[3] != 3:
        raise ModelError(f"images are {images.dtype} {tuple(images.shape)}; give uint8 RGB (n, h, w, 3)")
    if isinstance(images, torch.Tensor):
        return images
    # torch warns of read-only arrays and refuses negative strides, so those are copied.
    usable = images if images.flags.writeable and images.flags.c_contiguous else np.array(images, order="C")
    return torch.from_numpy(usable)


def _hash_in_memory(network: nn.Module, card: ModelCard) -> str:
    digest = hashlib.sha256(card.canonical_json().encode())
    # What has no parameters differs by its structure only.
    digest.update(repr(network).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
