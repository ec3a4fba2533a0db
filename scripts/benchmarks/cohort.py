"""``wsi-cam cohort`` of 1 000 slides: seconds and peak memory of the tables, and of tables and report.

40 different slides of about 2 400 patches (heatmaps of 121 x 101 cells, two classes), each copied 24 times
under another name with another score. They have no pictures. The commands are processes of their own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cohort.make_results import finished_slide, hills, listed
from wsi_cam.process_list import ProcessRow
from wsi_cam.run_folder import RunFolder, write_json

_COMMAND = """
import json, resource, sys, time
from pathlib import Path
began = time.perf_counter()
from wsi_cam.cli.main import main
status = main(["cohort", *sys.argv[1:]])
seconds = time.perf_counter() - began
try:
    # Of this program alone: ru_maxrss would begin with the memory of the process that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"status": status, "seconds": round(seconds, 1), "peak_MiB": round(peak)}))
"""


def measure(work: Path, quick: bool) -> dict[str, Any]:
    different, copies = (5, 4) if quick else (40, 25)
    run = RunFolder(work / "run")
    make_results(run, different, copies)
    results: dict[str, Any] = {"slides": different * copies}
    for name, options in {"tables": [], "tables and report": ["--report"]}.items():
        command = [sys.executable, "-c", _COMMAND, str(run.path), "--preset", "lymph-node", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    results["report.html_MiB"] = round((run.path / "report.html").stat().st_size / 2**20, 1)
    return results


def make_results(run: RunFolder, different: int, copies: int) -> None:
    """``different * copies`` slides in the run folder, patients of two slides each."""
    rows = []
    for number in range(different):
        template = f"slide_{number:03}_00"
        finished_slide(run, template, hills(50, 60, seed=number, peaks=number % 6))
        record = json.loads(run.slide(template).slide_json.read_text())
        for copy in range(copies):
            sample_id = f"slide_{number:03}_{copy:02}"
            if copy:
                shutil.copytree(run.slide(template).path, run.slide(sample_id).path)
                score = record["score"]["of_each_class"]["tumour"] * (1 - copy / 1000)
                changed = {**record["score"], "of_each_class": {"normal": 0.9, "tumour": score}}
                write_json(run.slide(sample_id).slide_json, record | {"score": changed})
            patient = f"patient_{(number * copies + copy) // 2:03}"
            rows.append(ProcessRow(sample_id, f"{sample_id}.svs", "done", patient_id=patient))
    listed(run, *rows)
