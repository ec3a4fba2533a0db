"""Bootstrap over slides: what the figures would be, had other slides of the same kind been taken.

Slides are drawn with replacement (or patients, where they are known: slides of one patient are not
independent), those with and those without the target apart, so that every resample holds as many of each
(stratified). Intervals run from the 2.5th to the 97.5th percentile. The draws are always the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_BOOTSTRAP = 1000
#: With fewer units of a kind than this the percentile interval is known to be too narrow.
FEW = 10


def draws(
    units: Sequence[str], positive: NDArray[np.bool_], n_bootstrap: int = N_BOOTSTRAP
) -> NDArray[np.int64]:
    """How often each slide (n,) is taken in each resample: (n_bootstrap, n).

    ``units`` names what each slide belongs to; a unit counts as positive with any slide of it.
    """
    _, unit_of = np.unique(np.array(units, dtype=np.str_), return_inverse=True)
    n_units = int(unit_of.max(initial=-1)) + 1
    of_kind = np.bincount(unit_of, weights=positive, minlength=n_units) > 0
    generator = np.random.default_rng(0)
    times = np.zeros((n_bootstrap, n_units), np.int64)
    for kind in (False, True):
        members = np.flatnonzero(of_kind == kind)
        if len(members):
            share = np.full(len(members), 1 / len(members))
            times[:, members] = generator.multinomial(len(members), share, size=n_bootstrap)
    return times[:, unit_of]


def warning_of_few(units: Sequence[str], positive: NDArray[np.bool_]) -> str:
    """What to say where there are too few units for the intervals to be trusted, "" otherwise."""
    with_target = {unit for unit, p in zip(units, positive.tolist(), strict=True) if p}
    numbers = len(with_target), len(set(units) - with_target)
    if min(numbers) >= FEW:
        return ""
    return (
        f"only {numbers[0]} with and {numbers[1]} without the target: with fewer than {FEW} of a kind "
        "the intervals are too narrow and show little more than that"
    )
