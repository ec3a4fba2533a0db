"""Tiles per second and memory of wsi-cam view, as browsers ask for them: panning and zooming, nothing cached.

The command in a process of its own, a client on the same machine with several kept-open connections.
"panning" walks windows of 5 x 4 tiles over levels of full, half and quarter resolution, "zooming" goes from
the whole slide down to full resolution at random places; each comes with the heatmap's tiles of the same
places. No tile is asked for twice, so no cache of tiles helps. The client's own work is part of the time;
server_CPU_ms is the server's alone, per tile. Memory is the server's, its highest. Slides: a made one (JPEG
4:2:0, 65 536 px a side, levels 1, 4, 16, 64, all of it tissue), and a real one of one level where
../shared/data is there.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.export.make_run import finished_run
from tests.make_slides import write_sparse_svs
from wsi_cam.export.source import export_source
from wsi_cam.geometry import Affine, Box, Level0, Mpp
from wsi_cam.run_folder import RunFolder, write_json
from wsi_cam.slides.opening import open_slide
from wsi_cam.slides.slide import require_mpp
from wsi_cam.viewer.deep_zoom import TILE_PX, DeepZoom
from wsi_cam.viewer.tiles import finest_heatmap_level

CONNECTIONS = 6  # what browsers open to one host
CELL_PX = 64
WINDOW = (5, 4)  # tiles
REAL = Path(__file__).parents[3] / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"

Tile = tuple[int, int, int]  # level, column, row


def measure(work: Path, quick: bool) -> dict[str, Any]:
    side_px = 8192 if quick else 65_536
    slides = {"made": write_sparse_svs(work / "made.svs", side_px, [(0, 0, side_px, side_px)])}
    if REAL.exists():
        slides["real"] = REAL
    results: dict[str, Any] = {"connections": CONNECTIONS, "slides": {}}
    for name, path in slides.items():
        run, zoom = _results_for(work / f"results-{name}", path)
        finest = finest_heatmap_level(export_source(run, "case_7"), zoom.max_level)
        few = 60 if quick else 1500
        panning, zooming = (list(itertools.islice(way(zoom), few)) for way in (_panning, _zooming))
        results["slides"][name] = {
            "side_px": [zoom.width, zoom.height],
            "panning": _serve(run, _with_heatmap(panning, finest)),
            "zooming": _serve(run, _with_heatmap(zooming, finest)),
            "panning_without_heatmap": _serve(run, [_slide_tile(tile) for tile in panning]),
        }
    return results


def _results_for(folder: Path, slide_path: Path) -> tuple[RunFolder, DeepZoom]:
    """A finished run whose heatmap has smooth hills, a cell per 64 px."""
    with open_slide(slide_path) as slide:
        size, mpp = slide.info.size, require_mpp(slide.info)
    y, x = np.mgrid[: -(-size.height // CELL_PX), : -(-size.width // CELL_PX)].astype(np.float32)
    values = (0.5 + 0.5 * np.sin(x / 9) * np.sin(y / 7)).astype(np.float32)
    run = finished_run(
        folder, slide_path, values=values, to_level0=Affine(CELL_PX, CELL_PX), mpp=Mpp(mpp.x, mpp.y)
    )
    record_path = run.slide("case_7").slide_json
    record = json.loads(record_path.read_text())
    record["slide"]["size"] = {"width": size.width, "height": size.height}
    write_json(record_path, record)
    return run, DeepZoom(Box[Level0](0, 0, size.width, size.height))


def _panning(zoom: DeepZoom) -> Iterator[Tile]:
    """Windows side by side, row by row, on the three finest levels in turn."""
    per_level = []
    for level in range(zoom.max_level, max(zoom.max_level - 3, 0), -1):
        columns, rows = _tiles(zoom, level)
        starts = itertools.product(range(0, rows, WINDOW[1]), range(0, columns, WINDOW[0]))
        per_level.append(
            [
                (level, column, row)
                for top, left in starts
                for row in range(top, min(top + WINDOW[1], rows))
                for column in range(left, min(left + WINDOW[0], columns))
            ]
        )
    window = WINDOW[0] * WINDOW[1]
    for start in range(0, max(map(len, per_level)), window):
        for tiles in per_level:
            yield from tiles[start : start + window]


def _zooming(zoom: DeepZoom) -> Iterator[Tile]:
    """From the whole slide to full resolution at one random place after the other."""
    generator = np.random.default_rng(0)
    seen: set[Tile] = set()
    for _ in range(2000):
        x, y = generator.random(2) * [zoom.width, zoom.height]
        for level in range(zoom.level_within(TILE_PX), zoom.max_level + 1):
            columns, rows = _tiles(zoom, level)
            middle = [int(value / 2 ** (zoom.max_level - level) / TILE_PX) for value in (x, y)]
            for row in range(max(middle[1] - 1, 0), min(middle[1] + 2, rows)):
                for column in range(max(middle[0] - 2, 0), min(middle[0] + 3, columns)):
                    tile = (level, column, row)
                    if tile not in seen:
                        seen.add(tile)
                        yield tile


def _tiles(zoom: DeepZoom, level: int) -> tuple[int, int]:
    size = zoom.grid(level).size
    return -(-size.width // TILE_PX), -(-size.height // TILE_PX)


def _slide_tile(tile: Tile) -> str:
    return f"/api/slides/case_7/slide_files/{tile[0]}/{tile[1]}_{tile[2]}.jpg"


def _with_heatmap(tiles: list[Tile], finest: int) -> list[str]:
    """Each tile of the slide, then that of the heatmap over it, where it was not asked for yet."""
    targets: dict[str, None] = {}
    for level, column, row in tiles:
        targets[_slide_tile((level, column, row))] = None
        finer = max(0, level - finest)  # what the browser enlarges instead
        place = f"{level - finer}/{column >> finer}_{row >> finer}"
        targets[f"/api/slides/case_7/heatmap/probability/1/{place}.png"] = None
    return list(targets)


def _serve(run: RunFolder, targets: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "wsi_cam.cli.main", "view", str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found is not None
        port = int(found[1])
        _ask(port, ["/api/slides/case_7"])  # opens the slide; imports are not measured
        server = psutil.Process(process.pid)
        cpu_before, began = _cpu_seconds(server), time.perf_counter()
        received = _ask(port, targets)
        seconds, cpu = time.perf_counter() - began, _cpu_seconds(server) - cpu_before
        peak_mib = _peak_mib(process.pid)
        process.terminate()
    return {
        "tiles": len(targets),
        "tiles_per_s": round(len(targets) / seconds),
        "server_CPU_ms": round(1000 * cpu / len(targets), 2),
        "KiB_per_tile": round(received / len(targets) / 1024, 1),
        "peak_MiB": peak_mib,
    }


def _ask(port: int, targets: list[str]) -> int:
    """Fetches all over a few connections, in their order; gives the bytes received."""
    waiting = iter(targets)
    lock = threading.Lock()
    received = 0

    def work() -> None:
        nonlocal received
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                target = next(waiting, None)
            if target is None:
                break
            connection.request("GET", target)
            reply = connection.getresponse()
            body = reply.read()
            assert reply.status == 200, f"{target}: {reply.status} {body[:200]!r}"
            with lock:
                received += len(body)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return received


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak_mib(pid: int) -> int | None:
    """The process's high-water mark, where the system says it (Linux)."""
    if not os.path.exists(f"/proc/{pid}/status"):
        return None
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024)
