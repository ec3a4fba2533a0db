"""A bar per stage of a longer piece of work, on a terminal; silence elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Never, Self

from tqdm import tqdm


class StageProgress:
    """Called with (stage, done, total, loss or None); a new stage closes the bar of the last one."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: tqdm[Never] | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, stage: str, done: int, total: int, loss: float | None) -> None:
        if self._quiet:
            return
        if stage != self._stage:
            self._close()
        bar = self._bar or self._new_bar(stage, done, total)
        if loss is not None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update(done - bar.n)

    def _new_bar(self, stage: str, done: int, total: int) -> tqdm[Never]:
        # disable=None: no bar where the output is not a terminal.
        bar: tqdm[Never] = tqdm(total=total, desc=stage, disable=None, initial=done - 1, smoothing=0.1)
        self._bar, self._stage = bar, stage
        return bar

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
