"""The commands of ``wsi-cam``, and what the shell gets back from them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from textwrap import shorten

from wsi_cam import __version__
from wsi_cam.cli import (
    cohort,
    demo,
    doctor,
    evaluate,
    evaluate_slides,
    export,
    import_model,
    info,
    run,
    train,
    view,
)
from wsi_cam.errors import WsiCamError, is_out_of_memory, one_line

COMMANDS = (run, export, cohort, view, info, train, evaluate, evaluate_slides, import_model, demo, doctor)

_DESCRIPTION = """\
Classify the tissue of whole-slide images patch by patch, keep Grad-CAM for every patch and class,
and lay both back on the slide as heatmaps that open in QuPath. Research use only: not a medical device.

Begin with "wsi-cam demo", or with your own slide: "wsi-cam run slide.svs -o results".
"""


def run_command(arguments: Sequence[str] | None) -> int:
    """Run one command and return its exit status; a ``WsiCamError`` or a lack of memory becomes one line."""
    parser = argparse.ArgumentParser(
        prog="wsi-cam", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"wsi-cam {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    args = parser.parse_args(arguments)
    if "run" not in args:
        parser.print_help(sys.stderr)
        return 2
    _set_up_logging(getattr(args, "verbose", 0))
    try:
        status: int = args.run(args)
    except WsiCamError as error:
        print(f"wsi-cam: {one_line(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        # Every other error that is not ours keeps its traceback; this one's says nothing.
        if not is_out_of_memory(error):
            raise
        cause = shorten(one_line(error), 200)
        print(f"wsi-cam: out of memory ({cause}); free some, or take a smaller --batch-size", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output (head, less) left; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


class _Format(logging.Formatter):
    """Warnings of ours look like the command's own lines; who wants more is told which module speaks."""

    def __init__(self, verbosity: int) -> None:
        super().__init__("%(name)s: %(message)s")
        self._brief = verbosity == 0

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not (self._brief and record.name.startswith("wsi_cam.")):
            return text
        return f"wsi-cam{text.removeprefix(record.name)}"


def _set_up_logging(verbosity: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format(verbosity))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    ours = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logging.getLogger("wsi_cam").setLevel(ours)
