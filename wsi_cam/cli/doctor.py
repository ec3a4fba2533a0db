"""``wsi-cam doctor``: which parts are there, and whether they work."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="check device, readers, model and writers on this machine",
        description="Show versions and devices; try each reader, the bundled model and the heatmap store.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 1 where a check failed."""
    from wsi_cam import checks
    from wsi_cam.errors import one_line
    from wsi_cam.versions import installed_versions

    print("versions  " + ", ".join(f"{name} {version}" for name, version in installed_versions().items()))
    trials: tuple[tuple[str, Callable[[], str]], ...] = (
        ("devices", checks.try_devices),
        ("openslide", lambda: checks.try_reader("openslide")),
        ("tiff", lambda: checks.try_reader("tiff")),
        ("model", checks.try_model),
        ("heatmap", checks.try_heatmap),
    )
    failures = 0
    for name, trial in trials:
        try:
            print(f"{name:9} ok: {trial()}")
        except Exception as error:  # noqa: BLE001
            # Whatever a broken installation raises is the answer that was asked for.
            failures += 1
            print(f"{name:9} FAILED: {type(error).__name__}: {one_line(error)}")
    print(f"{failures} of {len(trials)} checks failed" if failures else "all checks passed")
    return 1 if failures else 0
