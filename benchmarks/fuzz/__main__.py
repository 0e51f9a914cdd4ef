"""Broken and odd files through a plan, as of ``--dry-run``, and a run of all blocks with bands-repeat.

``python -m benchmarks.fuzz --count 500 --out fuzz.json``: four fifths damaged GeoTIFFs, one fifth odd files.
What a file is hangs on the seed and its number alone. Exit code 1 where a file did what none may.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from benchmarks.fuzz.mutants import write_mutant
from benchmarks.fuzz.oddities import write_odd
from benchmarks.fuzz.trial import Trial, clear, try_file

# Imported once, before the forks; a run would load some only when it needs them.
_HEAVY = (
    "spectile.flows.run.execute",
    "spectile.flows.run.line",
    "spectile.pipeline.cube.record",
    "pandas",
    "xarray",
    "odc.geo.geom",
    "scipy.ndimage",
)
OUTCOMES = (
    "accepted", "refused", "damage named", "traceback", "hang", "crash", "half a cube",
    "memory over the plan",
)  # fmt: skip


def run_campaign(count: int, seed: int, *, seconds: float, only: int | None = None) -> list[Trial]:
    """Try files one after the other; what came of each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in _HEAVY:
        importlib.import_module(name)
    trials = []
    for number in range(count) if only is None else [only]:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            # Some must look at what it cannot place on the map.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if number % 5 == 4:
                    scene, radiometry, what = write_odd(folder, seed, number // 5)
                else:
                    path, radiometry, what = write_mutant(folder, seed, number)
                    scene = str(path)
            trial = try_file(folder, scene, radiometry, f"{number}: {what}", seconds=seconds)
        finally:
            clear(folder)
        trials.append(trial)
        if len(trials) % 50 == 0:
            print(table(trials), file=sys.stderr, flush=True)
        if trial.is_wrong or only is not None:
            print(trial, file=sys.stderr, flush=True)
    return trials


def table(trials: list[Trial]) -> str:
    """Counts by kind of file, as Markdown."""
    rows = {}
    for trial in trials:
        words = trial.what.split(": ", 1)[1].split(" ")
        damaged = words[-1] in ("tiled", "striped")
        kind = words[2] if damaged else "odd files"
        rows.setdefault(kind, Counter())[trial.outcome] += 1
        rows.setdefault("~all", Counter())[trial.outcome] += 1
    lines = ["| | files | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for kind in sorted(rows):
        counts = [str(rows[kind][each] or "") for each in OUTCOMES]
        lines.append(f"| {kind.strip('~')} | {rows[kind].total()} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run the campaign and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="files")
    parser.add_argument("--seed", type=int, default=0, help="of the files")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a run may take")
    parser.add_argument("--only", type=int, help="the number of one file")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    asked = parser.parse_args()
    started = time.perf_counter()
    trials = run_campaign(asked.count, asked.seed, seconds=asked.seconds, only=asked.only)
    print(table(trials))
    print(f"{len(trials)} files in {time.perf_counter() - started:.0f} s")
    if asked.out is not None:
        asked.out.write_text(json.dumps([trial.to_json() for trial in trials], indent=1) + "\n")
    return int(any(trial.is_wrong for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
