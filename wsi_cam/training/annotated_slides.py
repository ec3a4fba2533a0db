"""Labelled patches out of slides on which somebody has drawn regions.

The slides are tiled like those of a run, at the model's size and spacing; a patch takes the class that covers
at least half of what its label speaks of (the whole patch, or its central square). The patches are
written as PNG with a CSV, so they can be looked at, and everything after is as for any other patches.
"""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.errors import DataError, SlideError, TissueError
from wsi_cam.inputs import SlideInput, assign_sample_ids, safe_name
from wsi_cam.loader import PatchReader
from wsi_cam.publishing import published_folder
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import Slide, require_mpp
from wsi_cam.slides.thumbnail import read_thumbnail
from wsi_cam.tiling.patch_plan import PatchPlan, plan_patches
from wsi_cam.tiling.roi import mask_from_polygons
from wsi_cam.tiling.tissue import TissueMask, find_tissue
from wsi_cam.training.annotations import Regions, read_annotations
from wsi_cam.training.slide_manifest import AnnotatedSlide, read_slide_manifest

_log = logging.getLogger(__name__)

#: Share of the label region that the annotation of a class must cover.
MIN_COVERED = 0.5
#: Smallest share of tissue in a patch: regions are drawn wide, and glass must not be learned as a class.
MIN_TISSUE = 0.5


@dataclass(frozen=True)
class CuttingSettings:
    """``class_names``: cut only these; ``max_patches``: of each class and slide at most, 0 for all."""

    size_px: int
    mpp_um: float
    label_region_px: int | None = None
    class_names: tuple[str, ...] | None = None
    max_patches: int = 0
    seed: int = 0


def cut_annotated_slides(
    manifest: Path,
    folder: Path,
    settings: CuttingSettings,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``folder``/CLASS/PATCH.png and ``folder``/patches.csv, whose path is returned.

    The folder appears complete; one that is there is replaced. ``on_progress`` counts slides. Raises
    DataError where annotations cannot be used or give no patch, SlideError and SpacingError for slides,
    OutputError where the folder cannot be written.
    """
    slides = read_slide_manifest(manifest)
    ids = [name for name, _ in assign_sample_ids([SlideInput(path=s.image_path) for s in slides], {})]
    rows: list[dict[str, str]] = []
    with published_folder(folder, "choose another -o") as partial:
        for number, (sample_id, slide) in enumerate(zip(ids, slides, strict=True), start=1):
            rows += _cut_slide(sample_id, slide, partial, settings)
            if on_progress is not None:
                on_progress(number, len(slides))
        if not rows:
            raise DataError(
                f"{manifest}: no patch lies in an annotated region; are --size-px and --mpp right?"
            )
        with (partial / "patches.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return folder / "patches.csv"


def _cut_slide(
    sample_id: str, annotated: AnnotatedSlide, folder: Path, settings: CuttingSettings
) -> list[dict[str, str]]:
    with open_slide(annotated.image_path, mpp=annotated.mpp) as slide:
        regions = _regions_on(slide, annotated.annotations, settings.class_names)
        if not regions:
            return []
        plan = _plan(slide, regions, settings, str(annotated.annotations))
        if plan is None:
            return []
        class_of = label_patches(plan, regions, settings.label_region_px)
        chosen = _chosen(class_of, settings)
        _log.info("%s: %s", annotated.image_path, dict(Counter(class_of[i] for i in chosen)))
        return _write_patches(slide, plan, chosen, class_of, sample_id, annotated, folder)


def _regions_on(slide: Slide, annotations: Path, class_names: Sequence[str] | None) -> Regions:
    """Regions in level-0 pixels, of these classes only where any are named."""
    regions = read_annotations(annotations)
    others = [] if class_names is None else [name for name in regions if name not in class_names]
    if others:
        _log.warning(
            "%s: class %s is none of those asked for and is left out", annotations, ", ".join(others)
        )
    bounds = slide.info.bounds
    if bounds is not None and annotations.suffix.lower() != ".xml":
        # QuPath shows, and writes coordinates of, the part of the slide inside its bounds.
        corner = np.array([bounds.x, bounds.y])
        regions = {name: shapely.transform(area, lambda xy: xy + corner) for name, area in regions.items()}
    return {name: area for name, area in regions.items() if name not in others}


def _plan(slide: Slide, regions: Regions, settings: CuttingSettings, source: str) -> PatchPlan | None:
    """Patches on tissue inside any region; None, with a warning, where there are none."""
    info, mpp = slide.info, require_mpp(slide.info)
    thumbnail, to_level0 = read_thumbnail(slide, mpp)
    try:
        tissue = find_tissue(thumbnail, to_level0, mpp)
        drawn = mask_from_polygons(list(shapely.get_parts(list(regions.values()))),
                                   tissue.mask.shape, to_level0, source)  # fmt: skip
        return plan_patches(
            TissueMask(tissue.mask & drawn.mask, to_level0, f"tissue inside {source}"),
            info.size,
            mpp,
            [level.to_level0 for level in info.levels],
            settings.size_px,
            settings.mpp_um,
            min_tissue=MIN_TISSUE,
        )
    except TissueError as reason:
        _log.warning("%s: no patches (%s)", info.path, reason)
        return None


def label_patches(plan: PatchPlan, regions: Regions, label_region_px: int | None = None) -> list[str]:
    """Class of every patch of a plan, "" where no class or more than one covers half of its label region.

    ``regions`` are in level-0 pixels. The label region is the central square of ``label_region_px`` model
    pixels, or the whole patch.
    """
    patch = np.array(plan.patch_level0)
    side = patch if label_region_px is None else patch * (label_region_px / plan.size_px)
    corner = plan.level0_xy + (patch - side) / 2
    squares = shapely.box(*corner.T, *(corner + side).T)
    covered = np.stack([covered_share(squares, area) for area in regions.values()])
    winners = covered >= MIN_COVERED
    names = [*regions]
    return [names[int(np.argmax(w))] if w.sum() == 1 else "" for w in winners.T]


def covered_share(squares: NDArray[np.object_], area: shapely.MultiPolygon) -> NDArray[np.float64]:
    """Share of each square that lies in the area."""
    share = np.zeros(len(squares))
    shapely.prepare(area)
    touched = shapely.intersects(area, squares)
    inside = touched & shapely.contains(area, squares)
    share[inside] = 1.0
    edge = touched & ~inside
    share[edge] = shapely.area(shapely.intersection(squares[edge], area)) / shapely.area(squares[edge])
    return share


def _chosen(class_of: Sequence[str], settings: CuttingSettings) -> NDArray[np.int64]:
    """Labelled patches in the plan's order, at most ``max_patches`` of each class, drawn at random."""
    generator = np.random.default_rng(settings.seed)
    chosen = []
    for name in sorted(set(class_of) - {""}):
        members = np.flatnonzero(np.array(class_of) == name)
        if 0 < settings.max_patches < len(members):
            members = generator.choice(members, settings.max_patches, replace=False)
        chosen.append(members)
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def _write_patches(
    slide: Slide,
    plan: PatchPlan,
    chosen: NDArray[np.int64],
    class_of: Sequence[str],
    sample_id: str,
    annotated: AnnotatedSlide,
    folder: Path,
) -> list[dict[str, str]]:
    reader = PatchReader(slide, plan, plan.level_to_level0)
    rows = []
    for i in chosen:
        x, y = plan.level0_xy[i].round().astype(int)
        name = f"{safe_name(class_of[i])}/{sample_id}_{x}_{y}.png"
        try:
            image = reader.read(np.array([i]))[0]
        except SlideError as reason:
            _log.warning("%s: a patch is left out (%s)", annotated.image_path, reason)
            continue
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / name, compress_level=1)
        row = {"path": name, "label": class_of[i], "group": annotated.group}
        rows.append(row if annotated.split is None else {**row, "split": annotated.split})
    return rows
