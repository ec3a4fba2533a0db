"""A page in headless Chromium, served on the loopback interface, that sends back what it drew."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

PAGE = Path(__file__).parent
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    # A machine with a small /dev/shm would end the page.
    "--disable-dev-shm-usage",
)  # fmt: skip
_SECONDS = 50


@dataclass(frozen=True)
class Drawn:
    """What one viewer made of one file: RGB (h, w, 3) over black, and what it said of the file."""

    pixels: NDArray[np.uint8]
    facts: dict[str, Any]


def require_page() -> None:
    """Installs and bundles the viewers; skips, with the reason, where npm or Chromium is missing."""
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on the path (Debian: apt-get install npm), so there are no viewers to ask")
    built = PAGE / "dist" / "viewers.js"
    sources = [PAGE / "viewers.js", PAGE / "package-lock.json"]
    if built.exists() and all(built.stat().st_mtime > source.stat().st_mtime for source in sources):
        return
    for command in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
        done = subprocess.run([npm, *command], cwd=PAGE, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            if command[0] == "ci":
                pytest.skip(f"npm cannot install the viewers: {said}")
            raise AssertionError(f"the viewers cannot be bundled: {said}")


def draw(folder: Path, panels: Sequence[dict[str, Any]], profile: Path) -> dict[str, Drawn]:
    """Each panel's file (a name below ``folder``) in its viewer; raises AssertionError for one that failed.

    ``profile`` is an empty folder for Chromium's own files.
    """
    addressed = [{**panel, "url": f"/data/{panel['file']}"} for panel in panels]
    server = _Server(folder, addressed)
    chromium = None
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/index.html"
        for panel in addressed:
            panel["url"] = f"http://127.0.0.1:{server.server_address[1]}{panel['url']}"
        chromium = subprocess.Popen(
            ["chromium", *_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
        )
        assert server.answered.wait(_SECONDS), f"the page said nothing for {_SECONDS} s; asked {server.asked}"
    finally:
        if chromium is not None:
            chromium.terminate()
            chromium.wait(20)
        server.stop()
    return {result["name"]: _drawn(result) for result in server.results}


def _drawn(result: dict[str, Any]) -> Drawn:
    assert "error" not in result, f"{result['name']}: {result['error']}"
    data = base64.b64decode(result.pop("png").partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        rgba = picture.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Drawn(np.asarray(Image.alpha_composite(black, rgba).convert("RGB")), result)


class _Server(ThreadingHTTPServer):
    """The page, the files under ``/data``, and a place to send results to."""

    daemon_threads = True

    def __init__(self, folder: Path, panels: list[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(PAGE)))
        self.folder, self.panels = folder, panels
        self.asked: list[str] = []
        self.results: list[dict[str, Any]] = []
        self.answered = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(SimpleHTTPRequestHandler):
    """Files with byte ranges, which a reader of TIFF on the web cannot do without."""

    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/panels.json":
            return self._send(200, json.dumps(self.server.panels).encode(), "application/json")
        if not self.path.startswith("/data/"):
            return super().do_GET()
        path = self.server.folder / self.path.removeprefix("/data/")
        if not path.is_file():
            return self._send(404, b"", "text/plain")
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(200, content, "application/octet-stream")
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        span = f"bytes {first}-{last}/{len(content)}"
        return self._send(206, content[first : last + 1], "application/octet-stream", span)

    def do_POST(self) -> None:
        self.server.results = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(200, b"{}", "application/json")
        self.server.answered.set()

    def _send(self, status: int, content: bytes, kind: str, span: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        if span is not None:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """The test's output is not a server's log."""
