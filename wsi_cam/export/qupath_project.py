"""A QuPath project that points at the slides of a run, with the scripts that bring the results in.

``project.qpproj`` is plain JSON. Objects cannot be put into it from outside (QuPath keeps them as
serialised Java), so a script imports them; it knows a slide by the number of its entry, which
``results.json`` maps to the sample. No times: equal runs in one place give equal projects.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from wsi_cam.errors import OutputError
from wsi_cam.export.source import ExportSource
from wsi_cam.publishing import published
from wsi_cam.run_folder import RunFolder
from wsi_cam.slide_url import SlideUrl
from wsi_cam.slides.openslide_reader import detect_vendor

log = logging.getLogger(__name__)

SCRIPTS = ("import_results.groovy", "show_heatmap.groovy", "measurement_maps.groovy")

_IDS = UUID("5d1f3f0e-0b53-5b7e-9a57-6f1a4f2f0f52")
#: The version whose readers the file was checked with.
_QUPATH_VERSION = "0.7.0"
_OPENSLIDE = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"
_BIOFORMATS = "qupath.lib.images.servers.bioformats.BioFormatsServerBuilder"


def qupath_folder(run: RunFolder) -> Path:
    """The folder of the run's QuPath project."""
    return run.path / "qupath"


def write_qupath_project(run: RunFolder, sources: Iterable[ExportSource]) -> Path:
    """Write ``qupath/project.qpproj``, ``qupath/results.json`` and the scripts; gives the project file back.

    A project that is there already is added to: entries keep their numbers, names and data, also those that a
    user added; a slide that moved gets its new address. Raises OutputError where the folder cannot be
    written or what is there is no project.
    """
    folder = qupath_folder(run)
    path = folder / "project.qpproj"
    project = _read(path) if path.exists() else _new_project()
    results_path = folder / "results.json"
    samples: dict[str, str] = _read(results_path)["samples"] if results_path.exists() else {}
    numbers = {sample_id: number for number, sample_id in samples.items()}
    entries: dict[str, dict[str, Any]] = {str(entry["entryID"]): entry for entry in project["images"]}
    for source in sorted(sources, key=lambda source: source.sample_id):
        if isinstance(source.slide_path, SlideUrl):
            log.warning("%s: not in the QuPath project: the slide is remote", source.slide_path)
            continue
        entry = entries.get(numbers.get(source.sample_id, ""))
        builder = _server_builder(source, source.slide_path)
        if entry is None:
            project["lastID"] += 1
            entry = _new_entry(project["lastID"], source, builder)
            entries[str(entry["entryID"])] = entry
            numbers[source.sample_id] = str(entry["entryID"])
        elif _points_elsewhere(entry["serverBuilder"], builder):
            entry["serverBuilder"] = builder
    project["images"] = list(entries.values())
    project["uri"] = _uri(path)
    # The list of samples first: an entry without its sample is only left alone by the scripts.
    by_number = {number: sample_id for sample_id, number in sorted(numbers.items(), key=lambda n: int(n[1]))}
    _write(results_path, {"samples": by_number})
    _write(path, project)
    for name in SCRIPTS:
        script = resources.files("wsi_cam.export").joinpath("qupath_scripts", name).read_bytes()
        with published(folder / "scripts" / name) as partial:
            partial.write_bytes(script)
    return path


def _new_project() -> dict[str, Any]:
    return {
        "version": _QUPATH_VERSION,
        "createTimestamp": 0,
        "modifyTimestamp": 0,
        "uri": "",
        "lastID": 0,
        "images": [],
    }


def _new_entry(number: int, source: ExportSource, builder: dict[str, Any]) -> dict[str, Any]:
    score = source.record["score"]
    return {
        "serverBuilder": builder,
        "entryID": number,
        "randomizedName": str(uuid5(_IDS, source.sample_id)),
        "imageName": source.sample_id,
        "metadata": {f"wsi_cam score ({score['class']})": f"{score['value']:.4f}"},
    }


def _server_builder(source: ExportSource, slide: Path) -> dict[str, Any]:
    """How QuPath opens the slide: with the library whose pixels and bounds the coordinates were made for."""
    facts = source.record["slide"]
    if _openslide_reads(facts, slide):
        provider, arguments = _OPENSLIDE, []
    else:
        provider, arguments = _BIOFORMATS, ["--series", str(facts["series"])]
    return {
        "builderType": "uri",
        "providerClassName": provider,
        "uri": _uri(_entry_file(slide)),
        "args": arguments,
    }


def _points_elsewhere(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether an entry is a plain address other than ``new``'s; Java writes file:/ for our file:///."""
    addresses = [str(builder.get("uri", "")).removeprefix("file:").lstrip("/") for builder in (old, new)]
    return old["builderType"] == "uri" and addresses[0] != addresses[1]


def _openslide_reads(facts: dict[str, Any], path: Path) -> bool:
    if facts["reader"] == "openslide":
        return True
    if facts["vendor"] != "generic-tiff":
        return bool(facts["vendor"] != "ome-tiff")
    # Our own reader took it; whether OpenSlide would, too, can be asked where the slide is at hand.
    return not path.exists() or detect_vendor(path) is not None


def _entry_file(path: Path) -> Path:
    """The file that stands for a slide: one of its folder where the slide is a folder of DICOM files."""
    if not path.is_dir():
        return path
    return next((file for file in sorted(path.iterdir()) if file.suffix.lower() == ".dcm"), path)


def _uri(path: Path) -> str:
    """``file:///...`` of the absolute path, as Java and QuPath read it."""
    return Path(os.path.abspath(path)).as_uri()


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".qpproj":
            content["lastID"] = max(
                [int(content.get("lastID", 0)), *(int(entry["entryID"]) for entry in content["images"])]
            )
            _ = [entry["serverBuilder"]["builderType"] for entry in content["images"]]
        elif not all(isinstance(sample, str) for sample in content["samples"].values()):
            raise ValueError("samples are no texts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{path}: cannot be added to ({type(error).__name__}: {error}); move it away and export again"
        ) from error
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    with published(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
