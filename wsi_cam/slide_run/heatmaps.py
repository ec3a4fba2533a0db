"""Probability and evidence of one slide, laid back onto it band by band."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_cam.geometry import Affine, Heatmap, Level0, Size
from wsi_cam.heatmap.resample import BandResampler, resampled_grid
from wsi_cam.heatmap.stitcher import BandStitcher
from wsi_cam.heatmap.store import HeatmapWriter
from wsi_cam.slide_run.job import SlideJob
from wsi_cam.slide_run.journal import SeenBatch

#: Rows without patches, in heights of a patch's map, that a stitcher is not left to hold.
_LEAP_MAPS = 4


class SlideHeatmaps:
    """Both stores of a slide while they grow. Patches must come in the order of the plan."""

    def __init__(self, job: SlideJob, probability: Path, evidence: Path, provenance: dict[str, Any]) -> None:
        self._plan = plan = job.plan
        n_classes = len(job.class_names)
        self._resamplers: list[BandResampler] = []
        self._writers: list[HeatmapWriter] = []
        self._stitchers = []
        for folder, name, windows in (
            (probability, "probability", [(0.0, 1.0)] * n_classes),
            (evidence, "evidence", [(0.0, scale) for scale in job.evidence_scales]),
        ):
            sink = self._open(job, folder, name, windows, provenance)
            self._stitchers.append(
                BandStitcher(plan.heatmap_size, n_classes, plan.map_cells, plan.stride_cells, sink)
            )
        # The first row that the patches from each place on can still touch.
        self._rows_to_come = np.minimum.accumulate(plan.cell_xy[::-1, 1])[::-1]

    def _open(
        self,
        job: SlideJob,
        folder: Path,
        name: str,
        windows: list[tuple[float, float]],
        provenance: dict[str, Any],
    ) -> Callable[[int, NDArray[np.float32]], None]:
        """A new store, and the function that takes rows of the cells' lattice for it."""
        names = job.class_names
        cells, cells_to_level0 = self._plan.heatmap_size, self._plan.heatmap_to_level0
        size: Size = cells
        to_level0: Affine[Heatmap, Level0] = cells_to_level0
        if job.settings.heatmap_mpp:
            size, to_level0 = resampled_grid(self._plan.slide_size, job.mpp, job.settings.heatmap_mpp)
        writer = HeatmapWriter(
            folder,
            size,
            names,
            [job.colours[name] for name in names],
            to_level0,
            job.mpp,
            name=f"{job.sample_id} {name}",
            provenance={"layer": name, **provenance},
            windows=windows,
            ngff="0.5" if job.settings.ngff == "0.5" else "0.4",
        )
        self._writers.append(writer)
        if not job.settings.heatmap_mpp:
            return writer.write_rows
        resampler = BandResampler(cells, cells_to_level0, size, to_level0, len(names), writer.write_rows)
        self._resamplers.append(resampler)
        return resampler.put

    def add(self, seen: SeenBatch) -> None:
        start, stop = seen.start, seen.stop
        # A stitcher holds all rows between the patches it has: where the plan leaps over glass it is told.
        leaps = np.flatnonzero(np.diff(self._rows_to_come[start:stop]) > _LEAP_MAPS * self._plan.map_cells)
        edges = [0, *(leaps + 1).tolist(), stop - start]
        for stitcher, maps in zip(self._stitchers, (seen.probabilities, seen.evidence), strict=True):
            for first, last in pairwise(edges):
                stitcher.finish_above(int(self._rows_to_come[start + first]))
                stitcher.add(self._plan.cell_xy[start + first : start + last], maps[first:last])

    def finish(self) -> None:
        for stitcher in self._stitchers:
            stitcher.close()
        for resampler in self._resamplers:
            resampler.close()
        for writer in self._writers:
            writer.finish()
