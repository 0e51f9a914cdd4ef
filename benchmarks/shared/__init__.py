"""What the scripts of this folder share: where they write, and how one says what it needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

OUT = Path(__file__).parents[2] / "bench-out"
"""Results of scripts that nobody told where to write; git ignores it."""


def arguments(small: list[str]) -> list[str]:
    """The arguments of the command line; without any, those of a run that takes minutes, not days."""
    if sys.argv[1:]:
        return sys.argv[1:]
    print("without arguments: a small run,", " ".join(small))
    return small


def data_folder() -> Path:
    """The folder of real imagery, which ``SPECTILE_DATA`` names; without it the script ends in a line."""
    if not (named := os.environ.get("SPECTILE_DATA")):
        leave_out("it needs real imagery; set SPECTILE_DATA to its folder")
    return Path(named)


def leave_out(why: str) -> NoReturn:
    """End the script in a line; no failure, so that ``make bench`` goes on with the others."""
    print(f"left out: {why}")
    sys.exit(0)
