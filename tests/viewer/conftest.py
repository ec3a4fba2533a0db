"""One run of one slide, served for a whole file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.export.make_run import finished_run, small_slide
from tests.viewer.serving import Client, serving
from wsi_cam.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("viewer")
    return finished_run(folder / "results", small_slide(folder / "slides" / "case_7.svs"))


@pytest.fixture(scope="module")
def client(run: RunFolder) -> Iterator[Client]:
    with serving(run) as client:
        yield client


@pytest.fixture
def slide_path(run: RunFolder) -> Path:
    return run.path.parent / "slides" / "case_7.svs"
