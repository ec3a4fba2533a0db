"""Every path of a run's output, and how a result appears there: whole or not at all.

A slide's results grow in a hidden folder beside their final place and are renamed into it when
the last file, ``slide.json``, is written. Whatever stops the process before that leaves no
folder of the final name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_cam.errors import OutputError


@dataclass(frozen=True)
class SlideFolder:
    """The files of one slide."""

    path: Path

    @property
    def slide_json(self) -> Path:
        """Identity, provenance, settings, score. Written last: its presence means done."""
        return self.path / "slide.json"

    @property
    def timing_json(self) -> Path:
        return self.path / "timing.json"

    @property
    def patches_csv(self) -> Path:
        return self.path / "patches.csv"

    @property
    def probability_zarr(self) -> Path:
        return self.path / "probability.ome.zarr"

    @property
    def evidence_zarr(self) -> Path:
        return self.path / "evidence.ome.zarr"

    @property
    def heatmap_tiff(self) -> Path:
        return self.path / "heatmap.ome.tif"

    @property
    def tissue_png(self) -> Path:
        return self.path / "tissue.png"

    @property
    def overview_png(self) -> Path:
        return self.path / "overview.png"

    @property
    def patch_pictures(self) -> Path:
        return self.path / "patches"

    @property
    def patches_geojson(self) -> Path:
        return self.path / "qupath" / "patches.geojson"


class RunFolder:
    """The output folder of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_json = path / "run.json"
        self.process_list = path / "process_list.csv"

    def prepare(self) -> None:
        """Make the folder and see that it can be written. Raises OutputError with the reason."""
        try:
            (self.path / "slides").mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"{self.path}: the output folder cannot be written ({error.strerror}); choose another with -o"
            ) from error

    def slide(self, sample_id: str) -> SlideFolder:
        return SlideFolder(self.path / "slides" / sample_id)

    def failed_tissue_png(self, sample_id: str) -> Path:
        """The picture of a slide in which nothing could be classified."""
        return self.path / "failed" / f"{sample_id}.tissue.png"

    def log(self, sample_id: str) -> Path:
        """The traceback of a slide that failed."""
        return self.path / "logs" / f"{sample_id}.log"

    def is_done(self, sample_id: str) -> bool:
        return self.slide(sample_id).slide_json.is_file()

    @contextmanager
    def publishing(self, sample_id: str) -> Iterator[SlideFolder]:
        """A hidden folder to fill; it takes the final name when the block ends without an error.

        An older result of that name is replaced as a whole; after an error it stays as it was.
        """
        final = self.slide(sample_id).path
        partial = final.with_name(f".{sample_id}.partial")
        replaced = final.with_name(f".{sample_id}.replaced")
        if replaced.exists() and not final.exists():
            replaced.rename(final)  # a run that was killed between the two renames below
        for leftover in (partial, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            with self._writing():
                partial.mkdir(parents=True)
            yield SlideFolder(partial)
            with self._writing():
                if final.exists():
                    final.rename(replaced)
                partial.rename(final)
        except BaseException:
            if replaced.exists() and not final.exists():
                replaced.rename(final)
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(replaced, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What the file system refuses, in our words."""
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror or error}); "
                "free space or mend permissions, then run the same command again"
            ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """JSON that any program reads (no NaN), under its final name only when whole. Raises OutputError."""
    partial = path.with_name(f".{path.name}.partial")
    text = json.dumps(content, indent=2, allow_nan=False)
    try:
        partial.write_text(text + "\n", encoding="ascii")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "free space or mend permissions, then run the same command again"
        ) from error
