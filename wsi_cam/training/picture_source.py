"""Where the bytes of a picture come from: a folder or a zip."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from wsi_cam.errors import DataError


class PictureSource(Protocol):
    """Gives the encoded bytes of a picture by its name; safe in threads and after pickling."""

    def read(self, name: str) -> bytes: ...


@dataclass(frozen=True)
class FolderSource:
    """Pictures as files; relative names start at ``root``."""

    root: Path

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as cause:
            reason = cause.strerror or cause
            raise DataError(f"{self.root / name}: cannot be read ({reason}); correct the path") from cause


@dataclass
class ZipSource:
    """Pictures in a zip. Each process opens its own handle: a shared one would share its position."""

    path: Path
    _open: dict[int, zipfile.ZipFile] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def read(self, name: str) -> bytes:
        try:
            return self._archive().read(name)
        except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as cause:
            raise DataError(f"{self.path}: {name} cannot be read ({cause}); make the zip again") from cause

    def _archive(self) -> zipfile.ZipFile:
        with self._lock:
            if os.getpid() not in self._open:
                self._open = {os.getpid(): zipfile.ZipFile(self.path)}
            return self._open[os.getpid()]
