"""The command ``wsi-cam``.

Exit status: 0 all done; 1 some slides failed, or a check did; 2 nothing could start; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; Ctrl-C is one line on stderr, from the first import on."""
    try:
        # Not above: it takes most of the time in which a person may think better of it.
        from wsi_cam.cli.commands import run_command

        return run_command(arguments)
    except KeyboardInterrupt:
        print("wsi-cam: interrupted; nothing half-done has a final name, what is done stays", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
