"""Pictures as uint8 batches: decoded once where they fit in memory, batch by batch where not."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsi_cam.errors import DataError
from wsi_cam.training.patches import PatchSet

_log = logging.getLogger(__name__)

#: Decoded patches up to this size are kept in memory: 155 000 of 96 px, 28 000 of 224 px.
RAM_BYTES = 4 << 30
_THREADS = 4


class PatchPixels:
    """The pixels of a patch set at ``size_px``; ``batch`` gives what training and measuring take.

    Every picture's header is read on construction, and pictures that fit in ``ram_bytes`` are decoded, so
    that an unreadable one raises DataError before hours of work and not in them. ``on_progress(done, total)``
    hears how far that is.
    """

    def __init__(
        self,
        patches: PatchSet,
        size_px: int,
        ram_bytes: int = RAM_BYTES,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.patches = patches
        self.size_px = size_px
        n = len(patches)
        self._kept: torch.Tensor | None = None
        if n * size_px * size_px * 3 <= ram_bytes:
            kept = np.empty((n, size_px, size_px, 3), np.uint8)
            self._kept = torch.from_numpy(kept).permute(0, 3, 1, 2)
        resized = 0
        with ThreadPoolExecutor(_THREADS) as pool:
            for i, width in enumerate(pool.map(self._first_look, range(n))):
                resized += width != size_px
                if on_progress is not None:
                    on_progress(i + 1, n)
        if resized:
            _log.warning(
                "%s: %d of %d pictures are not %d px wide and resized; --mpp must be the spacing after that",
                patches.path,
                resized,
                n,
                size_px,
            )

    def __len__(self) -> int:
        return len(self.patches)

    def batch(self, indices: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, size_px, size_px) RGB of these pictures, in this order."""
        chosen = torch.as_tensor(indices)
        if self._kept is not None:
            return self._kept[chosen]
        with ThreadPoolExecutor(_THREADS) as pool:
            images = list(pool.map(self._decode, chosen.tolist()))
        # Indexed like the kept ones, so that strides and with them all roundings downstream are equal.
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[torch.arange(len(images))]

    def _decode(self, i: int) -> NDArray[np.uint8]:
        name = self.patches.names[i]
        return decode_picture(self.patches.source.read(name), name, self.size_px)

    def _first_look(self, i: int) -> int:
        """Width of picture i, which is kept or at least recognised."""
        name = self.patches.names[i]
        data = self.patches.source.read(name)
        if self._kept is not None:
            self._kept[i] = torch.from_numpy(decode_picture(data, name, self.size_px)).permute(2, 0, 1)
        with _open_picture(data, name) as picture:
            return picture.width


def decode_picture(data: bytes, name: str, size_px: int) -> NDArray[np.uint8]:
    """RGB (size_px, size_px, 3) of an encoded square picture, resized with antialiasing where needed.

    Raises DataError where it is unreadable, not square or deeper than 8 bits.
    """
    with _open_picture(data, name) as picture:
        try:
            rgb = picture.convert("RGB")
        except (OSError, SyntaxError, ValueError) as cause:
            raise DataError(f"{name}: unreadable picture ({cause}); replace it or leave it out") from cause
        if rgb.size != (size_px, size_px):
            rgb = rgb.resize((size_px, size_px), Image.Resampling.BILINEAR)
        return np.array(rgb)


def _open_picture(data: bytes, name: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as cause:
        reason = "empty file" if not data else "damaged, or a format that Pillow does not know"
        raise DataError(f"{name}: unreadable picture ({reason}); replace it or leave it out") from cause
    if picture.width != picture.height:
        raise DataError(f"{name}: {picture.width} x {picture.height} px; patches must be square, cut them so")
    if picture.mode.startswith(("I", "F")):
        raise DataError(f"{name}: pixels of type {picture.mode}; patches must be 8-bit, convert them")
    return picture
