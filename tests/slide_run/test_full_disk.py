"""A disk that is full, at whichever file: one line, and the same command goes on when there is space."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.make_slides import tissue_image, write_svs
from tests.result_bytes import result_bytes
from tests.slide_run.conftest import SETTINGS
from wsi_cam import explain_slide
from wsi_cam.errors import OutputError
from wsi_cam.inference import PatchExplainer
from wsi_cam.run_folder import RunFolder

FORMATS = replace(SETTINGS, export=("csv", "qupath"))
PAGE = 4096
Mount = Callable[[int], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a disk of so many pages; mounted again, it keeps what it holds and has another size."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root can mount a disk of a few kilobytes, on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(pages: int) -> Path:
        options = f"{'remount,' if folder.is_mount() else ''}size={pages * PAGE}"
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, slide: Path, explainer: PatchExplainer
) -> dict[str, bytes]:
    return result_bytes(explain_slide(slide, tmp_path_factory.mktemp("whole"), explainer, FORMATS).folder)


@pytest.mark.parametrize(
    ("pages", "seen"),
    [
        pytest.param(3, 0, id="when a heatmap is begun"),
        pytest.param(13, 4, id="in the journal"),
        pytest.param(19, 30, id="when a heatmap is ended"),
        pytest.param(30, 30, id="at the files for QuPath"),
    ],
)
def test_a_full_disk_is_one_line_and_the_slide_goes_on_when_there_is_space(
    small_disk: Mount,
    slide: Path,
    explainer: PatchExplainer,
    undisturbed: dict[str, bytes],
    pages: int,
    seen: int,
) -> None:
    out = small_disk(pages) / "out"
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\); free") as raised:
        explain_slide(slide, out, explainer, FORMATS)
    assert "\n" not in str(raised.value)
    assert not RunFolder(out).is_done("case")
    small_disk(16_000)
    result = explain_slide(slide, out, explainer, FORMATS)
    assert result.resumed_at >= seen
    assert result_bytes(result.folder) == undisturbed
    assert [path.name for path in (out / "slides").iterdir()] == ["case"]


def test_a_full_disk_is_said_where_only_the_reason_of_a_failure_was_to_be_drawn(
    small_disk: Mount, tmp_path: Path, explainer: PatchExplainer
) -> None:
    glass = write_svs(tmp_path / "glass.svs", tissue_image(900, 900, []), mpp=0.5)
    out = small_disk(3) / "out"
    with pytest.raises(OutputError, match=r"glass\.tissue\.png: cannot be written \(No space left"):
        explain_slide(glass, out, explainer, SETTINGS)
