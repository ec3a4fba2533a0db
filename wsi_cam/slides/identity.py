"""By what a result recognises the slide it was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from wsi_cam.errors import SlideError
from wsi_cam.slides.dicom_series import files_of_series
from wsi_cam.slides.opening import check_path

_END = 2**20
_SAMPLE, _SAMPLES = 2**10, 64


def slide_identity(path: Path) -> dict[str, int | str]:
    """``size`` in bytes, ``sha256``, and number of ``files`` of a slide, without reading gigabytes.

    The hash of a file is that of its size (8 bytes, little endian), its first MiB, its last MiB, and
    64 evenly spaced KiB (the k-th starts at ``k (size - 1024) // 63``); a file of at most 2 MiB +
    64 KiB is hashed whole after its size. A slide of several files (the DICOM files of its series; the
    folder beside an ``.mrxs``) has the hash of the sorted hashes of its files, so names do not matter.
    Raises SlideError where a file cannot be read.
    """
    check_path(path)
    files = _files(path)
    size, digests = 0, []
    try:
        for file in files:
            file_size, digest = _sample(file)
            size += file_size
            digests.append(digest)
    except OSError as error:
        raise SlideError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    together = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(sorted(digests))).digest()
    return {"size": size, "sha256": together.hex(), "files": len(files)}


def _files(path: Path) -> list[Path]:
    if path.is_dir() or path.suffix.lower() == ".dcm":
        return files_of_series(path)
    if path.suffix.lower() == ".mrxs" and (folder := path.with_suffix("")).is_dir():
        return [path, *sorted(p for p in folder.rglob("*") if p.is_file())]
    return [path]


def _sample(file: Path) -> tuple[int, bytes]:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        if size <= 2 * _END + _SAMPLE * _SAMPLES:
            parts = [(0, size)]
        else:
            starts = [k * (size - _SAMPLE) // (_SAMPLES - 1) for k in range(_SAMPLES)]
            parts = [(0, _END), (size - _END, _END), *((start, _SAMPLE) for start in starts)]
        for start, length in parts:
            stream.seek(start)
            digest.update(stream.read(length))
    return size, digest.digest()
