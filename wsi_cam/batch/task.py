"""What passes between a batch and those who work on its slides: orders, answers, and who is told.

Everything here is plain data that travels as JSON or by pickling, and imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from wsi_cam.process_list import ProcessRow
from wsi_cam.result_identity import ModelFacts
from wsi_cam.settings import RunSettings
from wsi_cam.slide_url import SlideUrl, located

Redo = Literal["missing", "stale", "all"]
"""Which slides are computed: those without a result; also those with another one than asked for; all."""


@dataclass(frozen=True)
class BatchSetup:
    """What is the same for every slide of a batch."""

    output: Path
    """The run folder, absolute."""
    settings: RunSettings
    redo: Redo = "missing"
    stall_timeout_s: float | None = 600.0
    """A worker process that says nothing for so long is replaced; None waits for ever."""
    slide_timeout_s: float | None = None
    """A slide that takes longer than this fails."""

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "output": str(self.output), "settings": self.settings.as_dict()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        settings = RunSettings.from_dict(plain["settings"])
        return cls(**{**plain, "output": Path(plain["output"]), "settings": settings})


@dataclass(frozen=True)
class SlideTask:
    """One slide of a batch: ``number`` of ``total``, counted from 1."""

    number: int
    total: int
    sample_id: str
    path: Path | SlideUrl
    """Absolute."""
    mpp: float | None = None
    """Spacing that the manifest gives this slide, um/px."""
    tissue: Path | None = None
    """Regions that the manifest gives this slide."""
    patient_id: str = ""
    label: str = ""

    def settings(self, common: RunSettings) -> RunSettings:
        """The batch's settings with what the manifest says of this slide."""
        return replace(common, mpp=self.mpp or common.mpp, tissue=self.tissue or common.tissue)

    def row(self, status: str, error: str = "") -> ProcessRow:
        """A line of the process list for this slide; ``error`` without the line breaks of a file's name."""
        return ProcessRow(
            self.sample_id,
            str(self.path),
            status,
            " ".join(error.split()),
            patient_id=self.patient_id,
            label=self.label,
        )

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path), "tissue": str(self.tissue) if self.tissue else None}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        tissue = Path(plain["tissue"]) if plain["tissue"] else None
        return cls(**{**plain, "path": located(plain["path"]), "tissue": tissue})


@dataclass(frozen=True)
class SlideOutcome:
    """What became of a slide in this run.

    ``done`` was computed now; ``failed`` has its reason in ``row.error``; ``skipped`` and ``stale`` have an
    older result, which is what is asked for or is not.
    """

    kind: Literal["done", "failed", "skipped", "stale"]
    row: ProcessRow
    note: str = ""
    """What else a person should know, such as why a result is stale."""
    device_waited_s: float = 0.0
    """How long the network waited for pixels."""
    reading_waited_s: float = 0.0
    """How long pixels that were ready waited for the network."""
    resumed_at: int = 0
    """Patches that an earlier run had done already."""

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "row": asdict(self.row)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        return cls(**{**plain, "row": ProcessRow(**plain["row"])})


class Stop:
    """Whether a batch has been asked to stop; safe to set from a signal handler or another thread."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self) -> None:
        """Once: stop as soon as what is done can be kept. Twice: at once."""
        self.asked += 1

    @property
    def requested(self) -> bool:
        return self.asked > 0

    @property
    def forced(self) -> bool:
        return self.asked > 1


class Progress(Protocol):
    """Told what happens; :class:`wsi_cam.cli.progress.TerminalProgress` shows it.

    Several slides may be under way at once.
    """

    def slide_started(self, task: SlideTask) -> None: ...

    def patches_done(self, task: SlideTask, done: int, total: int) -> None:
        """``total`` is 0 while the slide is being fetched: it goes on, and no more is known."""
        ...

    def slide_ended(self, task: SlideTask, outcome: SlideOutcome) -> None: ...

    def note(self, text: str) -> None:
        """Something that concerns no one slide, such as a worker process that is replaced."""
        ...


class Silent:
    """A :class:`Progress` that nobody watches."""

    def slide_started(self, task: SlideTask) -> None: ...
    def patches_done(self, task: SlideTask, done: int, total: int) -> None: ...
    def slide_ended(self, task: SlideTask, outcome: SlideOutcome) -> None: ...
    def note(self, text: str) -> None: ...


class Engine(Protocol):
    """Where the slides of a batch are worked on: this process, another one, a cluster."""

    def start(self) -> None:
        """Begin to load, without waiting for it."""
        ...

    def ready(self, stop: Stop) -> ModelFacts:
        """Wait until slides can be taken. Raises Interrupted, or the WsiCamError by which none can."""
        ...

    def run(
        self, tasks: Iterable[SlideTask], progress: Progress, stop: Stop
    ) -> Iterator[tuple[SlideTask, SlideOutcome]]:
        """Each task with what became of it, in the order in which they end.

        ``tasks`` is consumed as slides are needed; looking at the next ones ahead of time is welcome. The
        engine says ``slide_started`` and ``patches_done``; the caller says ``slide_ended``. Raises
        Interrupted where ``stop`` was asked and slides were left undone, OutputError where results
        cannot be written any more. A slide's own failure is an outcome, never an error.
        """
        ...

    def close(self) -> None:
        """Let go of everything; may be called at any time, and again."""
        ...
