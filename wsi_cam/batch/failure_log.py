"""What a programmer wants to know of a slide's failure, in ``logs/<sample_id>.log``."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)


def write_log(path: Path, text: str) -> None:
    """Keep a traceback or what a dead process said. That it cannot be kept is a warning."""
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        log.warning("%s: the log of a failure cannot be written (%s)", path, error.strerror)
