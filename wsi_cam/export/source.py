"""What there is to export of one slide: its stored heatmaps, its table, its record, and the slide itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_cam.errors import OutputError, SettingsError, SlideError
from wsi_cam.export.class_colours import RGB
from wsi_cam.export.colour_maps import ColourScale, evidence_scale, probability_scale
from wsi_cam.export.origin import Origin
from wsi_cam.export.slide_view import SlideView
from wsi_cam.export.tables import PatchTable, read_patches_csv
from wsi_cam.geometry import Box, Level0, Mpp
from wsi_cam.heatmap.store import HeatmapStore, open_heatmap
from wsi_cam.process_list import read_process_list
from wsi_cam.run_folder import RunFolder, SlideFolder
from wsi_cam.slide_url import SlideUrl, located
from wsi_cam.slides.identity import slide_identity
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import Slide


@dataclass(frozen=True)
class ExportOptions:
    """What the caller may choose; an exporter takes what concerns it."""

    class_name: str | None = None
    """The class of regions and pictures; the one that the run looked for where None."""
    threshold: float = 0.5
    """Probability from which a place belongs to a region, between 0 and 1."""
    min_area_mm2: float = 0.0
    """Regions smaller than this are left out."""
    origin: Origin = "qupath"
    width: int = 1800
    """Width of the overview in pixels."""
    mpp: float = 2.0
    """Spacing of the overlay's pixels in um."""

    def __post_init__(self) -> None:
        def demand(ok: bool, name: str, rule: str) -> None:
            if not ok:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: it must be {rule}")

        demand(0 < self.threshold < 1, "threshold", "a probability between 0 and 1")
        demand(0 <= self.min_area_mm2 < float("inf"), "min_area_mm2", "an area in mm2, 0 or more")
        demand(self.origin in ("qupath", "level0"), "origin", "qupath or level0")
        demand(100 <= self.width <= 20_000, "width", "between 100 and 20000 pixels")
        demand(0.05 <= self.mpp <= 1000, "mpp", "a spacing between 0.05 and 1000 um/px")


@dataclass(frozen=True, eq=False)
class ExportSource:
    """One finished slide of a run. Everything is read when it is first asked for, and then kept.

    ``slide_path`` is where the slide was when it was classified; nothing but :meth:`opened` needs it.
    """

    sample_id: str
    files: SlideFolder
    slide_path: Path | SlideUrl
    record: dict[str, Any]
    """The content of ``slide.json``."""
    slide: Slide | None = None
    """The slide where it is open already; :meth:`opened` leaves it open then."""
    picture: SlideView | None = None
    """A view of the slide where one was read already, as ``origin="qupath"`` shows it."""
    patches: PatchTable | None = None
    """The table of patches where it is in memory already."""

    @cached_property
    def probability(self) -> HeatmapStore:
        return open_heatmap(self.files.probability_zarr)

    @cached_property
    def evidence(self) -> HeatmapStore:
        return open_heatmap(self.files.evidence_zarr)

    @cached_property
    def table(self) -> PatchTable:
        return self.patches or read_patches_csv(self.files.patches_csv)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.probability.channel_names

    @property
    def mpp(self) -> Mpp:
        """Spacing of the slide's level 0, um."""
        return self.probability.mpp

    @property
    def colours(self) -> dict[str, RGB]:
        """The colour of each class, as the run chose it."""
        return {channel.name: channel.color for channel in self.probability.channels}

    @property
    def bounds(self) -> Box[Level0] | None:
        """The scanned part of level 0, where the slide states one."""
        box = self.record["slide"].get("bounds")
        return None if box is None else Box(box["x"], box["y"], box["width"], box["height"])

    def class_name(self, options: ExportOptions) -> str:
        """The class to speak of. Raises SettingsError for one that the model does not know."""
        name = options.class_name or str(self.record["score"]["class"])
        if name not in self.class_names:
            known = ", ".join(self.class_names)
            raise SettingsError(f"class {name!r}: the model of {self.sample_id} knows {known}")
        return name

    def probability_scale(self, class_name: str) -> ColourScale:
        return probability_scale(class_name)

    def evidence_scale(self, class_name: str) -> ColourScale:
        """From 0 to the model's own scale, which the run wrote into the store."""
        store = self.evidence
        return evidence_scale(class_name, store.channels[store.channel_index(class_name)].window[1])

    @contextmanager
    def opened(self) -> Iterator[Slide]:
        """The slide, open inside of the block, read as the run read it.

        Raises SlideError naming the file where it is gone, cannot be read, or is another than was classified.
        """
        if self.slide is not None:
            yield self.slide
            return
        facts = self.record["slide"]
        if isinstance(self.slide_path, SlideUrl):
            raise SlideError(
                f"{self.slide_path}: the slide is remote, and its copy is gone; export formats that need no "
                "pixels, or copy it to this machine and run that copy"
            )
        if not self.slide_path.exists():
            raise SlideError(
                f"{self.slide_path}: the slide is not where it was classified; bring it back, or export "
                "formats that need no pixels"
            )
        recorded = facts.get("identity")
        if recorded is not None and recorded != slide_identity(self.slide_path):
            raise SlideError(
                f"{self.slide_path}: another file lies there now than was classified; "
                "bring the slide back or run it again"
            )
        with open_slide(self.slide_path, facts["reader"], self.mpp, facts["series"] or None) as slide:
            yield slide


def export_source(run: RunFolder, sample_id: str) -> ExportSource:
    """A finished slide of a run folder.

    Raises SettingsError for what cannot be an id, such as a path, and OutputError where there is no slide
    of that id or its record cannot be read.
    """
    if not is_slide_name(sample_id):
        raise SettingsError(f"{sample_id!r}: no name of a slide; give one of those in {run.path / 'slides'}")
    files = run.slide(sample_id)
    try:
        record = json.loads(files.slide_json.read_text(encoding="utf-8", errors="surrogateescape"))
        recorded = located(str(record["slide"]["path"]))
        _ = record["slide"]["reader"], record["slide"]["series"], record["score"]["class"]
    except FileNotFoundError as error:
        raise OutputError(
            f"{files.path}: no finished slide is there; see {run.process_list.name}, or run it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{files.slide_json}: not the record of a slide ({type(error).__name__}: {error}); "
            "run the slide again"
        ) from error
    return ExportSource(sample_id, files, _slide_path(run, sample_id, recorded), record)


def is_slide_name(sample_id: str) -> bool:
    """Whether a text can be the id of a slide: a visible file name, and no path that leads elsewhere."""
    return bool(sample_id) and not sample_id.startswith(".") and not set(sample_id) & {"/", "\\", "\0"}


def finished_samples(run: RunFolder) -> list[str]:
    """Ids of the slides that a run finished, sorted. Raises OutputError where the folder is no run's."""
    slides = run.path / "slides"
    if not slides.is_dir():
        raise OutputError(f"{run.path}: not the output folder of a run (it has no folder slides)")
    names = (folder.name for folder in slides.iterdir())
    # Hidden folders are results on their way in or out.
    return sorted(name for name in names if not name.startswith(".") and run.is_done(name))


def _slide_path(run: RunFolder, sample_id: str, recorded: Path | SlideUrl) -> Path | SlideUrl:
    """Where the slide lies; a path that was given relative to a folder long left is in the process list."""
    if isinstance(recorded, SlideUrl) or recorded.is_absolute():
        return recorded
    row = read_process_list(run.process_list).get(sample_id)
    return Path(row.image_path) if row is not None else recorded.absolute()
