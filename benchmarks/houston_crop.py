"""The ladder on the Houston crop: every row of the table in docs/evaluation.md; goes on where it stopped.

    SPECTILE_DATA=… python benchmarks/houston_crop.py FOLDER [OPTION ...]

is ``spectile evaluate --protocol houston-crop`` with rows, checkpoint, JSON and picture in FOLDER, and the
options that are given.
"""

from __future__ import annotations

import sys
from pathlib import Path

from spectile.flows.commands import app as cli


def main() -> int:
    """Fill the rows that are missing."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    folder, *options = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    places = ["--keep", folder, "--report", folder, "--json", f"{folder}/evaluation.json"]
    return cli.main(["evaluate", "--protocol", "houston-crop", *places, *options])


if __name__ == "__main__":
    sys.exit(main())
