"""Locks by which runs that share an output folder keep out of each other's way.

They are locks of the operating system on files in ``OUT/.locks``: whoever holds one and dies lets go of
it by that. A lock file is removed while its lock is held, and whoever had opened it before sees that it
has lost its name and tries again, so nothing is left of them after a normal end.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from wsi_cam.errors import OutputError

log = logging.getLogger(__name__)

_FOLDER = ".locks"
#: No sample id begins with an underscore.
_SHARED = "_shared"
_PATIENCE_S = 120.0
#: A run that ended has removed the folder as it was made or used here; ESTALE is said by network drives.
_FOLDER_WENT = {errno.ENOENT, errno.EEXIST, errno.ESTALE}
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class HeldLock:
    """A lock that is held until :meth:`release`, by whichever thread."""

    def __init__(self, lock: BaseFileLock | None) -> None:
        self._lock = lock

    def release(self) -> None:
        """Let go; again does nothing."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        # Elsewhere than on POSIX an open file cannot be removed, and filelock does it on release.
        if os.name == "posix" and not isinstance(lock, SoftFileLock):
            with suppress(OSError):
                os.unlink(lock.lock_file)
        lock.release()


def try_slide_lock(output: Path, sample_id: str) -> HeldLock | None:
    """The lock of one slide, or None while somebody else holds it. Raises OutputError."""
    return _try_lock(output, sample_id, timeout_s=0)


@contextmanager
def shared_files_lock(output: Path) -> Iterator[None]:
    """Held around reading, changing and writing what all runs of a folder share; waits for it.

    Raises OutputError where it cannot be had.
    """
    held = _try_lock(output, _SHARED, _PATIENCE_S)
    if held is None:
        raise OutputError(
            f"{output}: another run has held the process list for {_PATIENCE_S:.0f} s; "
            "see whether it hangs, then run the same command again"
        )
    try:
        yield
    finally:
        held.release()


def clear_locks(output: Path) -> None:
    """Remove the lock files of dead runs, and the folder where no other run uses it."""
    folder = output / _FOLDER
    with suppress(OSError):
        for file in list(folder.glob("*.lock")):
            if held := _try_lock(output, file.stem, timeout_s=0):
                held.release()
        folder.rmdir()


def _try_lock(output: Path, name: str, timeout_s: float) -> HeldLock | None:
    path = output / _FOLDER / f"{name}.lock"
    deadline = time.monotonic() + max(timeout_s, 5.0)
    while True:
        lock = FileLock(path, timeout=timeout_s, thread_local=False)
        try:
            path.parent.mkdir(exist_ok=True)
            lock.acquire()
        except Timeout:
            return None
        except OSError as error:
            if error.errno in _FOLDER_WENT and output.is_dir() and time.monotonic() < deadline:
                continue
            if error.errno in _NO_LOCKS:
                log.warning("%s: this file system has no locks; let only one run use the folder", output)
                return HeldLock(None)
            raise OutputError(
                f"{path}: the lock cannot be made ({error.strerror or error}); "
                "free space or mend permissions, then run the same command again"
            ) from error
        return HeldLock(lock)
