"""What a run folder holds of a slide already, and whether that is what is asked for now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wsi_cam.batch.fetching import remote_facts
from wsi_cam.batch.locks import try_slide_lock
from wsi_cam.batch.task import Redo, SlideOutcome, SlideTask
from wsi_cam.errors import SettingsError, SlideError, one_line
from wsi_cam.process_list import ProcessRow
from wsi_cam.result_identity import RECORD_KEY, ModelFacts, differences, result_identity
from wsi_cam.run_folder import RunFolder
from wsi_cam.settings import RunSettings
from wsi_cam.slides.identity import slide_identity


@dataclass(frozen=True)
class SlideState:
    """What there is of a slide. ``note`` says why it failed before or is stale, or what is lacking."""

    kind: Literal["missing", "failed before", "stale", "done"]
    note: str = ""
    patches: int = 0
    unread: int = 0

    def is_wanted(self, redo: Redo) -> bool:
        """Whether a run computes the slide."""
        if self.kind == "done":
            return redo == "all"
        return self.kind != "stale" or redo != "missing"

    def outcome(self, task: SlideTask) -> SlideOutcome:
        """What a run says of a slide that it leaves as it is."""
        row = ProcessRow(
            **{**vars(task.row("done")), "patches": self.patches, "unread": self.unread},
        )
        return SlideOutcome("stale" if self.kind == "stale" else "skipped", row, self.note)


def examine(
    folder: RunFolder,
    task: SlideTask,
    model: ModelFacts,
    settings: RunSettings,
    row: ProcessRow | None = None,
) -> SlideState:
    """The state of a slide; ``settings`` are the batch's, ``row`` is its line of the process list.

    The slide itself is looked at only where there is a result to compare it with; one that is named by a
    URL is not fetched for that: what its source says of it now is compared with what it said then.
    """
    files = folder.slide(task.sample_id)
    if not folder.is_done(task.sample_id):
        if row is not None and row.status == "failed":
            return SlideState("failed before", row.error)
        return SlideState("missing")
    try:
        record = json.loads(files.slide_json.read_text(encoding="utf-8", errors="surrogateescape"))
        patches, unread = int(record["patches"]["planned"]), int(record["patches"]["unread"])
        exported = set(record["settings"]["requested"]["export"])
    except (OSError, ValueError, KeyError, TypeError):
        return SlideState("stale", "its slide.json cannot be read")
    try:
        now = result_identity(_slide_now(task, record), model, task.settings(settings))
    except SlideError as error:
        # A slide that was archived after it was classified has lost nothing.
        return SlideState("done", f"the slide cannot be compared: {one_line(error)}", patches, unread)
    except SettingsError as error:
        return SlideState("stale", one_line(error), patches, unread)
    if changes := differences(record.get(RECORD_KEY), now):
        return SlideState("stale", "; ".join(changes), patches, unread)
    return SlideState(
        "done", _lacking(folder, task, record, set(settings.export) - exported), patches, unread
    )


def _slide_now(task: SlideTask, record: dict[str, Any]) -> dict[str, Any]:
    """The identity of the slide; that of the record for a remote slide which has not changed since."""
    if isinstance(task.path, Path):
        return dict(slide_identity(task.path))
    facts = remote_facts(task.path)
    slide, identity = record.get("slide"), record.get(RECORD_KEY)
    if isinstance(slide, dict) and isinstance(identity, dict) and slide.get("remote") == facts:
        return dict(identity.get("slide", {}))
    return facts


def settled(
    folder: RunFolder, task: SlideTask, model: ModelFacts, settings: RunSettings, state: SlideState
) -> SlideState:
    """The state of a slide with a result, once what a killed run left beside that is brought to its end.

    What had been begun is removed where the result is what is asked for. Beside a stale one it stays: the
    run that was killed was about to replace it. Raises OutputError.
    """
    if not folder.has_leftovers(task.sample_id):
        return state
    lock = try_slide_lock(folder.path, task.sample_id)
    if lock is None:  # no leftovers: somebody is at work on it
        return state
    try:
        folder.settle(task.sample_id)
        state = examine(folder, task, model, settings)
        if state.kind == "done":
            folder.discard_growing(task.sample_id)
    finally:
        lock.release()
    return state


def _lacking(folder: RunFolder, task: SlideTask, record: dict[str, Any], formats: set[str]) -> str:
    """Formats that are asked for and not there, and the command that writes them from what is stored."""
    if not formats:
        return ""
    from wsi_cam.export.exporters import EXPORTERS

    here = folder.slide(task.sample_id).path
    absent = [n for n in sorted(formats) if not any(any(here.glob(p)) for p in EXPORTERS[n].files)]
    if not absent:
        return ""
    return (
        f"already done, without {', '.join(absent)}; to write that: "
        f"wsi-cam export {folder.path} --format {' '.join(absent)}"
    )
