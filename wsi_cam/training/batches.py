"""The batches of a training run: each depends on its step alone, so a run can be resumed anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from wsi_cam.errors import DataError
from wsi_cam.training.augment import augment_patches
from wsi_cam.training.pixels import PatchPixels
from wsi_cam.training.recipe import StepPlan


class TrainingBatches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Step -> augmented uint8 pictures (n, 3, s, s) and int64 labels (n,)."""

    def __init__(self, pixels: PatchPixels, plan: StepPlan, seed: int) -> None:
        self._pixels = pixels
        self._labels = torch.from_numpy(pixels.patches.labels)
        self._plan = plan
        self._seed = seed
        self._order: tuple[int, torch.Tensor] | None = None

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, place = self._plan.place(step)
        order = self._order_of(epoch)
        chosen = order[place * self._plan.batch_size : (place + 1) * self._plan.batch_size]
        images = augment_patches(self._pixels.batch(chosen), seed=1_000_003 * self._seed + step)
        return images, self._labels[chosen]

    def _order_of(self, epoch: int) -> torch.Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(1000 * self._seed + epoch + 1)
            self._order = (epoch, torch.randperm(len(self._pixels), generator=generator))
        return self._order[1]

    def steps(
        self, first: int, last: int, num_workers: int, pin_memory: bool
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of steps ``first`` to ``last`` - 1, prepared ahead by worker processes if any."""
        if num_workers == 0:
            return (self[step] for step in range(first, last))
        return self._from_workers(range(first, last), num_workers, pin_memory)

    def _from_workers(
        self, steps: range, num_workers: int, pin_memory: bool
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        # Processes, not threads: torchvision's colour jitter draws from the one global generator.
        sampler: Any = steps
        loader: DataLoader[Any] = DataLoader(
            _Guarded(self), batch_size=None, sampler=sampler, num_workers=num_workers, pin_memory=pin_memory
        )
        for batch in loader:
            if isinstance(batch, DataError):
                raise batch
            yield batch


class _Guarded(Dataset[Any]):
    """Hands an error over as a value: a worker would wrap its message into pages of traceback."""

    def __init__(self, batches: TrainingBatches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor] | DataError:
        try:
            return self._batches[step]
        except DataError as error:
            return error
