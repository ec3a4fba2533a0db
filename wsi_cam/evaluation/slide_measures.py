"""What one slide adds to the figures: counts and hits, small enough to keep for a thousand slides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.evaluation.counts import ScoreCounts, count_probabilities, no_counts
from wsi_cam.evaluation.detections import LEAST_PROBABILITY, NMS_UM, find_detections
from wsi_cam.evaluation.lesions import Hits, find_lesions, match
from wsi_cam.evaluation.truth import Truth
from wsi_cam.export.source import ExportSource
from wsi_cam.export.tables import PatchTable
from wsi_cam.geometry import Affine, Heatmap, Level0, Size
from wsi_cam.training.annotated_slides import MIN_COVERED
from wsi_cam.training.calibration import N_BINS


@dataclass(frozen=True)
class MeasuringSettings:
    """``threshold``: probability from which a pixel is called target, for Dice and IoU; ``nms_um`` and
    ``least_probability``: window and least probability of detections."""

    threshold: float = 0.5
    nms_um: float = NMS_UM
    least_probability: float = LEAST_PROBABILITY


@dataclass(frozen=True, eq=False)
class SlideMeasures:
    """Counts over the patches and pixels of a slide with known truth."""

    patches: ScoreCounts
    """Patches by probability; positive where half of the label region is target. Unread ones are unseen."""
    reliability: NDArray[np.float64]
    """(3, N_BINS) over equal bins of probability: patches, their summed probability, positive ones."""
    pixels: ScoreCounts
    """Heatmap pixels by probability; positive where the pixel's centre is target."""
    overlap: NDArray[np.float64]
    """(3,) pixels at the threshold: called rightly, called wrongly, missed."""
    hits: Hits
    unseen_target: int
    """Pixels of the target that no patch covered: they count as missed."""


def measure_slide(
    source: ExportSource, truth: Truth, class_name: str, settings: MeasuringSettings
) -> SlideMeasures:
    """Measure a finished slide. Heatmaps are read band by band. Raises OutputError for damaged results."""
    store = source.probability
    channel = store.channel_index(class_name)
    patches, reliability = count_patches(source.table, source.record, truth, class_name)
    pixels, overlap = count_pixels(source, channel, truth, settings.threshold)
    detections = find_detections(store, channel, settings.nms_um, settings.least_probability)
    hits = match(detections, find_lesions(truth, store.mpp))
    return SlideMeasures(patches, reliability, pixels, overlap, hits, int(pixels.positive[0]))


def count_patches(
    table: PatchTable, record: dict[str, object], truth: Truth, class_name: str
) -> tuple[ScoreCounts, NDArray[np.float64]]:
    """Counts of a slide's patches, and their calibration; the model's card says what a label speaks of."""
    positive = truth.share(label_regions(table, record)) >= MIN_COVERED
    probability = table.probabilities[:, table.class_names.index(class_name)]
    seen = ~np.isnan(probability)
    p, is_target = probability[seen].astype(np.float64), positive[seen].astype(np.float64)
    bins = np.minimum((p * N_BINS).astype(np.int64), N_BINS - 1)
    weights = (np.ones_like(p), p, is_target)
    sums = [np.bincount(bins, weights=w, minlength=N_BINS).astype(np.float64) for w in weights]
    return count_probabilities(probability, positive), np.stack(sums)


def label_regions(table: PatchTable, record: dict[str, object]) -> NDArray[np.float64]:
    """(n, 4): left, top, right, bottom of what each patch's label speaks of, in level-0 pixels."""
    model = record["model"]
    facts = model if isinstance(model, dict) else {}
    patch_px = float(facts.get("patch_size_px") or 1)
    share = float(facts.get("label_region_px") or patch_px) / patch_px
    patch = np.array(table.patch_level0)
    corner = table.level0_xy + patch * (1 - share) / 2
    return np.concatenate([corner, corner + patch * share], axis=1)


def count_pixels(
    source: ExportSource, channel: int, truth: Truth, threshold: float
) -> tuple[ScoreCounts, NDArray[np.float64]]:
    """Counts of a slide's heatmap pixels, and (rightly called, wrongly called, missed) at the threshold."""
    store = source.probability
    to_level0 = store.to_level0
    counts, overlap = no_counts(), np.zeros(3)
    for first_row, band in store.iter_bands(0, [channel]):
        probability = band[0]
        rows = Affine[Heatmap, Level0](
            to_level0.scale_x,
            to_level0.scale_y,
            to_level0.offset_x,
            to_level0.offset_y + first_row * to_level0.scale_y,
        )
        target = truth.raster(rows, Size(probability.shape[1], probability.shape[0]))
        counts += count_probabilities(probability.ravel(), target.ravel())
        called = probability >= threshold  # never true for NaN
        overlap += [(called & target).sum(), (called & ~target).sum(), (target & ~called).sum()]
    return counts, overlap
