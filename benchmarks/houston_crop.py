"""The ladder on the Houston crop, row by row into a JSON file; run again, it goes on where it stopped.

    python benchmarks/houston_crop.py [RUNG ...] --data houston_dataset.mat --out FOLDER [--seeds 3]

Rows come cheap first, seed by seed, each of one rung and seed; the first seed chooses the length of training.
FOLDER gets rows.json, the report as evaluation.json with its table on the terminal, the pictures' arrays,
houston-crop.png, and the first seed's cascade as a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from flows.console import print_table
from flows.evaluate import (
    COLUMNS,
    RUNGS,
    SAME_TRAINING,
    Row,
    check_rungs,
    evaluate_rung,
    find_data,
    report_counts,
    table,
)
from flows.evaluation_report import draw_report
from flows.protocols import PROTOCOLS, read_counts
from model.ladder import CLOSED_FORM
from model.ladder_networks import Diffusion


def main() -> None:
    """Fill the rows that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rungs", nargs="*", default=list(RUNGS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=16)
    given = parser.parse_args()
    check_rungs(given.rungs)
    protocol = PROTOCOLS["houston-crop"]
    data = find_data(protocol.name, given.data, os.environ.get("SPECTILE_DATA"))
    split = protocol.cut(read_counts(data, protocol.bands))
    given.out.mkdir(parents=True, exist_ok=True)
    store = given.out / "rows.json"
    rows = json.loads(store.read_text()) if store.exists() else {}
    for seed in range(given.seeds):
        known: dict[str | None, Row] = {}
        for rung in given.rungs:
            key = f"{rung}/{seed}/{given.samples}"
            if key in rows or (seed and rung in CLOSED_FORM):
                continue
            first = rows.get(f"{rung}/0/{given.samples}", {}).get("chosen", {})
            row = evaluate_rung(
                protocol, split, rung, seed=seed, samples=given.samples, length=first.get("steps"),
                trained_as=known.get(SAME_TRAINING.get(rung)),
            )  # fmt: skip
            if rung in SAME_TRAINING.values():
                known[rung] = row
            if seed == 0:
                np.savez_compressed(given.out / f"{rung}.npz", **row.picture)
                if isinstance(row.fitted, Diffusion):
                    row.fitted.save(given.out / rung)
            rows[key] = row.facts
            part = store.with_suffix(".partial")
            part.write_text(json.dumps(rows, indent=1))
            os.replace(part, store)
            print(key, row.facts["chosen"], row.facts["mean"]["rmse"], row.facts["fit_seconds"], flush=True)
    found = {
        rung: [rows[key] for seed in range(given.seeds) if (key := f"{rung}/{seed}/{given.samples}") in rows]
        for rung in RUNGS
    }
    report = report_counts(protocol, {rung: group for rung, group in found.items() if group})
    (given.out / "evaluation.json").write_text(json.dumps(report, indent=2, allow_nan=False))
    print_table(COLUMNS, table(report))
    pictures = {}
    for rung in report["models"]:
        with np.load(given.out / f"{rung}.npz") as arrays:
            pictures[rung] = dict(arrays)
    draw_report(given.out / "houston-crop.png", report, split.tests[0], pictures)


if __name__ == "__main__":
    main()
