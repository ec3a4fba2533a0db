"""Kill a run with SIGKILL at random moments, give the same command again, and look whether anything is lost.

    scripts/torture                 20 kills of a run of 6 slides (some minutes on 2 cores)
    scripts/torture --kills 3 --slides 2 --side 12    to see that it works

Killed are, by chance: the whole process group, the command alone, or its worker alone. The results have to
equal those of an undisturbed run to the byte but for times; nothing temporary may be left, and a slide that
was done may not be computed again. Figures go to scripts/torture_results/<name>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.benchmarks.machine import machine
from scripts.killing import PATIENCE_S, kill, outlived, wait_for
from scripts.run_differences import differences
from tests.make_models import model_card, write_bundle
from tests.make_slides import tissue_image, write_svs

RESULTS = Path(__file__).parent / "torture_results"
PATCH_PX, BATCH_SIZE = 64, 16


@dataclass
class Figures:
    """What happened; ``problems`` is empty where nothing was lost."""

    kills: Counter[str] = field(default_factory=Counter)
    """By what was killed."""
    moments: Counter[str] = field(default_factory=Counter)
    """By what was going on."""
    attempts: int = 0
    finished_before_all_kills: int = 0
    """Runs that ended before their turn to be killed came; a new folder was begun then."""
    undisturbed_s: float = 0.0
    disturbed_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def all_kills(self) -> int:
        return sum(self.kills.values())


@dataclass(frozen=True)
class _Torment:
    """What is killed how often; ``start_s`` and ``work_s`` are seconds until, and from, the first batch."""

    command: list[str]
    kills: int
    slides: int
    start_s: float
    work_s: float
    chance: random.Random
    figures: Figures


def torture(work: Path, kills: int, slides: int, side: int, seed: int) -> Figures:
    """Kill ``kills`` times a run over ``slides`` slides of about ``side`` x ``side`` patches."""
    chance, figures = random.Random(seed), Figures()
    inputs, bundle = _make_inputs(work, slides, side)
    # The folder always has the same name, for files for QuPath name it.
    out, undisturbed = work / "out", work / "undisturbed"
    command = [
        *(sys.executable, "-m", "wsi_cam.cli.main", "run", str(inputs), "-o", str(out)),
        *("--model", str(bundle), "--batch-size", str(BATCH_SIZE), "--overlap", "0"),
    ]
    began = time.perf_counter()
    first_sign = _run_undisturbed(command, out, work / "undisturbed.log")
    ended = time.perf_counter()
    figures.undisturbed_s = ended - began
    torment = _Torment(command, kills, slides, first_sign - began, ended - first_sign, chance, figures)
    out.rename(undisturbed)
    began, rounds = time.perf_counter(), 0
    while figures.all_kills < kills and not figures.problems:
        rounds += 1
        _one_round(torment, out, work)
        figures.problems += differences(undisturbed, out)
        out.rename(work / f"round-{rounds}")
    figures.disturbed_s = time.perf_counter() - began
    return figures


def _one_round(torment: _Torment, out: Path, work: Path) -> None:
    """From an empty folder until the run is done, with kills on the way."""
    figures = torment.figures
    done: dict[str, tuple[int, int]] = {}
    runs = []
    while True:
        figures.attempts += 1
        with (work / f"attempt-{figures.attempts}.log").open("wb") as log:
            run = subprocess.Popen(torment.command, stdout=log, stderr=log, start_new_session=True)
        runs.append(run)
        workers_killed, ended = 0, True
        while figures.all_kills < torment.kills and _wait_for_the_moment(run, out, torment):
            moment = _going_on(out)
            killed = kill(run, torment.chance)
            figures.kills[killed] += 1
            figures.moments[moment] += 1
            print(f"kill {figures.all_kills}: {killed}, {moment}", flush=True)
            workers_killed += killed == "worker"
            if killed != "worker":
                ended = False
                break
        wait_for(run)
        figures.problems += _computed_again(out, done)
        # A slide whose worker dies twice is taken to be at fault; given again, the command tries once more.
        if not ended or (run.returncode == 1 and workers_killed > 1):
            continue
        if run.returncode != 0:
            figures.problems.append(f"{log.name}: exit status {run.returncode}")
        if figures.all_kills < torment.kills:
            figures.finished_before_all_kills += 1
        for run in filter(outlived, runs):
            figures.problems.append(f"a process of run {run.pid} was there half a minute after its end")
        return


def _wait_for_the_moment(run: subprocess.Popen[bytes], out: Path, torment: _Torment) -> bool:
    """Sleep until it is time to kill; False where the run ends before.

    A quarter of the kills comes while the program starts, the rest when it has begun to look at patches,
    spread over the work that is left.
    """
    asleep, chance = time.monotonic(), torment.chance
    if chance.random() < 0.25:
        until = asleep + chance.uniform(0, torment.start_s)
    else:
        before = _state(out)
        while _state(out) == before:
            if run.poll() is not None:
                return False
            if time.monotonic() > asleep + PATIENCE_S:
                raise SystemExit(f"the run has not moved for {PATIENCE_S:.0f} s; see its log")
            time.sleep(0.01)
        left = 1 - len(list((out / "slides").glob("[!.]*/slide.json"))) / torment.slides
        kills_left = torment.kills - torment.figures.all_kills
        until = time.monotonic() + chance.uniform(0, 2 * left * torment.work_s / (kills_left + 1))
    while time.monotonic() < until:
        if run.poll() is not None:
            return False
        time.sleep(0.005)
    return run.poll() is None


def _state(out: Path) -> object:
    """Changes as soon as a run works on slides."""
    slides = out / "slides"
    files = sorted(slides.glob("*/journal")) if slides.is_dir() else []
    try:
        return [(str(file), file.stat().st_size) for file in files]
    except FileNotFoundError:
        return None


def _going_on(out: Path) -> str:
    slides = out / "slides"
    growing = [path for path in slides.iterdir() if path.name.startswith(".")] if slides.is_dir() else []
    if not growing:
        return "no slide begun"
    return "files being written" if (growing[0] / "patches.csv").exists() else "patches being looked at"


def _computed_again(out: Path, done: dict[str, tuple[int, int]]) -> list[str]:
    """Slides that were done before and are another file now; enters those that are done now."""
    now = {}
    for record in sorted((out / "slides").glob("[!.]*/slide.json")):
        facts = record.stat()
        now[record.parent.name] = facts.st_ino, facts.st_mtime_ns
    changed = [f"{name}: was done and was computed again" for name in done if now.get(name) != done[name]]
    done |= now
    return changed


def _run_undisturbed(command: list[str], out: Path, log: Path) -> float:
    """Run the command to its end; when its first slide was begun, on the clock of perf_counter."""
    first_sign = None
    with log.open("wb") as file:
        run = subprocess.Popen(command, stdout=file, stderr=file)
        while run.poll() is None:
            if first_sign is None and _state(out):
                first_sign = time.perf_counter()
            time.sleep(0.01)
    if run.returncode:
        raise SystemExit(f"the undisturbed run failed:\n{log.read_text()}")
    return first_sign or time.perf_counter()


def _make_inputs(work: Path, slides: int, side: int) -> tuple[Path, Path]:
    """Slides of different sizes, all tissue, and a ResNet-50 with random weights for small patches."""
    inputs = work / "slides"
    inputs.mkdir()
    for number in range(slides):
        height, width = side * PATCH_PX, (side + number) * PATCH_PX
        image = tissue_image(height, width, [(0, 0, width, height)], seed=number)
        write_svs(inputs / f"case {number}.svs", image, mpp=1.0, levels=(1, 4))
    card = model_card(patch_size_px=PATCH_PX, mpp_um=1.0)
    return inputs, write_bundle(work / "bundle", card)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--slides", type=int, default=6)
    parser.add_argument("--side", type=int, default=20, help="patches along a side of a slide")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; another one gives others")
    parser.add_argument("--work", type=Path, help="new folder to work in, which is kept")
    parser.add_argument(
        "--name", default=f"cpu-{os.cpu_count()}-cores", help="of the results file (default: %(default)s)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wsi_cam-torture-") as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        figures = torture(work, args.kills, args.slides, args.side, args.seed)
    measured = as_json(figures, args)
    print(json.dumps(measured, indent=2))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{args.name}.json"
    path.write_text(json.dumps({"machine": machine(), **measured}, indent=2) + "\n")
    if figures.problems:
        raise SystemExit("\n".join(["something was lost:", *_first(figures.problems)]))
    print(f"{figures.all_kills} kills, nothing lost; figures in {path}")


def as_json(figures: Figures, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "slides": args.slides,
        "patches": sum(args.side * (args.side + number) for number in range(args.slides)),
        "seed": args.seed,
        "kills": dict(sorted(figures.kills.items())),
        "killed_while": dict(sorted(figures.moments.items())),
        "commands_given": figures.attempts,
        "finished_before_all_kills": figures.finished_before_all_kills,
        "undisturbed_s": round(figures.undisturbed_s, 1),
        "disturbed_s": round(figures.disturbed_s, 1),
        "problems": _first(figures.problems),
    }


def _first(problems: list[str], count: int = 20) -> list[str]:
    more = len(problems) - count
    return problems if more <= 0 else [*problems[:count], f"and {more} more"]


if __name__ == "__main__":
    main()
