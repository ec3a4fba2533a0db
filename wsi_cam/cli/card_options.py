"""What ``train`` and ``import-model`` alike can be told for the card of a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_card_options(group: argparse._ActionsContainer, default_name: str) -> None:
    """``--name``, ``--label-region-px`` and ``--card``."""
    add = group.add_argument
    add("--name", metavar="TEXT", help=f"name in the card (default: {default_name})")
    add("--label-region-px", metavar="N", type=int, help="side of the central square that labels speak of")
    add(
        "--card",
        metavar="JSON",
        type=Path,
        help="facts for the card: data, licences, intended_use, limits ...",
    )


def card_facts(args: argparse.Namespace) -> dict[str, Any]:
    """What these options say. Raises SettingsError for a file that is no JSON object of facts."""
    from wsi_cam.training.card import gather_card_facts

    return gather_card_facts(args.card, {"name": args.name, "label_region_px": args.label_region_px})


def names(text: str) -> tuple[str, ...]:
    """The type of ``--class-names A,B``."""
    return tuple(name.strip() for name in text.split(","))
