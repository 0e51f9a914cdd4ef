"""Fusion methods under Wald's protocol: cubes degraded to pairs whose truth is known.

    SPECTILE_DATA=… python benchmarks/fusion.py
    python benchmarks/fusion.py [--data FOLDER] [--scenes NAME ...] [--methods NAME ...] [--seeds N]

The first is a small run, to see that it works. The right half of each scene becomes a pair: ×8 with
noise of 20 and 30 dB, and ×4 with 35 and 40 dB, through IKONOS (blue, green, red, near infrared) and a
Gaussian whose full width at half maximum is one coarse pixel. The response and the PSF are known to
every method; noise, subspace and mixture are estimated. They come from the pair itself, or, under
"clean", from clean pixels of the left half, which no user of a real pair has. Nothing is chosen on the
half that is scored. Borders are mirrored and pixels centred; the published code of SDP has zeros
outside, and samples at the coarse pixel's first fine one. Bands without light are left out.

PSNR takes each band's own maximum as peak (as SDP does), "PSNR at 1" the reflectance 1; UIQI has
windows of 8 px. Seconds are those of estimating and fusing one pair. "cover" is the share of the truth
within 90 % intervals of 16 samples. ``fuse`` is what did best on the pair itself, degraded once more.
Run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from shared import OUT, arguments, data_folder
from shared.fused import PRIORS, PROTOCOLS, SENSOR, Protocol
from shared.wald import SCENES, Halves, read_halves, response_of

from spectile.catalog.bands import Bands
from spectile.catalog.files import write_text
from spectile.model.fusion.predictor import method_names
from spectile.model.fusion.scored import Degradation, KnownPair, score_methods

SAMPLES = 16
SMALL = ["--scenes", "Salton Sea", "--seeds", "1", "--out", str(OUT / "fusion-small.md")]


def main() -> None:
    """Score what was asked for and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real imagery; SPECTILE_DATA if unsaid")
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--methods", nargs="+", choices=method_names(), default=list(method_names()))
    parser.add_argument("--seeds", type=int, default=3, help="of the noise")
    parser.add_argument(
        "--protocols", nargs="+", choices=[one.name for one in PROTOCOLS], help="all if unsaid"
    )
    parser.add_argument("--out", type=Path, default=OUT / "fusion.md")
    given = parser.parse_args(arguments(SMALL))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    data = given.data or data_folder()
    store = given.out.with_suffix(".json")
    rows: list[dict[str, object]] = json.loads(store.read_text()) if store.exists() else []
    known = {(row["protocol"], row["scene"], row["seed"]) for row in rows}
    chosen = [one for one in PROTOCOLS if one.name in (given.protocols or [one.name])]
    for seed, protocol, name in product(range(given.seeds), chosen, given.scenes):
        if (protocol.name, name, seed) in known:
            continue
        halves = read_halves(name, data, protocol.ratio)
        msi_bands, response = response_of(SENSOR, halves.bands, data)
        for prior in PRIORS:
            found = score(halves, msi_bands, response, protocol, prior, given.methods, seed)
            at = {"protocol": protocol.name, "scene": name, "prior": prior, "seed": seed}
            rows += [{**at, **one} for one in found]
        print(protocol.name, name, seed, flush=True)
        store.parent.mkdir(parents=True, exist_ok=True)
        write_text(store, json.dumps(rows, indent=1))
    write_text(given.out, tables(rows, chosen, given.scenes, given.methods))
    print(given.out.read_text(encoding="utf-8"))


def score(
    halves: Halves,
    msi_bands: Bands,
    response: NDArray[np.float64],
    protocol: Protocol,
    prior: str,
    methods: Sequence[str],
    seed: int,
) -> list[dict[str, object]]:
    """A row for each method on one pair."""
    how = Degradation.of_width(protocol.ratio, 1.0, protocol.snr_db)
    known = KnownPair.of(halves.test, halves.bands, msi_bands, response, how, seed=seed)
    clean = halves.beside if prior == "clean" else None
    return score_methods(known, methods, clean=clean, samples=SAMPLES, seed=seed)


def tables(
    rows: Sequence[dict[str, object]],
    protocols: Sequence[Protocol],
    scenes: Sequence[str],
    methods: Sequence[str],
) -> str:
    """Markdown: PSNR and SAM by scene, then every score averaged over scenes; means over seeds."""

    def mean(key: str, **where: object) -> float:
        found = [
            row[key]
            for row in rows
            if key in row and all(row[name] == value for name, value in where.items())
        ]
        return float(np.mean(np.array(found, dtype=np.float64))) if found else math.nan

    lines: list[str] = []
    for protocol in protocols:
        for prior in PRIORS:
            known = "clean spectra of the other half" if prior == "clean" else "the pair alone"
            lines += [
                "",
                f"### ×{protocol.ratio}, {protocol.snr_db[0]:g} and {protocol.snr_db[1]:g} dB, {known}",
            ]
            lines += [
                "",
                "| PSNR dB / SAM ° | " + " | ".join(scenes) + " |",
                "|---" * (len(scenes) + 1) + "|",
            ]
            for method in methods:
                at = {"protocol": protocol.name, "prior": prior, "method": method}
                cells = [
                    f"{mean('psnr', scene=one, **at):.2f} / {mean('sam', scene=one, **at):.2f}"
                    for one in scenes
                ]
                lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
            header = ("PSNR", "PSNR at 1", "SAM", "ERGAS", "UIQI", "seconds", "cover")
            lines += ["", "| mean | " + " | ".join(header) + " |", "|---" * (len(header) + 1) + "|"]
            for method in methods:
                at = {"protocol": protocol.name, "prior": prior, "method": method}
                values = [
                    mean(key, **at)
                    for key in ("psnr", "psnr_at_1", "sam", "ergas", "uiqi", "seconds", "cover")
                ]
                shown = [
                    f"{value:.3f}" if 3 < at_ < 7 and at_ != 5 else f"{value:.2f}"
                    for at_, value in enumerate(values)
                ]
                lines.append(
                    f"| `{method}` | " + " | ".join("–" if one == "nan" else one for one in shown) + " |"
                )
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    main()
