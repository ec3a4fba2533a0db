"""``wsi-cam view``: the slides of a run and their heatmaps in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

_DESCRIPTION = """\
Show the slides of a results folder in a browser: the list by slide score, each slide with its heatmap over
it, regions outlined, and the numbers of any patch at a click. Nothing is computed anew; the slides must lie
where they were classified (without them the heatmaps are shown alone).
"""

_EPILOG = """\
  wsi-cam view results                 prints an address to open; Ctrl-C ends
  wsi-cam view results --open          opens the browser as well
  wsi-cam view results --port 8765     an address that stays the same

Only this machine can reach it, but every account on this machine can. From another machine, through ssh,
with the same port on both sides:

  ssh -L 8765:127.0.0.1:8765 server    then open http://127.0.0.1:8765/ at home

A run may still be adding slides: reload the list to see them.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "view",
        help="slides and heatmaps of a run in a browser on this machine",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run_folder", metavar="OUT", type=Path, help="the results folder of a run")
    add("--port", metavar="N", type=int, default=0, help="port on 127.0.0.1 (default 0: any free one)")
    add("--open", action="store_true", help="open it in the default browser")
    add("-v", "--verbose", action="count", default=0, help="say more (twice: every request)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted; exit status 0 then."""
    from wsi_cam.run_folder import RunFolder
    from wsi_cam.viewer.server import ViewerServer

    with ViewerServer(RunFolder(args.run_folder), args.port) as server:
        print(f"{args.run_folder} is shown at {server.url} (Ctrl-C ends)", flush=True)
        if args.open:
            import webbrowser

            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0
