"""Tables of made-up patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsi_cam.export.tables import PatchTable


def patch_table(
    n: int,
    unread: Sequence[int] = (),
    patch_level0: tuple[float, float] = (383.84, 383.84),
    columns: int = 500,
) -> PatchTable:
    """``n`` patches side by side, ``columns`` in a row; those listed could not be read."""
    rng = np.random.default_rng(n)
    place = np.stack([np.arange(n) % columns, np.arange(n) // columns], axis=1)
    tumour = rng.random(n, dtype=np.float32)
    evidence = rng.normal(scale=8, size=(2, n, 2)).astype(np.float32)
    probabilities = np.stack([1 - tumour, tumour], axis=1)
    status = np.full(n, "ok", dtype="<U8")
    for numbers in (probabilities, *evidence):
        numbers[list(unread)] = np.nan
    status[list(unread)] = "unread"
    return PatchTable(
        class_names=("normal", "tumour"),
        level0_xy=place * np.array(patch_level0),
        patch_level0=patch_level0,
        probabilities=probabilities,
        evidence_max=evidence[0],
        evidence_mean=evidence[1],
        tissue_fraction=rng.random(n, dtype=np.float32),
        status=status,
    )
