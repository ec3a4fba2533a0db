"""The server answers this machine's browsers, and nobody else; and gives out nothing but the run."""

from __future__ import annotations

import http.client
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.export.make_run import finished_run, small_slide
from tests.viewer.serving import Client, serving
from wsi_cam.errors import OutputError
from wsi_cam.run_folder import RunFolder
from wsi_cam.viewer.library import MAX_OPEN
from wsi_cam.viewer.server import ViewerServer

CASE = "/api/slides/case_7"
ASKED = ("slide_files/10/1_1.jpg", "slide_files/8/0_0.jpg", "heatmap/evidence/1/9/0_0.png", "place?x=9&y=9")


@pytest.mark.parametrize(
    "target",
    [
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static//etc/passwd",
        "/static/..\\server.py",
        "/static/",
        "/slides/..",
        "/slides/%2e%2e",
        "/slides/..%2f..%2fsecret",
        "/slides/.hidden",
        "/slides/case_7/slide.json",
        "/slides/case_7%00",
        "/api/slides/",
        "/api/slides/.",
        "/api/slides/..",
        "/api/slides/%2e%2e%2f%2e%2e",
        "/api/slides/..%2fslides%2fcase_7",
        "/api/slides/case_7%2f",
        "/api/slides/case_7%2f..%2fcase_7",
        "/api/slides/CASE_7",
        "/api/slides/.case_8.partial",
        "/api/slides/case_8",
        "/api/slides/%ff%fe",
        f"{CASE}/slide.json",
        f"{CASE}/../case_7/slide.json",
        f"{CASE}/slide_files/10/../../slide.json",
        f"{CASE}/slide_files/10/0_0.png",
        f"{CASE}/slide_files/10/0_0.jpg%00",
        f"{CASE}/slide_files/10/0_0.jpg/",
        f"{CASE}/slide_files/10/-1_0.jpg",
        f"{CASE}/slide_files/10/9_0.jpg",
        f"{CASE}/slide_files/10/999999999999999999999_0.jpg",
        f"{CASE}/slide_files/10/1e0_0.jpg",
        f"{CASE}/slide_files/10/%D9%A1_0.jpg",  # an Arabic one is a digit to Python
        f"{CASE}/slide_files/99/0_0.jpg",
        f"{CASE}/slide_files/-1/0_0.jpg",
        f"{CASE}/heatmap/secret/1/10/0_0.png",
        f"{CASE}/heatmap/probability/2/10/0_0.png",
        f"{CASE}/heatmap/probability/-1/10/0_0.png",
        f"{CASE}/heatmap/probability/1/10/0_0.png?hide=nan",
        f"{CASE}/heatmap/probability/1/10/0_0.png?hide=x",
        f"{CASE}/heatmap/__class__/1/10/0_0.png",
        f"{CASE}/thumbnail/..%2fslide.json",
        f"{CASE}/regions/1",
        f"{CASE}/regions/1?threshold=nan",
        f"{CASE}/regions/1?threshold=1.5",
        f"{CASE}/place?x=1",
        f"{CASE}/place?x=nan&y=1",
        f"{CASE}/place?x=inf&y=1",
        "/favicon.ico",
    ],
)
def test_addresses_that_are_no_part_of_the_viewer_are_not_found(
    client: Client, run: RunFolder, target: str
) -> None:
    (run.path / "slides" / ".case_8.partial").mkdir(exist_ok=True)
    reply = client.get(target)
    assert reply.status == 404
    assert set(reply.json) == {"error"}
    assert b"root:" not in reply.body
    assert str(run.path).encode() not in reply.body


def test_a_name_that_leads_out_of_the_folder_is_not_followed_even_where_a_result_lies_there(
    tmp_path: Path,
) -> None:
    slide = small_slide(tmp_path / "slide.svs")
    run = finished_run(tmp_path / "results", slide)
    finished_run(tmp_path / "other", slide, sample_id="secret")
    with serving(run) as client:
        assert client.get("/api/slides/..%2f..%2fother%2fslides%2fsecret").status == 404
        assert client.get("/api/slides/secret").status == 404


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:{port}", "localhost.evil.example:{port}",
        "127.0.0.1.evil.example:{port}", "localhost", "127.0.0.1:1", "127.0.0.2:{port}", "0.0.0.0:{port}",
        "[::]:{port}", "",
        "evil.example@127.0.0.1:{port}", "127.0.0.1:{port}, evil.example", "2130706433:{port}",
    ],
)  # fmt: skip
def test_a_request_that_names_another_host_is_refused(client: Client, host: str) -> None:
    for target in ("/", "/static/slide.js", CASE, f"{CASE}/slide_files/10/0_0.jpg"):
        reply = client.get(target, headers={"Host": host.format(port=client.port)})
        assert reply.status == 403
        assert b"case_7" not in reply.body


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "[::1]:{port}"])
def test_its_own_names_are_answered(client: Client, host: str) -> None:
    assert client.get(CASE, headers={"Host": host.format(port=client.port)}).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"403"),
        (b"GET / HTTP/1.0\r\n\r\n", b"403"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nHost: evil.example\r\n\r\n", b"403"),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b"400"),
        (b"GET etc/passwd HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 0\r\n\r\n", b"501"),
        (b"DELETE /api/slides/case_7 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b"501"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b"414"),
    ],
)
def test_odd_requests_are_refused(client: Client, request_: bytes, status: bytes) -> None:
    reply = client.raw(request_ % client.port if b"%d" in request_ else request_)
    assert reply.split(b" ")[1] == status
    assert b"nosniff" in reply


def test_a_body_does_not_become_the_next_request(client: Client) -> None:
    hidden = b"GET /api/slides HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % client.port
    head = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n" % (client.port, len(hidden))
    assert client.raw(head + hidden).count(b"HTTP/1.1 200") == 1


def test_only_the_loopback_interface_is_listened_on(client: Client) -> None:
    assert client.server.server_address[0] == "127.0.0.1"
    assert client.server.url == f"http://127.0.0.1:{client.port}/"
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", client.port), 5):
        pass


def test_nothing_may_be_loaded_from_elsewhere_nor_read_or_framed_there(client: Client) -> None:
    for target in ("/", "/slides/case_7", CASE, f"{CASE}/slide_files/10/0_0.jpg", "/nothing"):
        headers = client.get(target, headers={"Origin": "http://evil.example"}).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_a_connection_serves_many_requests_and_head_sends_no_body(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection.connect()
    socket_of_it = connection.sock
    for target in ("/", CASE, "/nothing", f"{CASE}/slide_files/10/0_0.jpg"):
        for method in ("HEAD", "GET"):
            connection.request(method, target)
            reply = connection.getresponse()
            length = int(reply.headers["Content-Length"])
            assert len(reply.read()) == (length if method == "GET" else 0)
            assert connection.sock is socket_of_it
    connection.close()


def test_many_browsers_at_once_get_what_one_alone_gets(tmp_path: Path) -> None:
    slides = [small_slide(tmp_path / f"{k}.svs") for k in range(MAX_OPEN + 2)]
    for k, slide in enumerate(slides):
        run = finished_run(tmp_path / "results", slide, sample_id=f"case_{k}")
    tiles = [
        f"/api/slides/case_{k}/{tile}"
        for tile in ASKED
        for k in range(len(slides))
    ]  # fmt: skip
    with serving(run) as client:
        alone = {target: client.get(target).body for target in tiles}
    # A new server with nothing in its caches, more slides than it keeps open, all asked for at once.
    with serving(run) as client, ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(client.get, tiles * 3))
        library = client.server.library
        assert [(reply.status, reply.body) for reply in replies] == [(200, alone[each]) for each in tiles * 3]
        assert len(library._open) == MAX_OPEN
        assert library._retired == []


def test_a_taken_port_and_a_folder_of_something_else_are_said_in_one_line(
    client: Client, run: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=rf"127\.0\.0\.1:{client.port}: cannot be listened on .*--port"):
        ViewerServer(run, client.port)
    with pytest.raises(OutputError, match=r"70000.*--port"):
        ViewerServer(run, 70000)
    with pytest.raises(OutputError, match="not the output folder of a run"):
        ViewerServer(RunFolder(tmp_path))
