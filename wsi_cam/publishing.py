"""A file or a folder appears under its final name when it is whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wsi_cam.errors import OutputError, WsiCamError, one_line

#: What to do about what cannot be written: where any place will do, and where a run will go on.
ELSEWHERE = "free some space or choose another folder"
RUN_AGAIN = "free space or mend permissions, then run the same command again"


@contextmanager
def published(path: Path, remedy: str = ELSEWHERE, *, make_parents: bool = True) -> Iterator[Path]:
    """A hidden name beside ``path`` to write to; it becomes ``path`` when the block ends well.

    An older file of the final name stays until that moment, and for good after an error. Missing parent
    folders are made, or with ``make_parents=False`` are an error. Raises OutputError, ending in ``remedy``,
    where the system refuses to write.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with in_our_words(path, remedy):
            if make_parents:
                path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, path)
    except BaseException:
        with suppress(OSError):  # where even that fails, the first error is the one to tell
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def published_folder(folder: Path, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """A hidden folder beside ``folder`` to fill; it becomes ``folder`` when the block ends well.

    An older folder of the final name is replaced as a whole; after an error it stays as it was. What a
    call that was killed left is removed. Raises OutputError, ending in ``remedy``, where the system refuses.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with in_our_words(folder, remedy):
            partial.mkdir(parents=True)
            yield partial
            replace_folder(partial, folder, folder.with_name(f".{folder.name}.replaced"))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(built: Path, final: Path, replaced: Path) -> None:
    """``built`` takes the name ``final``; an older folder waits as ``replaced`` for the moment between.

    Where ``built`` cannot take the name the older one takes it back. Raises OSError.
    """
    if final.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        final.rename(replaced)
    try:
        built.rename(final)
    except OSError:
        if replaced.exists():
            replaced.rename(final)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def in_our_words(path: Path, remedy: str) -> Iterator[None]:
    """What the file system refuses in the block becomes an OutputError that names ``path``."""
    try:
        yield
    except WsiCamError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or one_line(error)}); {remedy}"
        ) from error
