"""Fitting the weights: the head first, then all layers, with an average kept of where they have been."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsi_cam.errors import SettingsError
from wsi_cam.training.batches import TrainingBatches
from wsi_cam.training.checkpoint import (
    StateDict,
    TrainingState,
    load_checkpoint,
    require_same_run,
    save_checkpoint,
)
from wsi_cam.training.pixels import PatchPixels
from wsi_cam.training.recipe import Recipe, StepPlan

_log = logging.getLogger(__name__)

#: Where a network's last layer is found; everything else is the trunk.
HEAD = "fc"


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of RGB in 0 to 1, subtracted and divided by before the network."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, s, s) to float32 in channels_last order, on the device of ``images``."""
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class FitOptions:
    """What changes how fast or how safely a run goes, not what comes out of it (on one kind of device)."""

    device: torch.device
    num_workers: int = 0
    checkpoint: Path | None = None
    resume: bool = False
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Fitted:
    """``weights`` to keep, on the CPU; ``losses``, one per step; ``history``, one entry per epoch."""

    weights: StateDict
    losses: tuple[float, ...]
    history: tuple[dict[str, float], ...]
    stopped_early: bool


def fit(
    network: nn.Module,
    train: PatchPixels,
    held_out: PatchPixels | None,
    recipe: Recipe,
    normalise: Normalisation,
    options: FitOptions,
    run: dict[str, Any] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Fitted:
    """Fit ``network`` (changed in place) to ``train``; ``held_out`` is looked at after every epoch.

    On the CPU the result depends on the recipe, the data and the initial weights only, however often
    the run was killed and resumed. ``run`` identifies it in the checkpoint; ``on_step(done, total, loss)``
    is called after each step. Raises SettingsError where a checkpoint is in the way or the loss diverges.
    """
    plan = recipe.plan(len(train))
    work = _Work(network, train, recipe, plan, normalise, options)
    identity = {**asdict(recipe), **(run or {})}
    history: list[dict[str, float]] = []
    best: StateDict | None = None
    if options.checkpoint is not None and options.checkpoint.exists():
        if not options.resume:
            raise SettingsError(f"{options.checkpoint}: a run was begun here; give --resume or remove it")
        saved = load_checkpoint(options.checkpoint)
        require_same_run(options.checkpoint, saved, identity)
        if saved.step > plan.total:
            raise SettingsError(
                f"{options.checkpoint}: is at step {saved.step} of {plan.total}; give its --epochs"
            )
        work.restore(saved)
        history, best = saved.history, saved.best
        _log.info("continuing at step %d of %d", work.step, plan.total)

    saved_at = time.monotonic()
    batches = TrainingBatches(train, plan, recipe.seed)
    stopped = _is_stale(history, recipe.patience)
    upcoming = batches.steps(work.step, plan.total, options.num_workers, options.device.type == "cuda")
    while work.step < plan.total and not stopped:
        loss = work.take_step(*next(upcoming))
        if on_step is not None:
            on_step(work.step, plan.total, loss)
        if plan.ends_epoch(work.step) and held_out is not None:
            entry = work.look_at(held_out)
            if not history or entry["fit_loss"] < min(e["fit_loss"] for e in history):
                best = _cloned(work.average) if recipe.patience else None
            history.append(entry)
            stopped = _is_stale(history, recipe.patience)
        due = time.monotonic() - saved_at >= options.checkpoint_seconds
        if options.checkpoint is not None and (due or stopped or work.step == plan.total):
            save_checkpoint(options.checkpoint, work.state(best, history, identity))
            saved_at = time.monotonic()
    if held_out is not None and (not history or history[-1]["step"] != work.step):
        history.append(work.look_at(held_out))
    weights = work.average if best is None else best
    on_cpu = {name: value.detach().cpu() for name, value in weights.items()}
    return Fitted(on_cpu, tuple(work.losses), tuple(history), stopped)


def predict_logits(
    network: nn.Module,
    pixels: PatchPixels,
    normalise: Normalisation,
    device: torch.device,
    batch_size: int = 64,
) -> torch.Tensor:
    """Logits (n, classes) float32 on the CPU of unaugmented pictures; the network is set to eval."""
    network.eval()
    logits = []
    with torch.inference_mode():
        for first in range(0, len(pixels), batch_size):
            images = pixels.batch(range(first, min(first + batch_size, len(pixels)))).to(device)
            logits.append(network(normalise(images)).float().cpu())
    return torch.cat(logits)


def _is_stale(history: list[dict[str, float]], patience: int) -> bool:
    """Whether the last ``patience`` looks brought nothing better than what came before them."""
    losses = [entry["fit_loss"] for entry in history]
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])


def _cloned(state: StateDict) -> StateDict:
    return {name: value.clone() for name, value in state.items()}


class _Work:
    """Network, optimizers and average of one run, and the step that changes them."""

    def __init__(
        self,
        network: nn.Module,
        train: PatchPixels,
        recipe: Recipe,
        plan: StepPlan,
        normalise: Normalisation,
        options: FitOptions,
    ) -> None:
        self.network = network.to(options.device).to(memory_format=torch.channels_last)
        self.recipe, self.plan, self.normalise, self.device = recipe, plan, normalise, options.device
        head = list(network.get_submodule(HEAD).parameters())
        trunk = [p for name, p in network.named_parameters() if not name.startswith(f"{HEAD}.")]
        rates = [recipe.trunk_rate, recipe.head_rate]
        groups = [{"params": trunk, "lr": rates[0]}, {"params": head, "lr": rates[1]}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        self.head_optimizer = torch.optim.AdamW(head, lr=rates[1], weight_decay=recipe.weight_decay)
        self.schedule = _one_cycle(self.optimizer, rates, plan.total - plan.head, recipe.warmup_share)
        # Older GPUs know float16 only, whose small gradients need scaling; bfloat16 does not.
        on_cuda = options.device.type == "cuda"
        has_bfloat16 = on_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        needs_scaling = on_cuda and not has_bfloat16
        narrow = torch.float16 if needs_scaling else torch.bfloat16
        self.autocast = torch.autocast(options.device.type, narrow, enabled=on_cuda)
        self.scaler = torch.amp.GradScaler("cuda" if on_cuda else "cpu", enabled=needs_scaling)
        weights = class_weights(train.patches.labels, len(train.patches.class_names), recipe)
        self.loss = nn.CrossEntropyLoss(weights, label_smoothing=recipe.label_smoothing).to(options.device)
        self.average = _cloned(network.state_dict())
        self.step = 0
        self.losses: list[float] = []

    def take_step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        head_only = self.step < self.plan.head
        # In the head phase the trunk is frozen, its running statistics included.
        self.network.train(not head_only)
        self.network.requires_grad_(not head_only)
        self.network.get_submodule(HEAD).requires_grad_(True)
        optimizer = self.head_optimizer if head_only else self.optimizer
        optimizer.zero_grad()
        batch = self.normalise(images.to(self.device, non_blocking=True))
        with self.autocast:
            logits = self.network(batch)
        loss = self.loss(logits.float(), labels.to(self.device, non_blocking=True))
        self.scaler.scale(loss).backward()
        self.scaler.step(optimizer)
        self.scaler.update()
        if not head_only and self.schedule is not None:
            self.schedule.step()
        self.step += 1
        self._update_average()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SettingsError(f"loss {value} at step {self.step}; lower the rates or look at the pictures")
        self.losses.append(value)
        return value

    def _update_average(self) -> None:
        """Exponential moving average of parameters and running statistics, quick at the start."""
        decay = min(self.recipe.average_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def look_at(self, held_out: PatchPixels) -> dict[str, float]:
        """Loss and accuracy of the average on pictures that are not trained on."""
        averaged = copy.deepcopy(self.network)
        averaged.load_state_dict(self.average)
        logits = predict_logits(averaged, held_out, self.normalise, self.device)
        labels = torch.from_numpy(held_out.patches.labels)
        return {
            "step": self.step,
            "train_loss": float(np.mean(self.losses[-self.plan.per_epoch :])),
            "fit_loss": float(nn.functional.cross_entropy(logits, labels)),
            "fit_accuracy": float((logits.argmax(1) == labels).float().mean()),
        }

    def state(
        self, best: StateDict | None, history: list[dict[str, float]], run: dict[str, Any]
    ) -> TrainingState:
        return TrainingState(
            network=self.network.state_dict(),
            average=self.average,
            optimizer=self.optimizer.state_dict(),
            step=self.step,
            losses=self.losses,
            schedule=None if self.schedule is None else self.schedule.state_dict(),
            head_optimizer=self.head_optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            best=best,
            history=history,
            run=run,
        )

    def restore(self, saved: TrainingState) -> None:
        self.network.load_state_dict(saved.network)
        self.optimizer.load_state_dict(saved.optimizer)
        if self.schedule is not None and saved.schedule is not None:
            self.schedule.load_state_dict(saved.schedule)
        if saved.head_optimizer is not None:
            self.head_optimizer.load_state_dict(saved.head_optimizer)
        if saved.scaler:
            self.scaler.load_state_dict(saved.scaler)
        self.average = {name: value.to(self.device) for name, value in saved.average.items()}
        self.step, self.losses = saved.step, list(saved.losses)


def class_weights(labels: NDArray[np.int64], n_classes: int, recipe: Recipe) -> torch.Tensor | None:
    """Weight of each class in the loss: n / (classes x pictures of it). None where all would be 1."""
    if recipe.class_weights == "none":
        return None
    weights = len(labels) / (n_classes * np.bincount(labels, minlength=n_classes))
    return None if (weights == 1).all() else torch.tensor(weights, dtype=torch.float32)


def _one_cycle(
    optimizer: torch.optim.Optimizer, rates: list[float], n_steps: int, warmup_share: float
) -> torch.optim.lr_scheduler.OneCycleLR | None:
    if n_steps == 0:
        return None
    if warmup_share * n_steps == 1:
        # torch divides by warmup_share * n_steps - 1.
        warmup_share *= 1.5
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=n_steps, pct_start=warmup_share)
