"""Groovy from outside: whether scripts compile, and what they do with stand-ins for QuPath's classes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STUBS = Path(__file__).with_name("groovy_stubs")


@dataclass(frozen=True)
class Groovy:
    """Debian's groovy with the stubs compiled into ``classes``; each call starts a Java machine (2 s)."""

    classes: Path
    environment: dict[str, str]

    def compile(self, scripts: list[Path], into: Path) -> None:
        """Raises AssertionError with the compiler's words; a class that no stub names does not compile."""
        self._run("groovyc", "-cp", str(self.classes), "-d", str(into), *map(str, scripts))

    def perform(
        self, project: Path, open_entry: str, scripts: list[Path]
    ) -> tuple[list[dict[str, Any]], str]:
        """Runs scripts as on the project with one entry open: what they did, and what they printed."""
        harness = STUBS / "Perform.groovy"
        said = self._run(
            "groovy", "-cp", str(self.classes), str(harness), str(project), open_entry, *map(str, scripts)
        )
        happened = json.loads(said.splitlines()[-1])
        return happened["events"], happened["told"]

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=120, env=self.environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def require_groovy(folder: Path) -> Groovy:
    """Groovy with the stubs compiled into ``folder``; skips, with the reason, where there is none."""
    java = shutil.which("java")
    if java is None or shutil.which("groovy") is None or shutil.which("groovyc") is None:
        pytest.skip("no groovy on the path (Debian: apt-get install groovy), so QuPath scripts are not run")
    # Debian's launcher looks for /usr/lib/jvm/default-java, which a plain Java does not bring.
    home = str(Path(java).resolve().parent.parent)
    environment = {
        "JAVA_HOME": home,
        **os.environ,
        "JAVA_OPTS": "-XX:TieredStopAtLevel=1 -Dfile.encoding=UTF-8",
    }
    groovy = Groovy(folder, environment)
    groovy.compile(sorted(path for path in STUBS.glob("*.groovy") if path.name != "Perform.groovy"), folder)
    return groovy
