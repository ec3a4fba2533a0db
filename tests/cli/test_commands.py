"""The command line: what a person types, sees, and what the shell gets back."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.make_models import model_card, write_bundle
from tests.make_slides import tissue_image, write_svs
from wsi_cam.cli.main import main
from wsi_cam.cli.run import duration_s
from wsi_cam.process_list import read_process_list


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle", model_card(patch_size_px=64, mpp_um=1.0))


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    image = tissue_image(600, 700, [(100, 100, 400, 400)])
    return write_svs(tmp_path / "slide.svs", image, mpp=0.5)


@pytest.fixture
def run(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[object]:
    """Runs ``wsi-cam run INPUT... -o out`` and gives (status, stdout, stderr).

    In this process, which spares each test the start of another; ``tests/batch`` has the worker process.
    """

    def run_command(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        common = ["-o", str(tmp_path / "out"), "--model", str(bundle), "--in-process"]
        status = main(["run", *map(str, arguments), *common])
        out, err = capfd.readouterr()
        return status, out, err

    return run_command  # type: ignore[return-value]


def test_help_names_every_command_and_teaches_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in ("run", "info", "demo", "doctor", "esearch use only", "wsi-cam run slide.svs -o results"):
        assert word in text


@pytest.mark.parametrize("module", ["wsi_cam", "wsi_cam.cli.main"])
def test_without_a_command_the_help_is_shown(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "wsi-cam run slide.svs -o results" in done.stderr


def test_warnings_carry_the_command_s_name_and_on_demand_the_module_s() -> None:
    code = """
import logging, sys
from wsi_cam.cli.commands import _set_up_logging
_set_up_logging(int(sys.argv[1]))
logging.getLogger("wsi_cam.tiling.roi").warning("roi.geojson: 1 of type Point passed over")
logging.getLogger("other").error("broken")
"""
    for verbosity, name in ((0, "wsi-cam"), (1, "wsi_cam.tiling.roi")):
        command = [sys.executable, "-c", code, str(verbosity)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr.splitlines() == [
            f"{name}: roi.geojson: 1 of type Point passed over",
            "other: broken",
        ]


def test_help_starts_without_torch() -> None:
    heavy = "{'torch', 'zarr', 'matplotlib', 'skimage', 'numpy'}"
    code = f"import sys, wsi_cam.cli.commands; found = {heavy} & set(sys.modules); sys.exit(str(found or 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0"


def test_ctrl_c_while_the_commands_load_is_one_line() -> None:
    code = """
import signal, sys
class CtrlC:
    def find_spec(self, name, *_):
        if name == "wsi_cam.cli.run":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
from wsi_cam.cli.main import main
sys.exit(main(["run", "slide.svs", "-o", "results"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.splitlines() == [
        "wsi-cam: interrupted; nothing half-done has a final name, what is done stays"
    ]


def test_batches_are_public_and_their_names_cost_nothing_until_they_are_used() -> None:
    code = (
        "import sys, wsi_cam; light = 'wsi_cam.batch' not in sys.modules; "
        "from wsi_cam import plan_batch, run_batch; sys.exit(str((light, 'torch' in sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "(True, False)"


def test_a_run_says_what_it_did_and_skips_it_the_next_time(run, slide: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, err = run(slide)
    assert (status, err) == (0, "")
    assert "slide 1 of 1: slide" in out
    assert "1 done, 0 failed" in out
    rows = read_process_list(tmp_path / "out" / "process_list.csv")
    assert rows["slide"].status == "done"
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["slides"] == {"slide": "done"}
    before = (tmp_path / "out" / "slides" / "slide" / "slide.json").stat().st_mtime_ns
    status, out, _ = run(slide)
    assert status == 0
    assert "already done" in out
    assert (tmp_path / "out" / "slides" / "slide" / "slide.json").stat().st_mtime_ns == before


def test_a_result_of_other_settings_is_stale_and_updated_on_demand(run, slide: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert run(slide)[0] == 0
    status, out, err = run(slide, "--overlap", "0.5")
    assert status == 1
    assert "slide 1 of 1: slide: stale: overlap 0 -> 0.5" in err
    assert "1 stale (--update computes them again)" in out
    row = read_process_list(tmp_path / "out" / "process_list.csv")["slide"]
    assert (row.status, row.error) == ("done", "stale: overlap 0 -> 0.5")

    status, out, _ = run(slide, "--overlap", "0.5", "--dry-run")
    assert status == 0
    assert "slide: stale: overlap 0 -> 0.5" in out
    assert "1 stale; a run would work on 0, with --update on 1" in out

    assert run(slide, "--overlap", "0.5", "--update")[0] == 0
    status, out, err = run(slide, "--overlap", "0.5")
    assert (status, err) == (0, "")
    assert "already done" in out
    assert read_process_list(tmp_path / "out" / "process_list.csv")["slide"].error == ""


def test_an_overlap_that_the_model_cannot_have_is_said_once(run, slide: Path) -> None:  # type: ignore[no-untyped-def]
    _, out, err = run(slide, "--overlap", "0.3")
    assert (
        "overlap 0.3 becomes 0.5: this model's patches of 64 px lie whole cells of 32 px apart" in out + err
    )
    _, out, err = run(slide, "--overlap", "0.5", "--force")
    assert "becomes" not in out + err


def test_a_dry_run_names_what_is_missing_and_writes_nothing(run, slide: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = run(slide, "--dry-run")
    assert status == 0
    assert out == f"slide: missing  ({slide})\n1 missing; a run would work on 1\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_times_are_given_as_people_say_them(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "nan", "inf", "1d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no time"):
        duration_s(text)


def test_one_region_for_two_slides_is_refused(run, slide: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    roi = tmp_path / "roi.geojson"
    ring = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
    roi.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    status, _, err = run(slide, make_bad_input("text", tmp_path), "--tissue", roi)
    assert status == 2
    assert "mask_path" in err


def make_bad_input(kind: str, folder: Path) -> Path:
    path = folder / "bad.svs"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no slide\n" * 50)
    elif kind == "folder":
        path.mkdir()
        (path / "notes.txt").write_text("x")
    elif kind == "truncated":
        write_svs(path, tissue_image(900, 900, [(0, 0, 900, 900)]), mpp=0.5)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "no spacing":
        write_svs(path, tissue_image(600, 600, [(0, 0, 600, 600)]), mpp=None, objective_power=None)
    elif kind == "glass":
        write_svs(path, tissue_image(600, 600, []), mpp=0.5)
    return path


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("missing", "no such file"), ("empty", "empty"), ("text", ""), ("folder", ""), ("truncated", ""),
     ("no spacing", "--mpp"), ("glass", "--tissue")],
)  # fmt: skip
def test_bad_input_gives_one_line_and_leaves_nothing_half_written(  # type: ignore[no-untyped-def]
    run, tmp_path: Path, kind: str, remedy: str
) -> None:
    status, out, err = run(make_bad_input(kind, tmp_path))
    assert status != 0
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert "bad.svs" in lines[0]
    assert remedy in lines[0]
    assert "Traceback" not in out + err
    slides = tmp_path / "out" / "slides"
    assert not slides.exists() or list(slides.iterdir()) == []


def test_a_bad_slide_does_not_stop_the_good_one(run, slide: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    bad = make_bad_input("text", tmp_path)
    status, out, err = run(bad, slide)
    assert status == 1
    assert "1 done, 1 failed" in out
    assert "bad.svs" in err
    rows = read_process_list(tmp_path / "out" / "process_list.csv")
    assert {name: row.status for name, row in rows.items()} == {"bad": "failed", "slide": "done"}
    assert rows["bad"].error
    assert "Traceback" in (tmp_path / "out" / "logs" / "bad.log").read_text()


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [("--model", "nowhere", "nowhere"), ("--overlap", "1.5", "overlap"), ("--device", "cuda:99", "cuda"),
     ("--target-layer", "layer9", "layer9"), ("--config", "nowhere.toml", "nowhere.toml")],
)  # fmt: skip
def test_what_cannot_start_is_said_in_one_line(  # type: ignore[no-untyped-def]
    slide: Path,
    bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    option: str,
    value: str,
    complaint: str,
) -> None:
    arguments = ["run", str(slide), "-o", str(tmp_path / "out"), "--model", str(bundle), option, value]
    # One of them by way of the worker process, which has to hand its error on.
    status = main([*arguments, *([] if option == "--target-layer" else ["--in-process"])])
    captured = capfd.readouterr()
    assert status in (1, 2)
    assert complaint in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_memory_that_runs_out_is_one_line_and_other_defects_keep_their_traceback(
    slide: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(cause: str) -> None:
        raise RuntimeError(cause)

    for cause in ("CUDA out of memory. Tried to allocate 2 GiB", "CPUAllocator: can't allocate memory"):
        monkeypatch.setattr("wsi_cam.slides.opening.open_slide", lambda *_, cause=cause, **__: fail(cause))
        assert main(["info", str(slide)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert cause in line
        assert "--batch-size" in line
    monkeypatch.setattr("wsi_cam.slides.opening.open_slide", lambda *_, **__: fail("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        main(["info", str(slide)])


def test_an_output_folder_that_cannot_be_written_is_named(
    slide: Path, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    output = str(tmp_path / "file" / "out")
    status = main(["run", str(slide), "-o", output, "--model", str(bundle), "--in-process"])
    err = capfd.readouterr().err
    assert status == 2
    assert "cannot be written" in err
    assert len(err.strip().splitlines()) == 1


def test_info_prints_facts_for_people_and_for_programs(
    slide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(slide)]) == 0
    printed = capsys.readouterr().out
    assert "700 x 600 px" in printed
    assert "objective    20x" in printed
    assert main(["info", str(slide), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["path"].endswith("slide.svs")
