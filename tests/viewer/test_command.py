"""``wsi-cam view``: says where, serves, and ends quietly."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.export.make_run import finished_run, small_slide
from wsi_cam.cli.main import main

VIEW = [sys.executable, "-m", "wsi_cam.cli.main", "view"]


@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C can be sent to a process there")
def test_it_prints_the_address_serves_and_ends_quietly_at_ctrl_c(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "results", small_slide(tmp_path / "slide.svs"))
    with subprocess.Popen(
        [*VIEW, str(run.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert address, said
        with urllib.request.urlopen(f"{address[0]}api/slides", timeout=20) as reply:
            assert b"case_7" in reply.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_a_folder_that_is_no_run_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"wsi-cam: {tmp_path}: not the output folder of a run (it has no folder slides)\n"
    )


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["view", "--help"])
    said = capsys.readouterr().out
    assert "ssh -L 8765:127.0.0.1:8765" in said
    assert "--port" in said
