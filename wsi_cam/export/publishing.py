"""A file appears under its final name when it is whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_cam.errors import OutputError, WsiCamError


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path`` to write to; it becomes ``path`` when the block ends well.

    Missing parent folders are made. An older file of the final name stays until that moment, and for
    good after an error. Raises OutputError where the system refuses to write.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except WsiCamError:
        _remove_quietly(partial)
        raise
    except OSError as error:
        _remove_quietly(partial)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another folder"
        ) from error
    except BaseException:
        _remove_quietly(partial)
        raise


def _remove_quietly(partial: Path) -> None:
    """Remove what was begun; where even that fails, the first error is the one to tell."""
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return
