"""A viewer's server in this process, and a plain client for it."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_cam.run_folder import RunFolder
from wsi_cam.viewer.server import ViewerServer


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """RGB of a JPEG, RGBA of a PNG."""
        with Image.open(io.BytesIO(self.body)) as picture:
            return np.asarray(picture.convert("RGBA" if picture.format == "PNG" else "RGB"))


class Client:
    """Asks one server; every call is a request of its own."""

    def __init__(self, server: ViewerServer) -> None:
        self.server = server
        self.port = server.server_address[1]

    def get(self, target: str, method: str = "GET", headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, headers=headers or {})
            reply = connection.getresponse()
            return Reply(reply.status, dict(reply.headers), reply.read())
        finally:
            connection.close()

    def of(self, sample_id: str, what: str = "") -> Reply:
        """What the API says of a slide."""
        return self.get(f"/api/slides/{quote(sample_id, safe='')}{what}")

    def raw(self, request: bytes) -> bytes:
        """All that comes back for these bytes, until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def serving(run: RunFolder) -> Iterator[Client]:
    server = ViewerServer(run)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Client(server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
