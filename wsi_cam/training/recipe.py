"""The settings of a training run. Their defaults are the recipe of the bundled model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wsi_cam.errors import SettingsError

ClassWeights = Literal["balanced", "none"]


@dataclass(frozen=True)
class Recipe:
    """How weights are fitted. Two runs with equal recipes, data and initial weights see the same batches.

    First the head alone is fitted with the trunk frozen, for ``head_steps`` (or ``epochs_head`` where given);
    then all layers for ``epochs`` with a one-cycle rate that rises over ``warmup_share`` of the steps to
    ``trunk_rate`` and ``head_rate``. What is kept is the exponential moving average of the weights.
    """

    epochs: float = 4.0
    epochs_head: float | None = None
    head_steps: int = 80
    batch_size: int = 50
    trunk_rate: float = 2e-4
    head_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_share: float = 0.2
    label_smoothing: float = 0.02
    average_decay: float = 0.99
    #: "balanced" weighs a class by the inverse of its share, so that a rare one counts as much.
    class_weights: ClassWeights = "balanced"
    #: Epochs without a better loss on the fit part after which training ends; 0 trains all epochs.
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("batch_size", "trunk_rate", "head_rate")
        for name in positive:
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name.replace('_', ' ')} is {getattr(self, name)}; it must be above 0")
        for name in ("epochs", "epochs_head", "head_steps", "weight_decay", "patience", "seed"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise SettingsError(f"{name.replace('_', ' ')} is {value}; it must not be negative")

    def plan(self, n_pictures: int) -> StepPlan:
        """How many steps of what, for a training set of this size."""
        batch_size = min(self.batch_size, n_pictures)
        per_epoch = n_pictures // batch_size
        head = self.head_steps if self.epochs_head is None else round(self.epochs_head * per_epoch)
        plan = StepPlan(batch_size, per_epoch, head, head + round(self.epochs * per_epoch))
        if plan.total == 0:
            raise SettingsError("0 training steps; give more epochs")
        return plan


@dataclass(frozen=True)
class StepPlan:
    """A step is one batch. Steps 0 to ``head`` fit the head, those up to ``total`` all layers."""

    batch_size: int
    per_epoch: int
    head: int
    total: int

    def place(self, step: int) -> tuple[int, int]:
        """Epoch of all-layer training and batch within it; the head phase comes in epochs before 0."""
        return divmod(step - self.head, self.per_epoch)

    def ends_epoch(self, done: int) -> bool:
        """Whether after ``done`` steps an epoch of all layers, the head phase or all is complete."""
        return done == self.total or (done >= self.head and (done - self.head) % self.per_epoch == 0)
