"""A training run on disk: everything that the next step depends on, replaced in one move.

The file is a dictionary that torch.load reads with ``weights_only=True``. Older files hold only ``network``,
``optimizer``, ``schedule``, ``average``, ``step`` and ``losses``; what they lack is taken as not begun.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wsi_cam.errors import ModelError, SettingsError, one_line
from wsi_cam.publishing import published

StateDict = dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """``step`` steps are done. ``average`` are the weights to keep, ``best`` those of the least fit loss."""

    network: StateDict
    average: StateDict
    optimizer: dict[str, Any]
    step: int
    losses: list[float]
    schedule: dict[str, Any] | None = None
    head_optimizer: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None
    best: StateDict | None = None
    #: One entry per epoch: step, train_loss, fit_loss, fit_accuracy.
    history: list[dict[str, float]] = field(default_factory=list)
    #: What the run is of (settings, data, classes); a checkpoint of another run is refused.
    run: dict[str, Any] | None = None


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Write beside ``path`` and rename, so that a kill leaves the previous checkpoint. Raises OutputError."""
    with published(path, "free space or choose another -o") as partial:
        try:
            torch.save(vars(state), partial)
        except RuntimeError as cause:  # of torch's own writer, where the disk is full
            raise OSError(one_line(cause)) from cause


def load_checkpoint(path: Path) -> TrainingState:
    """Read a checkpoint without running any code in it. Raises ModelError where it is none."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as cause:
        first_line = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise ModelError(f"{path}: unreadable checkpoint ({first_line}); remove it to begin again") from cause
    fields = TrainingState.__dataclass_fields__
    required = ("network", "average", "optimizer", "step", "losses")
    if not isinstance(saved, dict) or any(name not in saved for name in required):
        raise ModelError(f"{path}: not a checkpoint of a training run; remove it to begin again")
    return TrainingState(**{name: value for name, value in saved.items() if name in fields})


def require_same_run(path: Path, state: TrainingState, run: dict[str, Any]) -> None:
    """Raises SettingsError where the checkpoint says that it belongs to another run."""
    if state.run is None:
        return
    for name, value in run.items():
        if name in state.run and state.run[name] != value:
            words = name.replace("_", " ")
            raise SettingsError(
                f"{path}: was made with {words} {state.run[name]!r}, now {value!r}; "
                "resume with the same settings and data, or begin again without --resume under another name"
            )
