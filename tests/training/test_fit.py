"""Training follows its recipe to the bit, whether or not it was killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.make_patches import TinyNetwork, write_class_folders
from wsi_cam.errors import DataError, ModelError, OutputError, SettingsError
from wsi_cam.training.augment import augment_patches
from wsi_cam.training.batches import TrainingBatches
from wsi_cam.training.checkpoint import load_checkpoint
from wsi_cam.training.fit import FitOptions, Fitted, Normalisation, class_weights, fit, predict_logits
from wsi_cam.training.patches import read_patch_set
from wsi_cam.training.pixels import PatchPixels
from wsi_cam.training.recipe import Recipe

CPU = FitOptions(torch.device("cpu"))
SHORT = Recipe(epochs=3, head_steps=7, batch_size=5, seed=3)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> PatchPixels:
    return PatchPixels(read_patch_set(write_class_folders(tmp_path_factory.mktemp("train"), 11)), 32)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> PatchPixels:
    folder = write_class_folders(tmp_path_factory.mktemp("fit"), 4, first_seed=500)
    return PatchPixels(read_patch_set(folder), 32)


def fit_tiny(
    train: PatchPixels,
    held_out: PatchPixels | None = None,
    recipe: Recipe = SHORT,
    options: FitOptions = CPU,
    run: dict[str, Any] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Fitted:
    return fit(TinyNetwork(), train, held_out, recipe, Normalisation(), options, run, on_step)


def assert_equal(one: Fitted, other: Fitted) -> None:
    assert one.losses == other.losses
    assert one.history == other.history
    assert one.weights.keys() == other.weights.keys()
    for name, value in one.weights.items():
        assert torch.equal(value, other.weights[name]), name


def reference_losses(
    train: PatchPixels, epochs: int, n_head: int, size: int, seed: int
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The recipe written down once more, straight on: no resuming, no options."""
    network = TinyNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, labels = train.batch(range(len(train))), torch.from_numpy(train.patches.labels)
    per_epoch = len(images) // size
    head = list(network.fc.parameters())
    trunk = [*network.conv.parameters(), *network.norm.parameters()]
    head_adam = torch.optim.AdamW(head, lr=1e-3, weight_decay=1e-2)
    groups = [{"params": trunk, "lr": 2e-4}, {"params": head, "lr": 1e-3}]
    adam = torch.optim.AdamW(groups, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        adam, [2e-4, 1e-3], total_steps=epochs * per_epoch, pct_start=0.2
    )
    average = {k: v.clone() for k, v in network.state_dict().items()}
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    losses, shuffle = [], torch.Generator()
    for step in range(n_head + epochs * per_epoch):
        network.train(step >= n_head)
        for p in trunk:
            p.requires_grad_(step >= n_head)
        epoch, at = (step - n_head) // per_epoch, (step - n_head) % per_epoch
        order = torch.randperm(len(images), generator=shuffle.manual_seed(1000 * seed + epoch + 1))
        chosen = order[at * size : (at + 1) * size]
        batch = augment_patches(images[chosen], seed=1_000_003 * seed + step).float() / 255
        batch = (batch - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        logits = network(batch.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(logits, labels[chosen], label_smoothing=0.02)
        optimizer = adam if step >= n_head else head_adam
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= n_head:
            rates.step()
        decay = min(0.99, (2 + step) / (11 + step))
        for k, v in network.state_dict().items():
            average[k] = average[k].lerp(v, 1 - decay) if v.is_floating_point() else v.clone()
        losses.append(float(loss.detach()))
    return losses, average


def test_the_recipe_is_kept_to_the_bit(train: PatchPixels) -> None:
    losses, average = reference_losses(train, epochs=3, n_head=7, size=5, seed=3)
    fitted = fit_tiny(train)
    assert list(fitted.losses) == losses
    for name, value in average.items():
        assert torch.equal(fitted.weights[name], value), name


def test_the_default_recipe_is_that_of_the_bundled_model() -> None:
    fitting = Recipe(epochs=4, epochs_head=None, head_steps=80, batch_size=50, seed=0)
    rates = replace(fitting, trunk_rate=2e-4, head_rate=1e-3, weight_decay=1e-2, warmup_share=0.2)
    assert Recipe() == replace(rates, label_smoothing=0.02, average_decay=0.99, patience=0)
    assert Recipe().plan(20_000).total == 1680


def test_the_head_phase_leaves_the_trunk_alone(train: PatchPixels) -> None:
    fitted = fit_tiny(train, recipe=Recipe(epochs=0, head_steps=4, batch_size=5))
    fresh = TinyNetwork().state_dict()
    changed = {name for name, value in fitted.weights.items() if not torch.equal(value, fresh[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_epochs_of_the_head_may_be_given_instead_of_steps() -> None:
    assert Recipe(epochs=2, epochs_head=1.5, batch_size=50).plan(1000).head == 30
    assert Recipe(epochs=2, batch_size=50).plan(1000).total == 120


@pytest.mark.parametrize("n_steps", [1, 2, 5, 10])
def test_very_short_runs_have_a_rate_schedule(train: PatchPixels, n_steps: int) -> None:
    recipe = Recipe(epochs=n_steps, head_steps=0, batch_size=22)
    assert len(fit_tiny(train, recipe=recipe).losses) == n_steps


def test_sets_smaller_than_a_batch_are_one_batch(train: PatchPixels) -> None:
    assert Recipe(batch_size=50, epochs=3).plan(22).batch_size == 22
    assert len(fit_tiny(train, recipe=Recipe(epochs=2, head_steps=1)).losses) == 3


#: From Python 3.12 on every fork of a process with threads warns; these workers only prepare batches.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@forks
def test_workers_and_lazy_reading_change_nothing(train: PatchPixels, held_out: PatchPixels) -> None:
    plain = fit_tiny(train, held_out)
    lazy = PatchPixels(train.patches, 32, ram_bytes=0)
    assert_equal(fit_tiny(lazy, held_out, options=replace(CPU, num_workers=2)), plain)


@forks
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_picture_that_turns_out_damaged_later_is_named(tmp_path: Path, num_workers: int) -> None:
    write_class_folders(tmp_path, 4)
    file = tmp_path / "normal" / "patch000.png"
    file.write_bytes(file.read_bytes()[:1500])
    lazy = PatchPixels(read_patch_set(tmp_path), 32, ram_bytes=0)
    with pytest.raises(DataError, match=r"^normal/patch000\.png: unreadable picture \([^\n]*$"):
        fit_tiny(lazy, options=replace(CPU, num_workers=num_workers))


def test_every_epoch_trains_on_each_picture_at_most_once(train: PatchPixels) -> None:
    plan = SHORT.plan(len(train))
    batches = TrainingBatches(train, plan, SHORT.seed)
    for epoch in range(3):
        first = plan.head + epoch * plan.per_epoch
        seen = torch.cat([batches._order_of(epoch)[: plan.per_epoch * plan.batch_size]])
        assert len(set(seen.tolist())) == plan.per_epoch * plan.batch_size
        assert plan.place(first) == (epoch, 0)


class Killed(Exception):
    """Stands for a kill at a moment between two steps."""


def run_until(
    step_to_die: int, train: PatchPixels, held_out: PatchPixels, recipe: Recipe, options: FitOptions
) -> None:
    def die(step: int, total: int, loss: float) -> None:
        if step == step_to_die:
            raise Killed

    with pytest.raises(Killed):
        fit_tiny(train, held_out, recipe, options, on_step=die)


@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_at_random_moments_ends_with_equal_bits(
    train: PatchPixels, held_out: PatchPixels, tmp_path: Path, seed: int
) -> None:
    recipe = replace(SHORT, seed=seed, patience=2)
    total = recipe.plan(len(train)).total
    undisturbed = fit_tiny(train, held_out, recipe)
    random = np.random.default_rng(seed)
    # Whether a checkpoint is written after each step or rarely must not matter either.
    options = FitOptions(
        torch.device("cpu"),
        checkpoint=tmp_path / "c.pt",
        resume=True,
        checkpoint_seconds=[0.0, 1e-3][seed % 2],
    )
    for step in sorted(random.integers(1, len(undisturbed.losses), size=2).tolist()):
        try:
            run_until(step, train, held_out, recipe, options)
        except pytest.fail.Exception:
            assert load_checkpoint(tmp_path / "c.pt").step in (total, len(undisturbed.losses))
    assert_equal(fit_tiny(train, held_out, recipe, options), undisturbed)
    # Done already: nothing is trained again.
    assert_equal(fit_tiny(train, held_out, recipe, options), undisturbed)


def test_a_process_killed_without_warning_resumes_to_equal_bits(
    train: PatchPixels, held_out: PatchPixels, tmp_path: Path
) -> None:
    program = textwrap.dedent(
        """
        import os, signal, sys, torch
        from pathlib import Path
        from tests.training.make_patches import TinyNetwork
        from tests.training.test_fit import SHORT
        from wsi_cam.training.fit import FitOptions, Normalisation, fit
        from wsi_cam.training.patches import read_patch_set
        from wsi_cam.training.pixels import PatchPixels
        pixels = [PatchPixels(read_patch_set(p), 32) for p in sys.argv[1:3]]
        options = FitOptions(torch.device("cpu"), checkpoint=Path(sys.argv[3]), checkpoint_seconds=0.0)
        def die(step, total, loss):
            if step == 12:
                os.kill(os.getpid(), signal.SIGKILL)
        fit(TinyNetwork(), *pixels, SHORT, Normalisation(), options, on_step=die)
        """
    )
    folders = [str(pixels.patches.path) for pixels in (train, held_out)]
    command = [sys.executable, "-c", program, *folders, str(tmp_path / "c.pt")]
    root = str(Path(__file__).parents[2])
    # Bits depend on the number of threads; the two processes must agree on it.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": root}
    died = subprocess.run(command, env={**os.environ, **threads}, timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL
    assert load_checkpoint(tmp_path / "c.pt").step == 11
    options = FitOptions(torch.device("cpu"), checkpoint=tmp_path / "c.pt", resume=True)
    assert_equal(fit_tiny(train, held_out, options=options), fit_tiny(train, held_out))


def test_early_stopping_keeps_the_best_weights(train: PatchPixels, tmp_path: Path) -> None:
    # Labels turned round: training can only make the loss on these pictures worse.
    wrong = PatchPixels(replace(train.patches, labels=1 - train.patches.labels), 32)
    recipe = Recipe(epochs=30, head_steps=5, batch_size=11, trunk_rate=0.02, head_rate=0.05, patience=2)
    fitted = fit_tiny(train, wrong, recipe)
    assert fitted.stopped_early
    looked = [entry["fit_loss"] for entry in fitted.history]
    assert len(looked) - 1 - int(np.argmin(looked)) == 2
    network = TinyNetwork()
    network.load_state_dict(fitted.weights)
    logits = predict_logits(network, wrong, Normalisation(), torch.device("cpu"))
    kept = nn.functional.cross_entropy(logits, torch.from_numpy(wrong.patches.labels))
    assert float(kept) == pytest.approx(min(looked), rel=1e-6)


def test_rare_classes_weigh_more() -> None:
    labels = np.repeat([0, 1], [30, 10]).astype(np.int64)
    weights = class_weights(labels, 2, Recipe())
    assert weights is not None
    torch.testing.assert_close(weights, torch.tensor([40 / 60, 40 / 20]))
    assert class_weights(labels, 2, Recipe(class_weights="none")) is None
    # Equal classes take the unweighted loss: the same numbers, to the bit.
    assert class_weights(labels[20:], 2, Recipe()) is None


class TestRefusing:
    def test_a_checkpoint_in_the_way(self, train: PatchPixels, tmp_path: Path) -> None:
        options = replace(CPU, checkpoint=tmp_path / "c.pt")
        fit_tiny(train, options=options)
        with pytest.raises(SettingsError, match=r"c\.pt: a run was begun here; give --resume"):
            fit_tiny(train, options=options)

    def test_a_checkpoint_of_other_settings(self, train: PatchPixels, tmp_path: Path) -> None:
        options = replace(CPU, checkpoint=tmp_path / "c.pt", resume=True)
        fit_tiny(train, options=options)
        with pytest.raises(SettingsError, match="was made with batch size 5, now 6"):
            fit_tiny(train, recipe=replace(SHORT, batch_size=6), options=options)

    def test_a_checkpoint_of_other_pictures(self, train: PatchPixels, tmp_path: Path) -> None:
        options = replace(CPU, checkpoint=tmp_path / "c.pt", resume=True)
        fit_tiny(train, options=options, run={"training pictures": "a"})
        with pytest.raises(SettingsError, match="training pictures 'a', now 'b'"):
            fit_tiny(train, options=options, run={"training pictures": "b"})

    def test_a_damaged_checkpoint(self, train: PatchPixels, tmp_path: Path) -> None:
        (tmp_path / "c.pt").write_bytes(b"PK nothing")
        with pytest.raises(ModelError, match=r"c\.pt: unreadable checkpoint"):
            fit_tiny(train, options=replace(CPU, checkpoint=tmp_path / "c.pt", resume=True))

    def test_weights_that_are_no_checkpoint(self, train: PatchPixels, tmp_path: Path) -> None:
        torch.save(TinyNetwork().state_dict(), tmp_path / "c.pt")
        with pytest.raises(ModelError, match=r"c\.pt: not a checkpoint of a training run"):
            fit_tiny(train, options=replace(CPU, checkpoint=tmp_path / "c.pt", resume=True))

    def test_a_place_that_cannot_be_written(self, train: PatchPixels, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(OutputError, match="cannot be written"):
            fit_tiny(train, options=replace(CPU, checkpoint=tmp_path / "file" / "c.pt"))

    def test_a_loss_that_is_not_finite(self, train: PatchPixels) -> None:
        with pytest.raises(SettingsError, match="lower the rates"):
            fit_tiny(train, recipe=replace(SHORT, trunk_rate=1e30, head_rate=1e30))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"batch_size": 0}, "batch size is 0"),
            ({"epochs": -1.0}, "epochs is -1"),
            ({"trunk_rate": float("nan")}, "trunk rate is nan"),
        ],
    )
    def test_settings_out_of_range(self, change: dict[str, float], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            replace(Recipe(), **change)  # type: ignore[arg-type]

    def test_nothing_to_do(self) -> None:
        with pytest.raises(SettingsError, match="0 training steps"):
            Recipe(epochs=0, head_steps=0).plan(10)


class TouchedBy:
    """Unpickling this runs a command: what a malicious file would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_malicious_checkpoint_is_refused_without_being_run(train: PatchPixels, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    torch.save({"network": TouchedBy(mark)}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match="unreadable checkpoint"):
        fit_tiny(train, options=replace(CPU, checkpoint=tmp_path / "c.pt", resume=True))
    assert not mark.exists()
    torch.load(tmp_path / "c.pt", weights_only=False)
    assert mark.exists(), "the file is harmless, so the test above shows nothing"
