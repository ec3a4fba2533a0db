"""What was seen of a slide so far, batch by batch in one file, so that a killed run goes on from there.

The file is only ever appended to. It begins with ``MAGIC`` and a record of what the numbers belong to (the
key); then follows one record for each batch. A record is the length of its content and its CRC-32 (both
u32), then the content; all numbers are little endian. Content of a batch: first patch (u64), patches and
bytes of the reasons (u32), the reasons as a JSON list, probabilities and evidence (f4). Where the last
record was torn, by a kill or a full disk, it is cut off.

One write per batch hands it to the operating system: it outlives the process, however that ends. It may not
outlive a power failure, after which what did is taken.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from wsi_cam.errors import OutputError
from wsi_cam.tiling.patch_plan import PatchPlan

MAGIC = b"wsi_cam journal 1\n"
_RECORD = struct.Struct("<II")
_BATCH = struct.Struct("<QII")


@dataclass(frozen=True, eq=False)
class SeenBatch:
    """What was seen in patches ``start`` to ``start + n`` of a plan, float32.

    ``probabilities`` (n, classes) and ``evidence`` (n, classes, cells, cells) are NaN for patches that could
    not be read; ``reasons`` say why, where that was not said with a batch before.
    """

    start: int
    probabilities: NDArray[np.float32]
    evidence: NDArray[np.float32]
    reasons: tuple[str, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + len(self.probabilities)


class Journal:
    """The journal of one slide. It is read when it is made, and opened for writing as a context.

    ``patches`` are those it holds of this very work: 0 where there is no file, or one with another
    ``key``, which then is begun anew. ``classes`` and ``cells`` (along a side of a patch's map) give the
    shapes.
    """

    def __init__(self, path: Path, key: Mapping[str, Any], classes: int, cells: int) -> None:
        self.path = path
        self._header = json.dumps(key, sort_keys=True).encode("ascii")
        self._shape = (classes, cells, cells)
        self._file: BinaryIO | None = None
        self.patches, self._end = 0, 0
        for seen, end in self._records():
            self.patches, self._end = seen.stop, end

    def replay(self) -> Iterator[SeenBatch]:
        """The batches that it held when it was made. Raises OutputError where it holds them no more."""
        replayed = 0
        for seen, end in self._records():
            if end > self._end:
                break
            yield seen
            replayed = seen.stop
        if replayed != self.patches:
            raise OutputError(f"{self.path}: was changed by another program; run the same command again")

    def write(self, seen: SeenBatch) -> None:
        """Append a batch. Raises OSError, also where the file has been removed."""
        assert self._file is not None, "opened as a context before"
        _write_whole(self._file, _record(_batch_content(seen)))
        # A file without a name takes all and keeps nothing. Some drives count no names: they are asked again.
        if os.fstat(self._file.fileno()).st_nlink == 0 and not self.path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def __enter__(self) -> Self:
        """Cut off what is torn, or begin anew. Raises OSError."""
        if self.patches:
            self._file = self.path.open("r+b", buffering=0)
            self._file.truncate(self._end)
            self._file.seek(self._end)
        else:
            self._file = self.path.open("wb", buffering=0)
            _write_whole(self._file, MAGIC + _record(self._header))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _records(self) -> Iterator[tuple[SeenBatch, int]]:
        """Whole batches that follow each other, and where in the file each ends."""
        try:
            with self.path.open("rb") as file:
                if file.read(len(MAGIC)) != MAGIC or _read_content(file) != self._header:
                    return
                expected = 0
                while (content := _read_content(file)) is not None:
                    seen = self._seen(content)
                    if seen is None or seen.start != expected:
                        return
                    yield seen, file.tell()
                    expected = seen.stop
        except OSError:
            return  # not there, or not to be read: what is in the way is said when it is to be written

    def _seen(self, content: bytes) -> SeenBatch | None:
        """A batch from the content of its record; None where it has another form."""
        if len(content) < _BATCH.size:
            return None
        start, n, reason_bytes = _BATCH.unpack_from(content)
        at_numbers = _BATCH.size + reason_bytes
        classes, cells, _ = self._shape
        n_probabilities, n_evidence = n * classes, n * classes * cells * cells
        if len(content) != at_numbers + 4 * (n_probabilities + n_evidence):
            return None
        reasons = tuple(json.loads(content[_BATCH.size : at_numbers]))
        numbers = np.frombuffer(content, "<f4", offset=at_numbers).astype(np.float32, copy=False)
        probabilities, evidence = np.split(numbers, [n_probabilities])
        return SeenBatch(start, probabilities.reshape(n, classes), evidence.reshape(n, *self._shape), reasons)


def plan_digest(plan: PatchPlan) -> str:
    """SHA-256 of where all patches lie, in which order and blocks they are read, and how they are resized."""
    digest = hashlib.sha256()
    for array in (plan.cell_xy, plan.block_starts):
        digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    lattice = (plan.size_px, plan.mpp_um, plan.cell_px, plan.stride_cells, plan.map_cells)
    level = plan.level_to_level0
    place = (plan.level, level.scale_x, level.scale_y, level.offset_x, level.offset_y)
    digest.update(repr((lattice, place, plan.slide_mpp.x, plan.slide_mpp.y)).encode("ascii"))
    return digest.hexdigest()


def _batch_content(seen: SeenBatch) -> bytes:
    reasons = json.dumps(seen.reasons).encode("ascii")
    head = _BATCH.pack(seen.start, len(seen.probabilities), len(reasons))
    numbers = (np.ascontiguousarray(a, "<f4").tobytes() for a in (seen.probabilities, seen.evidence))
    return b"".join((head, reasons, *numbers))


def _record(content: bytes) -> bytes:
    return _RECORD.pack(len(content), zlib.crc32(content)) + content


def _write_whole(file: BinaryIO, content: bytes) -> None:
    left = memoryview(content)
    while left:  # a nearly full disk takes a part, and refuses the rest
        left = left[file.write(left) :]


def _read_content(file: BinaryIO) -> bytes | None:
    """The content of the next record; None where it is torn or there is none."""
    head = file.read(_RECORD.size)
    if len(head) < _RECORD.size:
        return None
    length, checksum = _RECORD.unpack(head)
    if length > os.fstat(file.fileno()).st_size - file.tell():
        return None
    content = file.read(length)
    return content if zlib.crc32(content) == checksum else None
