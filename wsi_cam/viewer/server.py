"""The viewer's web server: on the loopback interface, for this machine's browsers alone.

A page of another site could send requests to a server on this machine, or make the browser believe that
its own name leads here (DNS rebinding). So requests are answered only where ``Host`` names this server,
nothing may be embedded elsewhere, and the pages may load nothing from elsewhere.
"""

from __future__ import annotations

import logging
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wsi_cam.errors import OutputError
from wsi_cam.run_folder import RunFolder
from wsi_cam.viewer.answers import Answer, Answers
from wsi_cam.viewer.library import Library

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class ViewerServer(ThreadingHTTPServer):
    """Serves a run folder. ``port`` 0 takes a free one; :attr:`url` says which.

    Raises OutputError where the folder is no run's, or the port cannot be had.
    """

    daemon_threads = True
    block_on_close = False  # a browser keeps its connections open for as long as it likes
    request_queue_size = 64

    def __init__(self, run: RunFolder, port: int = 0) -> None:
        self.library = Library(run)
        self.answers = Answers(self.library)
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OutputError(
                f"{LOOPBACK}:{port}: cannot be listened on ({error}); choose another --port (0: any free)"
            ) from error
        bound = self.server_address[1]
        self.hosts = frozenset(f"{name}:{bound}" for name in ("localhost", LOOPBACK, "[::1]"))

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_address[1]}/"

    def server_close(self) -> None:
        super().server_close()
        if hasattr(self, "library"):
            self.library.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exception(), ConnectionError):
            log.debug("a browser closed its connection")
        else:
            log.exception("a request could not be answered")


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    protocol_version = "HTTP/1.1"
    timeout = 120
    """Seconds after which a silent connection is closed."""
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # headers and body leave together

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer(), with_body=False)

    def _answer(self) -> Answer:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # nobody reads that body, and it must not become the next request
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].strip().lower() not in self.server.hosts:
            return Answer(403, "text/plain; charset=utf-8", b"This server answers to its own address only.\n")
        if not self.path.startswith("/"):
            return Answer(400, "text/plain; charset=utf-8", b"This is no proxy.\n")
        try:
            return self.server.answers.answer(self.path)
        except Exception:
            # One request must not take the others down.
            log.exception("%r: cannot be answered", self.path)
            return Answer(
                500, "application/json", b'{"error": "a defect of wsi_cam; its log has the details"}'
            )

    def _send(self, answer: Answer, with_body: bool = True) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "private, max-age=3600" if answer.keep else "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        return "wsi-cam"

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
