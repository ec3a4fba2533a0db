"""Bio-Formats from outside: what it says of a file, and what it decodes."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

_JAR = Path(__file__).resolve().parents[2] / ".cache" / "bioformats_package.jar"


@dataclass(frozen=True)
class BioFormats:
    """Bio-Formats' command-line tools; each call starts a Java machine (2 s)."""

    java: str

    def ome_xml(self, path: Path) -> ElementTree.Element:
        """The metadata as Bio-Formats understood them; namespaces removed."""
        options = ("-nopix", "-noflat", "-no-upgrade", "-omexml-only")
        text = self._run("loci.formats.tools.ImageInfo", *options, str(path))
        root = ElementTree.fromstring(text[text.index("<?xml") :])
        for element in root.iter():
            element.tag = element.tag.split("}")[-1]
        return root

    def decode(self, path: Path, level: int, box: tuple[int, int, int, int]) -> NDArray[np.generic]:
        """Pixels of a box (x, y, width, height) of a level, all channels."""
        out = path.with_name(f"decoded-{level}.tif")
        crop = ",".join(map(str, box))
        options = ("-no-upgrade", "-overwrite", "-series", str(level), "-crop", crop)
        self._run("loci.formats.tools.ImageConverter", *options, str(path), str(out))
        pixels: NDArray[np.generic] = tifffile.imread(out)
        return pixels

    def _run(self, *arguments: str) -> str:
        command = [self.java, "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", str(_JAR), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def require_bioformats() -> BioFormats:
    """Skips the test, with the reason, where Java or the jar is missing."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("no java on the path, so Bio-Formats cannot be asked")
    if not _JAR.is_file():
        pytest.skip("no Bio-Formats: run scripts/fetch-bioformats")
    return BioFormats(java)
