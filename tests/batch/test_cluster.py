"""Batches on a Dask cluster: the same results, whoever dies."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.batch.conftest import command, small_slide, started
from tests.result_bytes import result_bytes
from wsi_cam import RunSettings
from wsi_cam.batch.cluster import ClusterEngine, ClusterError
from wsi_cam.batch.cluster_survey import differing_versions, has_gpu, versions_here, worker_facts
from wsi_cam.batch.local_cluster import worker_count
from wsi_cam.batch.task import BatchSetup
from wsi_cam.errors import SettingsError
from wsi_cam.process_list import read_process_list

pytest.importorskip("distributed")
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A folder of three slides, two of which take some time, and a text."""
    folder = tmp_path / "slides"
    for name in ("a", "b"):
        small_slide(folder / f"{name}.svs", side=600)
    small_slide(folder / "c.svs")
    (folder / "text.svs").write_text("no slide")
    return folder


def results(output: Path) -> dict[str, dict[str, bytes]]:
    """Files by sample id, and what the process list says of each slide, but for times."""
    found = {folder.name: result_bytes(folder) for folder in (output / "slides").iterdir()}
    for sample_id, row in read_process_list(output / "process_list.csv").items():
        found.setdefault(sample_id, {})["row"] = f"{row.status} {row.error} {row.patches}".encode()
    return found


def slide_processes(of: psutil.Process) -> list[psutil.Process]:
    """The processes below one that work on slides."""
    return [p for p in of.children(recursive=True) if "worker_main" in " ".join(p.cmdline())]


def wait_for(what: str, condition: object, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_cluster_of_which_a_worker_is_killed_ends_with_the_results_of_a_plain_run(
    slides: Path, bundle: Path, tmp_path: Path
) -> None:
    plain, output = tmp_path / "plain", tmp_path / "out"
    done = subprocess.run(
        command(slides, bundle=bundle, output=plain), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    with started([*command(slides, bundle=bundle, output=output), "--cluster", "local:2"]) as run:
        journals = output / "slides"
        wait_for("two slides under way", lambda: len(list(journals.glob(".*.partial"))) == 2)
        time.sleep(0.5)  # into the middle of them
        victim = slide_processes(psutil.Process(run.pid))[0]
        victim.parent().kill()
        out, err = run.communicate(timeout=600)
    assert run.returncode == 1, err
    assert "3 done, 1 failed" in out
    assert "begun again on tcp://" in out + err
    assert [line for line in err.splitlines() if not line.startswith(("slide ", "wsi_cam"))] == []
    assert results(output) == results(plain)
    wait_for("the victim's slide process ends too", lambda: not victim.is_running())


@contextmanager
def dask(*arguments: str) -> Iterator[psutil.Process]:
    with subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def test_a_scheduler_that_runs_elsewhere_is_used_and_left_as_it_was(
    slides: Path, bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    where = ("--scheduler-file", str(file))
    with (
        dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *where),
        dask("worker", *where, "--nthreads", "1", "--local-directory", str(tmp_path / "scratch")) as worker,
    ):
        wait_for("the scheduler's file", file.is_file)
        run = subprocess.run(
            [
                *command(slides / "c.svs", slides / "text.svs", bundle=bundle, output=tmp_path / "out"),
                *("--cluster", str(file)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 1, run.stderr
        assert "1 done, 1 failed" in run.stdout
        assert worker.is_running()
        wait_for("the model is let go of", lambda: not slide_processes(worker))


def test_a_scheduler_that_goes_is_said_in_a_line(slides: Path, bundle: Path, tmp_path: Path) -> None:
    where = ("--scheduler-file", str(tmp_path / "scheduler.json"))
    output = tmp_path / "out"
    with (
        dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *where) as scheduler,
        dask("worker", *where, "--nthreads", "1", "--local-directory", str(tmp_path / "scratch")),
    ):
        wait_for("the scheduler's file", Path(where[1]).is_file)
        with started([*command(slides, bundle=bundle, output=output), "--cluster", where[1]]) as run:
            wait_for("a slide under way", lambda: list((output / "slides").glob(".*.partial")))
            scheduler.kill()
            _, err = run.communicate(timeout=300)
    assert run.returncode == 2
    (line,) = [line for line in err.splitlines() if line.startswith("wsi-cam: --cluster")]
    assert "the scheduler has gone" in line
    assert "Traceback" not in err


def engine(where: str, tmp_path: Path) -> ClusterEngine:
    return ClusterEngine(BatchSetup(tmp_path, RunSettings()), where)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("local:none", "local:N is wanted"),
        ("local:0", "local:N is wanted"),
        ("nowhere.json", "nor a scheduler file .*No such file.*dask scheduler --scheduler-file"),
        ("host:8786", "nor an address such as tcp://host:8786"),
    ],
)
def test_a_cluster_that_cannot_be_meant_is_said_in_a_line(where: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        engine(where, tmp_path).start()
    assert "\n" not in str(caught.value)


def test_a_scheduler_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsi_cam.batch.cluster._CONNECT_S", 1)
    nobody = engine("tcp://127.0.0.1:9", tmp_path)
    with pytest.raises(SettingsError, match=r"tcp://127.0.0.1:9: no scheduler answers within 1 s"):
        nobody.start()
    nobody.close()


def test_without_dask_the_way_to_install_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match=r"pip install wsi-cam\[cluster\]"):
        engine("local:2", tmp_path).start()


def test_workers_of_another_version_are_named() -> None:
    here = versions_here()
    assert differing_versions(here, here) == ""
    patch_level = here | {"Python": here["Python"] + "7"}
    assert differing_versions(here, patch_level) == ""
    other = here | {"wsi-cam": "0.0.1"}
    del other["distributed"]
    assert differing_versions(here, other) == (
        f"wsi-cam 0.0.1 and not {here['wsi-cam']}, distributed none and not {here['distributed']}"
    )


def test_workers_can_be_surveyed_that_do_not_have_the_package() -> None:
    import cloudpickle

    there = """if True:
        import pickle, sys, types
        sys.modules["wsi_cam"] = None
        state = types.SimpleNamespace(total_resources={"GPU": 1.0})
        print(pickle.load(sys.stdin.buffer)(types.SimpleNamespace(state=state)))
    """
    sent = cloudpickle.dumps(worker_facts())
    facts = ast.literal_eval(
        subprocess.run(
            [sys.executable, "-c", there], input=sent, capture_output=True, check=True
        ).stdout.decode()
    )
    assert facts["versions"] == versions_here()
    assert has_gpu(facts)


def test_how_many_workers_local_means() -> None:
    assert (worker_count("local"), worker_count("local:3")) == (0, 3)


def test_a_scheduler_that_goes_before_a_slide_is_given_out_is_said_too(tmp_path: Path) -> None:
    from distributed.comm import CommClosedError

    class Gone:
        def nthreads(self) -> dict[str, int]:
            raise CommClosedError("in <TCP>: Stream is closed")

    lost = engine("tcp://here:1", tmp_path)
    lost._client = Gone()  # type: ignore[assignment]
    with pytest.raises(ClusterError, match=r"the scheduler has gone \(in <TCP>"):
        lost._places()
    lost._client = None
