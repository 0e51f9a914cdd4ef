"""The ladder on the Houston crop: every row of the table in docs/evaluation.md; goes on where it stopped.

    SPECTILE_DATA=… python benchmarks/houston_crop.py
    SPECTILE_DATA=… python benchmarks/houston_crop.py FOLDER [OPTION ...]

The second is ``spectile evaluate --protocol houston-crop`` with rows, checkpoint, JSON and picture in FOLDER,
and the options that are given; it takes hours. The first is a small run of it, to see that it works.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shared import OUT, arguments, data_folder

from spectile.flows.commands import app as cli

SMALL = [
    str(OUT / "houston-crop"),
    "--rungs",
    "ridge,cascade",
    "--seeds",
    "1",
    "--samples",
    "4",
    "--training-steps",
    "20",
]


def main() -> int:
    """Fill the rows that are missing."""
    folder, *options = arguments(SMALL)
    if folder.startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    if "--data" not in options:
        data_folder()
    Path(folder).mkdir(parents=True, exist_ok=True)
    places = ["--keep", folder, "--report", folder, "--json", f"{folder}/evaluation.json"]
    return cli.main(["evaluate", "--protocol", "houston-crop", *places, *options])


if __name__ == "__main__":
    sys.exit(main())
