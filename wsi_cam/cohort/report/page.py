"""``report.html``: what the template is given, and how page and pictures appear in the run folder."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wsi_cam import __version__
from wsi_cam.cohort.gathering import PENDING, Cohort, SlideSummary
from wsi_cam.cohort.report.pictures import thumbnail
from wsi_cam.cohort.report.plots import draw, kind_of
from wsi_cam.publishing import published
from wsi_cam.run_folder import RunFolder

#: Small pictures of this many bytes in all are kept inside of the page; more lie in a folder beside it.
EMBEDDED_BYTES = 1_500_000
#: Settings and versions that the page names; slide.json has all of them.
_SETTINGS = ("overlap", "stride_px", "min_tissue", "target_layer", "method", "device", "threads")
_VERSIONS = ("wsi-cam", "python", "torch", "numpy", "openslide-bin")
_PARTS = Path(__file__).parent
_DECODERS = 2  # pictures are decoded outside of Python's lock


@dataclass(frozen=True)
class Picture:
    """A patch picture that a run left: where it is, and its place among those of its class."""

    url: str
    place: int


@dataclass(frozen=True)
class SlidePage:
    """What the template needs of a slide beside its numbers; links are relative to the page, None where
    nothing is there.
    """

    slide: SlideSummary
    kind: str
    thumbnail: str | None
    overview: str | None
    tissue: str | None
    folder: str | None
    log: str | None
    patches: dict[str, list[Picture]]
    """Of the patches with the highest probability of each class, the target class first."""


def write_report(run: RunFolder, cohort: Cohort, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write ``report.html`` into the run folder, and ``report_files/`` where the pictures are many.

    The page appears whole or not at all; an older one stays until then. Raises OutputError.
    """
    path, beside = run.path / "report.html", run.path / "report_files"
    pictures: dict[str, bytes] = {}
    with ThreadPoolExecutor(_DECODERS) as decoders:
        made = decoders.map(partial(thumbnail, run), cohort.slides)
        for number, (slide, picture) in enumerate(zip(cohort.slides, made, strict=True), start=1):
            if picture is not None:
                pictures[slide.sample_id] = picture
            if progress:
                progress(number, len(cohort.slides))
    if sum(map(len, pictures.values())) <= EMBEDDED_BYTES:
        urls = {name: _embedded(picture) for name, picture in pictures.items()}
    else:
        urls = {name: _beside(beside / f"{name}.jpg", picture) for name, picture in pictures.items()}
    pages = [_slide_page(run, slide, urls.get(slide.sample_id)) for slide in cohort.slides]
    text = render(run, cohort, pages)
    with published(path) as partial_path:
        # Names of files need not be text that UTF-8 can say.
        partial_path.write_bytes(text.encode("utf-8", "replace"))
    _remove_others(beside, {f"{name}.jpg" for name, url in urls.items() if not url.startswith("data:")})
    return path


def render(run: RunFolder, cohort: Cohort, pages: list[SlidePage]) -> str:
    """The page as text. Everything that comes from outside is escaped by the template engine."""
    environment = Environment(
        loader=FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"mm2": area_text, "mm": length_text, "percent": percent_text}
    script = (_PARTS / "report.js").read_text(encoding="utf-8")
    # The page may run this script and no other: what a name might smuggle in stays text.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    target = {slide.target_class for slide in cohort.measured}
    return environment.get_template("report.html.jinja").render(
        cohort=cohort,
        pages=pages,
        measured=[page for page in pages if page.slide.numbers is not None],
        failed=[page for page in pages if page.slide.numbers is None and page.slide.status != PENDING],
        pending=[page for page in pages if page.slide.numbers is None and page.slide.status == PENDING],
        plots=draw(cohort),
        target=target.pop() if len(target) == 1 else "class",
        run_name=run.path.absolute().name,
        last_run=_last_run(run),
        models=_models(cohort),
        score_rule=next((each.record["score"].get("rule") for each in cohort.measured), None),
        version=__version__,
        labels=sorted({slide.label for slide in cohort.slides if slide.label}),
        size_classes=_size_classes(cohort),
        script=Markup(script),
        style=Markup((_PARTS / "report.css").read_text(encoding="utf-8")),
        script_hash=Markup(f"sha256-{digest}"),
    )


def _slide_page(run: RunFolder, slide: SlideSummary, thumbnail_url: str | None) -> SlidePage:
    """Links to what is there of a slide."""
    files = run.slide(slide.sample_id)

    def link(path: Path) -> str | None:
        return _url(path.relative_to(run.path)) if path.exists() else None

    measured = slide.numbers is not None
    tissue = files.tissue_png if measured else run.failed_tissue_png(slide.sample_id)
    return SlidePage(
        slide,
        kind_of(slide),
        thumbnail_url,
        link(files.overview_png) if measured else None,
        link(tissue),
        link(files.path),
        link(run.log(slide.sample_id)),
        _patch_pictures(run, slide),
    )


def _patch_pictures(run: RunFolder, slide: SlideSummary) -> dict[str, list[Picture]]:
    """By class; the files are ``<number of the class>_<its name, made safe>_<place>.png``."""
    names = list(slide.numbers.classes) if slide.numbers else []
    found: dict[str, list[Picture]] = {}
    for name in sorted(names, key=lambda name: name != slide.target_class):
        files = run.slide(slide.sample_id).patch_pictures.glob(f"{names.index(name)}_*_*.png")
        places = {int(path.stem.rsplit("_", 1)[1]): path for path in files if path.stem[-1].isdecimal()}
        if places:
            found[name] = [Picture(_url(places[at].relative_to(run.path)), at) for at in sorted(places)]
    return found


def _size_classes(cohort: Cohort) -> list[str]:
    """Those that occur, from the largest."""
    present = {slide.size_class for slide in cohort.measured if slide.size_class}
    ordered = [each.name for each in reversed(cohort.preset.size_classes)] if cohort.preset else []
    return sorted(present, key=lambda name: ordered.index(name) if name in ordered else len(ordered))


def _models(cohort: Cohort) -> list[dict[str, Any]]:
    """Each model that looked at slides, with how many, and what the first of them records of it."""
    models: dict[str, dict[str, Any]] = {}
    for slide in cohort.measured:
        model, settings = slide.record["model"], slide.record["settings"]["effective"]
        facts = {
            "name": model.get("name", "unnamed"),
            "hash": (model.get("bundle_hash") or "")[:12],
            "patch_size_px": model["patch_size_px"],
            "mpp_um": model["mpp_um"],
            "label_region_px": model.get("label_region_px"),
            "settings": {name: settings[name] for name in _SETTINGS if name in settings},
            "versions": {
                name: version
                for name, version in dict(slide.record.get("versions") or {}).items()
                if name in _VERSIONS
            },
        }
        known = models.setdefault(model.get("bundle_hash", facts["name"]), {**facts, "slides": 0})
        known["slides"] += 1
    return list(models.values())


def _last_run(run: RunFolder) -> dict[str, str]:
    """What ``run.json`` says of the last run, in words; empty where it is not there or cannot be read."""
    try:
        content = json.loads(run.run_json.read_text(encoding="utf-8"))
        facts = {name: str(content.get(name) or "") for name in ("started", "ended", "device")}
        return facts | {"command": " ".join(map(str, content.get("command") or []))}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _url(relative: Path) -> str:
    return quote(os.fsencode(relative.as_posix()))


def _embedded(picture: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def _beside(path: Path, picture: bytes) -> str:
    with published(path) as partial_path:
        partial_path.write_bytes(picture)
    return _url(Path(path.parent.name) / path.name)


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Pictures of slides that are no longer there; the folder too, where none is left."""
    if not folder.is_dir():
        return
    for path in folder.glob("*.jpg"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def area_text(mm2: float) -> str:
    """Three decimals for what is small, fewer for what is large."""
    if 0 < mm2 < 0.0005:
        return "<0.001"
    return f"{mm2:.3f}" if mm2 < 10 else f"{mm2:.1f}"


def length_text(mm: float) -> str:
    return f"{mm:.2f}" if mm < 100 else f"{mm:.0f}"


def percent_text(share: float) -> str:
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %"
