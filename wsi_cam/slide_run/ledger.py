"""What is kept of every patch while a slide is classified: a few numbers each, and the top patches whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_cam.export.tables import OK, PatchTable
from wsi_cam.slide_run.journal import SeenBatch
from wsi_cam.tiling.patch_plan import PatchPlan

#: Status of a patch whose pixels could not be read.
UNREAD = "unread"
#: The slide score is the mean of this many highest probabilities.
SCORE_PATCHES = 10


@dataclass(frozen=True)
class TopPatch:
    """A patch that ranks among the highest of a class."""

    index: int
    """Its place in the plan."""
    class_index: int
    probability: float
    evidence: NDArray[np.float32]
    """(rows, columns) of its map for that class, in logits."""


class Ledger:
    """Collects the numbers of all patches of a plan, batch by batch.

    Memory: about 20 bytes per patch and class; evidence maps only of the ``keep`` top patches per class.
    """

    def __init__(self, plan: PatchPlan, class_names: tuple[str, ...], keep: int) -> None:
        shape = (len(plan), len(class_names))
        self._plan, self._class_names, self._keep = plan, class_names, keep
        self.probabilities = np.full(shape, np.nan, np.float32)
        self.evidence_max = np.full(shape, np.nan, np.float32)
        self.evidence_mean = np.full(shape, np.nan, np.float32)
        self._reasons: set[str] = set()
        self._top: list[list[TopPatch]] = [[] for _ in class_names]

    def enter(self, seen: SeenBatch) -> None:
        start, stop, probabilities, evidence = seen.start, seen.stop, seen.probabilities, seen.evidence
        self.probabilities[start:stop] = probabilities
        self.evidence_max[start:stop] = evidence.max(axis=(2, 3))
        self.evidence_mean[start:stop] = evidence.mean(axis=(2, 3), dtype=np.float64)
        self._reasons.update(seen.reasons)
        readable = np.flatnonzero(~np.isnan(probabilities[:, 0]))
        for c, top in enumerate(self._top):
            best = readable[np.argsort(-probabilities[readable, c], kind="stable")[: self._keep]]
            top += [
                TopPatch(start + int(i), c, float(probabilities[i, c]), evidence[i, c].copy()) for i in best
            ]
            top.sort(key=lambda patch: (-patch.probability, patch.index))
            del top[self._keep :]

    @property
    def n_unread(self) -> int:
        return int(np.isnan(self.probabilities[:, 0]).sum())

    @property
    def unread_reasons(self) -> list[str]:
        """Why patches could not be read: the first few reasons in alphabetical order."""
        return sorted(self._reasons)[:5]

    def top_patches(self, class_index: int) -> list[TopPatch]:
        """The highest first; equals keep their order in the plan."""
        return list(self._top[class_index])

    def score(self, class_index: int) -> float:
        """Slide score: mean of the ten highest calibrated probabilities of the class, of readable patches."""
        column = self.probabilities[:, class_index]
        highest = np.sort(column[~np.isnan(column)])[-SCORE_PATCHES:]
        return float(highest.mean(dtype=np.float64))

    def table(self) -> PatchTable:
        unread = np.isnan(self.probabilities[:, 0])
        return PatchTable(
            class_names=self._class_names,
            level0_xy=self._plan.level0_xy,
            patch_level0=self._plan.patch_level0,
            probabilities=self.probabilities,
            evidence_max=self.evidence_max,
            evidence_mean=self.evidence_mean,
            tissue_fraction=self._plan.tissue_fraction,
            status=np.where(unread, UNREAD, OK),
        )
