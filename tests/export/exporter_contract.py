"""What every exporter promises. A new one subclasses this and names its format."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.export.make_run import finished_source, small_slide
from wsi_cam import publishing
from wsi_cam.errors import OutputError, SlideError
from wsi_cam.export.exporters import EXPORTERS, existing_files, export
from wsi_cam.export.source import ExportOptions, ExportSource


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative name, hidden ones too."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class ExporterContract:
    """Subclasses set ``format`` and, where a package is optional, ``package``."""

    format: str
    package: str | None = None
    options = ExportOptions(width=600, mpp=1.0)

    @pytest.fixture
    def slide(self, tmp_path: Path) -> Path:
        if self.package is not None:
            pytest.importorskip(self.package, reason=f"{self.package} is not installed")
        return small_slide(tmp_path / "case 7.svs")

    @pytest.fixture
    def source(self, tmp_path: Path, slide: Path) -> ExportSource:
        """A slide of which nothing of this format has been written."""
        source = finished_source(tmp_path / "run", slide)
        assert len(source.table) == 60  # read now, for the table's own format removes its file
        for path in existing_files(source, self.format):
            path.unlink()
        return source

    def test_what_it_says_it_wrote_is_there_and_is_what_the_table_announces(
        self, source: ExportSource
    ) -> None:
        before = set(tree(source.files.path))
        written = export(source, self.format, self.options)
        assert sorted(written) == existing_files(source, self.format)
        new = set(tree(source.files.path)) - before
        assert new == {path.relative_to(source.files.path).as_posix() for path in written}
        assert all(path.stat().st_size > 0 for path in written)

    def test_equal_slides_give_equal_bytes(self, source: ExportSource, tmp_path: Path, slide: Path) -> None:
        first = {path.name: path.read_bytes() for path in export(source, self.format, self.options)}
        again = export(finished_source(tmp_path / "again", slide), self.format, self.options, force=True)
        assert first == {path.name: path.read_bytes() for path in again}

    def test_it_replaces_only_when_told_to(self, source: ExportSource) -> None:
        written = export(source, self.format, self.options)
        before = tree(source.files.path)
        with pytest.raises(OutputError, match="there already; --force"):
            export(source, self.format, self.options)
        assert tree(source.files.path) == before
        written[0].write_bytes(b"an older version")
        export(source, self.format, self.options, force=True)
        assert tree(source.files.path) == before

    def test_it_appears_whole_or_not_at_all(
        self, source: ExportSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = tree(source.files.path)

        def disk_full(*names: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(publishing.os, "replace", disk_full)
        with pytest.raises(OutputError, match="No space left on device"):
            export(source, self.format, self.options)
        assert tree(source.files.path) == before

    def test_no_name_leaves_the_folder(self, tmp_path: Path, slide: Path) -> None:
        names = ("../../normal: a/b", f"..{os.sep}..{os.sep}évil\ttumour|?*")
        source = finished_source(tmp_path / "run", slide, class_names=names)
        before = set(tree(tmp_path))
        written = export(source, self.format, self.options, force=True)
        folder = source.files.path.resolve()
        assert all(path.resolve().is_relative_to(folder) for path in written)
        new = set(tree(tmp_path)) - before
        assert all((tmp_path / name).resolve().is_relative_to(folder) for name in new)

    def test_a_slide_that_is_gone_stops_only_what_draws_it(
        self, source: ExportSource, tmp_path: Path
    ) -> None:
        moved = replace(source, slide_path=tmp_path / "gone.svs")
        moved.__dict__["table"] = source.table
        if EXPORTERS[self.format].needs_slide:
            before = tree(source.files.path)
            with pytest.raises(SlideError, match=r"gone\.svs: the slide is not where it was"):
                export(moved, self.format, self.options)
            assert tree(source.files.path) == before
        else:
            assert export(moved, self.format, self.options)
