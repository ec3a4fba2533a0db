"""Every path of a run's output, and how a result appears there: whole or not at all.

A slide's results grow in a hidden folder beside their final place and are renamed into it when
the last file, ``slide.json``, is written. Whatever stops the process before that leaves no
folder of the final name; the journal in the hidden one says how far it came.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from wsi_cam.errors import Interrupted, OutputError, SlideError
from wsi_cam.publishing import RUN_AGAIN, in_our_words, published, replace_folder


@dataclass(frozen=True)
class SlideFolder:
    """The files of one slide."""

    path: Path

    @property
    def slide_json(self) -> Path:
        """Identity, provenance, settings, score. Written last: its presence means done."""
        return self.path / "slide.json"

    @property
    def journal(self) -> Path:
        """What was seen so far, while the folder grows; a finished one holds none."""
        return self.path / "journal"

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
            with TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise OutputError(
                f"{self.path}: the output folder cannot be written ({error.strerror}); choose another with -o"
            ) from error

    def require(self) -> None:
        """Raises OutputError where somebody has removed the folder since it was prepared."""
        try:
            (self.path / "slides").stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise OutputError(
                f"{self.path}: the output folder has been removed or renamed while the run was at work; "
                "run the same command again"
            ) from error
        except OSError:
            return  # a drive that does not answer just now; whoever writes hears more

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

    def growing(self, sample_id: str) -> SlideFolder:
        """The hidden folder that a slide's result grows in."""
        return SlideFolder(self.path / "slides" / f".{sample_id}.partial")

    def settle(self, sample_id: str) -> None:
        """Bring to its end what a run was killed in while it renamed; to be called before ``is_done``.

        A result that was whole takes its name, and one that was to be replaced and was not takes it back.
        What still grows stays. No other process may be at work on the slide. Raises OutputError.
        """
        final, replaced = self.slide(sample_id).path, self._replaced(sample_id)
        with in_our_words(self.path, RUN_AGAIN):
            if self.growing(sample_id).slide_json.is_file():
                self._give_name(sample_id)
            elif replaced.exists() and not final.exists():
                replaced.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)

    def has_leftovers(self, sample_id: str) -> bool:
        """Whether hidden folders of the slide are there: something grows, or a run was killed."""
        return self.growing(sample_id).path.exists() or self._replaced(sample_id).exists()

    def discard_growing(self, sample_id: str) -> None:
        """Remove what was begun of a slide and is not wanted any more."""
        building = self.growing(sample_id)
        with suppress(OSError):
            building.slide_json.unlink(missing_ok=True)  # first: half of a folder must not look whole
        shutil.rmtree(building.path, ignore_errors=True)

    @contextmanager
    def publishing(self, sample_id: str) -> Iterator[SlideFolder]:
        """A hidden folder to fill; it takes the final name when the block ends without an error.

        An older result of that name is replaced as a whole; after an error it stays as it was. The folder is
        empty at first but for a journal that an earlier run left; after an error it stays or goes as
        :meth:`working_on` says. Raises OutputError for what the file system refuses.
        """
        self.settle(sample_id)
        building = self.growing(sample_id)
        with self.working_on(sample_id), in_our_words(self.path, RUN_AGAIN):
            building.path.mkdir(exist_ok=True)  # no parents: a folder that was removed does not come back
            _remove_all_but(building.journal)
            yield building
            self._give_name(sample_id)

    @contextmanager
    def working_on(self, sample_id: str) -> Iterator[None]:
        """What grows of the slide is removed where the block ends with an error that ends the work on it.

        It stays, for another run to go on, where this one was interrupted or the file system refused
        something.
        """
        try:
            yield
        except BaseException as error:
            if not _can_go_on_after(error):
                self.discard_growing(sample_id)
            raise

    def _give_name(self, sample_id: str) -> None:
        """The finished folder becomes the slide's. Killed at any moment, ``settle`` can end it."""
        building = self.growing(sample_id)
        building.journal.unlink(missing_ok=True)
        replace_folder(building.path, self.slide(sample_id).path, self._replaced(sample_id))

    def _replaced(self, sample_id: str) -> Path:
        """Where an older result waits for the moment between two renames."""
        return self.path / "slides" / f".{sample_id}.replaced"


def _can_go_on_after(error: BaseException) -> bool:
    """Whether the same command, given again, may go on where this error ended a slide."""
    if isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):
        return True
    return isinstance(error, OSError) and not isinstance(error, SlideError)


def _remove_all_but(kept: Path) -> None:
    for path in kept.parent.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != kept:
            path.unlink()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """JSON that any program reads (no NaN), under its final name only when whole. Raises OutputError."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with published(path, RUN_AGAIN, make_parents=False) as partial:
        partial.write_text(text + "\n", encoding="ascii")
