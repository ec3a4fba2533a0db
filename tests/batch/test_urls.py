"""Slides named by a URL: fetched for as long as they are needed, and recorded by the URL."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.batch.conftest import command, small_slide, started
from wsi_cam import RunSettings
from wsi_cam.batch import Stop, fetching, plan_batch, run_batch
from wsi_cam.batch.task import Silent, SlideTask
from wsi_cam.errors import OutputError, SettingsError, SlideError
from wsi_cam.export.exporters import export
from wsi_cam.export.source import ExportOptions, export_source
from wsi_cam.process_list import ProcessRow, read_process_list
from wsi_cam.run_folder import RunFolder
from wsi_cam.slide_url import SlideUrl, located

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


@dataclass
class Source:
    """A folder served on the loopback, and what was asked of it."""

    folder: Path
    address: str = ""
    asked: list[str] = field(default_factory=list)
    slow_s: float = 0.0
    """Pause between two pieces of a file below ``slow/``."""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    @property
    def downloads(self) -> list[str]:
        return [text.removeprefix("GET ") for text in self.asked if text.startswith("GET ")]


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, source: Source, *args: Any) -> None:
        self.source = source
        super().__init__(*args, directory=str(source.folder))

    def do_HEAD(self) -> None:
        self._answer(super().do_HEAD)

    def do_GET(self) -> None:
        self._answer(super().do_GET)

    def _answer(self, usual: Any) -> None:
        self.source.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/forbidden"):
            self.send_error(403)
        elif self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", f"{self.source.address}/forbidden?signature=sesame")
            self.end_headers()
        elif self.path.startswith("/huge"):
            self._head(10**16)
        elif self.path.startswith(("/dies", "/slow", "/hangs")):
            content = (self.source.folder / self.path.rpartition("/")[2]).read_bytes()
            self._head(len(content))
            if self.command == "GET":
                self._dribble(content)
        else:
            usual()

    def _head(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _dribble(self, content: bytes) -> None:
        step = len(content) // 10 + 1
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            self.wfile.flush()
            if start and not self.path.startswith("/slow"):
                break
            time.sleep(self.source.slow_s)
        if self.path.startswith("/hangs"):
            time.sleep(self.source.slow_s)
        self.close_connection = True

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    source = Source(tmp_path / "served")
    small_slide(source.folder / "a.svs", side=130)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, source))
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    server.daemon_threads = True
    source.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield source
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def rows(output: Path) -> dict[str, ProcessRow]:
    return read_process_list(output / "process_list.csv")


def record(output: Path, sample_id: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "slides" / sample_id / "slide.json").read_text())
    return content


def kind_and_note(url: str, output: Path, settings: RunSettings) -> tuple[str, str]:
    ((_, state),) = plan_batch([url], output, settings, in_process=True)
    return state.kind, state.note


def test_a_slide_by_url_gives_what_its_file_gives_and_is_recorded_by_its_url(
    source: Source, output: Path, tmp_path: Path, settings: RunSettings
) -> None:
    local, url = source.folder / "a.svs", source.url("a.svs")
    run_batch([local.as_uri()], tmp_path / "local", settings, in_process=True)
    assert kind_and_note(url, output, settings) == ("missing", "")
    assert source.asked == []
    manifest = tmp_path / "cohort.csv"
    manifest.write_text(f"image_path,patient_id\n{url},P1\n")
    assert run_batch([manifest], output, settings, in_process=True).all_done
    assert {path.name for path in output.iterdir()} == {"slides", "process_list.csv", "run.json"}
    here, there = record(tmp_path / "local", "a"), record(output, "a")
    assert (here["slide"]["path"], there["slide"]["path"]) == (str(local), url)
    assert here["identity"] == there["identity"]
    assert here["score"] == there["score"]
    assert there["slide"]["remote"]["size"] == local.stat().st_size
    assert (rows(output)["a"].image_path, rows(output)["a"].patient_id) == (url, "P1")
    everything = b"".join(path.read_bytes() for path in output.rglob("*") if path.is_file())
    assert b".fetched" not in everything


def test_a_slide_that_is_done_is_compared_without_fetching_it(
    source: Source, output: Path, settings: RunSettings
) -> None:
    url = source.url("a.svs")
    run_batch([url], output, settings, in_process=True)
    assert source.downloads == ["/a.svs"]
    assert run_batch([url], output, settings, in_process=True).counts == {"skipped": 1}
    assert kind_and_note(url, output, replace(settings, min_tissue=0.5))[0] == "stale"
    assert source.downloads == ["/a.svs"]
    small_slide(source.folder / "a.svs", side=150)
    assert kind_and_note(url, output, settings) == ("stale", "slide file changed")
    assert run_batch([url], output, settings, redo="stale", in_process=True).all_done
    assert kind_and_note(url, output, settings) == ("done", "")
    (source.folder / "a.svs").unlink()
    kind, note = kind_and_note(url, output, settings)
    assert kind == "done"
    assert note == f"the slide cannot be compared: {url}: there is no such file; check the URL"


def test_what_cannot_be_fetched_is_one_line_and_the_next_slide_goes_on(
    source: Source, output: Path, settings: RunSettings
) -> None:
    (source.folder / "text.svs").write_text("no slide")
    expected = {
        source.url("missing.svs"): "there is no such file",
        source.url("forbidden/b.svs"): "it may not be read (status 403)",
        source.url("moved/c.svs"): "it may not be read (status 403)",
        source.url("dies/a.svs"): "cannot be fetched",
        source.url("text.svs"): "no reader can open this file",
        source.url("d.mrxs"): "has several files; copy its folder",
        "http://127.0.0.1:9/nobody.svs": "cannot be fetched",
    }
    good = source.url("a.svs")
    result = run_batch([*expected, good], output, settings, in_process=True)
    assert result.counts == {"failed": len(expected), "done": 1}
    for row in rows(output).values():
        if row.image_path == good:
            assert row.status == "done"
            continue
        assert row.error.startswith(f"{row.image_path}: "), row.error
        assert expected[row.image_path] in row.error
        assert ".fetched" not in row.error
        assert "sesame" not in (output / "logs" / f"{row.sample_id}.log").read_text()
    assert not (output / ".fetched").exists()


class _Hears(Silent):
    """Counts the signs of life of each slide that come before its patches."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()

    def patches_done(self, task: SlideTask, done: int, total: int) -> None:
        self.heard[task.sample_id] += not total


def test_a_slow_download_gives_signs_of_life_and_the_next_slide_is_fetched_as_well(
    source: Source, output: Path, settings: RunSettings
) -> None:
    small_slide(source.folder / "s.svs", side=300)
    source.slow_s, progress = 0.3, _Hears()  # ten pieces
    urls = [source.url("slow/s.svs"), source.url("a.svs")]
    assert run_batch(urls, output, settings, progress=progress).counts == {"done": 2}
    # Each resets the clock of --stall-timeout, as every message of a worker does.
    assert progress.heard["s"] >= 3
    assert not (output / ".fetched").exists()


def test_a_download_that_hangs_is_given_up(
    source: Source, output: Path, settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SILENT_S", 0.5)
    source.slow_s = 3.0
    assert run_batch([source.url("hangs/a.svs")], output, settings, in_process=True).counts == {"failed": 1}
    assert "nothing came for 0.5 s" in rows(output)["a"].error
    assert not (output / ".fetched").exists()


def test_a_run_killed_as_it_fetches_leaves_a_copy_that_the_next_one_removes(
    source: Source, output: Path, bundle: Path, settings: RunSettings
) -> None:
    source.slow_s = 0.5
    url = source.url("slow/a.svs")
    with started(command(url, bundle=bundle, output=output)) as process:
        deadline = time.monotonic() + 60
        while not list(output.glob(".fetched/a/a.svs")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert list(output.glob(".fetched/a/a.svs"))
    source.slow_s = 0.0
    (output / ".fetched" / "of_another_run").mkdir()
    assert run_batch([url], output, settings, in_process=True).all_done
    assert {path.name for path in output.iterdir()} == {"slides", "process_list.csv", "run.json"}


class _StopsAtOnce(Silent):
    def __init__(self) -> None:
        self.stop = Stop()

    def patches_done(self, task: SlideTask, done: int, total: int) -> None:
        assert (done, total) == (0, 0)
        self.stop.ask()


def test_a_stop_is_heard_while_a_slide_is_fetched(
    source: Source, output: Path, settings: RunSettings
) -> None:
    source.slow_s, progress = 0.4, _StopsAtOnce()
    url = source.url("slow/a.svs")
    result = run_batch([url], output, settings, in_process=True, progress=progress, stop=progress.stop)
    assert result.interrupted == f"{url}: stopped while it was fetched"
    assert not (output / ".fetched").exists()


def test_no_room_for_a_copy_ends_the_run_in_a_line_that_names_the_url(
    source: Source, output: Path, settings: RunSettings
) -> None:
    url = source.url("huge/a.svs")
    with pytest.raises(OutputError, match=f"no copy of {re.escape(url)} can be written .*; free space"):
        run_batch([url], output, settings, in_process=True)
    assert source.downloads == []
    assert not (output / ".fetched").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_a_disk_that_fills_up_as_a_slide_is_fetched_is_the_fault_of_no_slide(source: Source) -> None:
    url = located(source.url("a.svs"))
    assert isinstance(url, SlideUrl)
    with pytest.raises(OutputError, match=f"no copy of {re.escape(str(url))} can be written .No space left"):
        fetching._copy(url, Path("/dev/full"), lambda arrived: None)


def test_any_protocol_of_fsspec_will_do(output: Path, tmp_path: Path, settings: RunSettings) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/m.svs", small_slide(tmp_path / "m.svs", side=130).read_bytes())
    try:
        assert run_batch(["memory://bucket/m.svs"], output, settings, in_process=True).all_done
    finally:
        memory.rm("/bucket", recursive=True)
    assert record(output, "m")["slide"]["path"] == "memory://bucket/m.svs"
    with pytest.raises(SettingsError, match="fsspec knows no protocol gopher"):
        run_batch(["gopher://host/a.svs"], output, settings, in_process=True)


def test_what_needs_pixels_later_says_that_the_slide_is_remote(
    source: Source, output: Path, settings: RunSettings, caplog: pytest.LogCaptureFixture
) -> None:
    url = source.url("a.svs")
    run_batch([url], output, replace(settings, export=("csv", "qupath")), in_process=True)
    assert f"{url}: not in the QuPath project: the slide is remote" in caplog.text
    exported = export_source(RunFolder(output), "a")
    with pytest.raises(SlideError, match=f"{re.escape(url)}: the slide is remote"), exported.opened():
        pass
    assert export(exported, "asap", ExportOptions())
