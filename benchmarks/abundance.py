"""How right the shares are that a model mixes its spectra of, on simulated scenes whose materials are known.

    python benchmarks/abundance.py [--model hyperldm48] [--scenes 6] [--side 192] [--samples 4] [--json FILE]

Spectra of the library and materials of the scene are put into the classes vegetation, soil, man-made and
water; the share of a class is compared with the area that it covers. Beside the model stand

- the mean share of other scenes (``constant``);
- a regression of the colours, squares and products included, fitted to those other scenes (``colours``);
- the true spectra unmixed with the same library by least squares, none negative, adding up to one
  (``unmixed``): what the library can tell where the spectrum is known;
- all of them without the library's dark spectrum, the rest adding up to one (``bright``), since a mixture
  that adds up to one darkens by it, whatever is dark.

A scene has materials that no weights saw.
"""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from shared import arguments

from spectile.catalog.inputs import Batch
from spectile.model.checkpoint import load
from spectile.model.predict.predictor import load_predictor
from spectile.pipeline.simulate.scene import Simulator

SMALL = ["--scenes", "1", "--side", "64", "--samples", "2"]
Array = NDArray[np.float64]

VEGETATION = ("*Leaf*", "LawnGrass*", "P.aus*", "Marsh*", "Flower*", "Saltbrush*")
WATER = ("Oil92_Water*", "Melting_snow*", "Water+*", "Red_Coated_Algea*")
MAN_MADE = (
    "Spectralon*", "Nylon*", "Plastic*", "Fiberglass*", "Polystyrene*", "Polyester*", "Vermillion*",
)  # fmt: skip
CLASSES = ("vegetation", "soil", "man-made", "water")
FAMILIES = {
    "crop": "vegetation", "grass": "vegetation", "tree": "vegetation", "straw": "vegetation", "soil": "soil",
    "water": "water",
}  # fmt: skip
"""Of the simulator's materials; all others are man-made."""
FIRST_OTHER, OTHERS = 1000, 8
"""Seed and number of the scenes that the baselines are fitted to."""
UNMIXED = 2000
"""Pixels of a scene whose true spectrum is unmixed, every so many of them."""
ONE = 10.0
"""Weight of the shares' adding up to one in the least squares, in units of a band."""
DARKEST = 0.02
"""Reflectance below which the library's spectrum is dark, mean over bands."""


def class_of(name: str) -> str:
    """The class of a spectrum of the library; minerals are soil."""
    for label, patterns in (("vegetation", VEGETATION), ("water", WATER), ("man-made", MAN_MADE)):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return label
    return "soil"


def summed(shares: Array, labels: list[str]) -> Array:
    """(4, P) the shares (G, P) of the classes, which add up to one."""
    of_class = np.stack([shares[[label == one for label in labels]].sum(axis=0) for one in CLASSES])
    return of_class / np.maximum(of_class.sum(axis=0), 1e-6)


def unmix(spectra: Array, library: Array) -> Array:
    """(G, P) shares of the library (B, G) in spectra (B, P), not negative and adding up to one."""
    with_one = np.vstack([library, np.full((1, library.shape[1]), ONE)])
    return np.stack([nnls(with_one, np.append(one, ONE))[0] for one in spectra.T], axis=1)


def terms(colours: Array) -> Array:
    """(P, 10) one, the colours (3, P), their squares and products."""
    pairs = [colours[i] * colours[j] for i in range(3) for j in range(i, 3)]
    return np.stack([np.ones(colours.shape[1]), *colours, *pairs], axis=1)


def scene(seed: int, side: int) -> tuple[Array, Array, Array]:
    """(3, P) colours, (B, P) true spectra and (4, P) true shares of the classes of a scene."""
    simulator = Simulator(seed=seed, shape=(side, side), materials="demo")
    window = (0, 0, side, side)
    labels = [FAMILIES.get(material.family, "man-made") for material in simulator.endmembers]
    shares = simulator.shares(*window).reshape(len(labels), -1).astype(np.float64)
    colours, spectra = simulator.rgb(*window), simulator.truth(*window)
    return (
        colours.reshape(3, -1),
        spectra.reshape(len(spectra), -1).astype(np.float64),
        summed(shares, labels),
    )


def scores(estimate: Array, truth: Array) -> dict[str, Any]:
    """RMSE and correlation by class; None where a share does not vary."""
    found: dict[str, Any] = {"rmse": {}, "r": {}}
    for name, one, true in zip(CLASSES, estimate, truth, strict=True):
        found["rmse"][name] = round(float(np.sqrt(np.mean((one - true) ** 2))), 4)
        varies = one.std() > 1e-9 and true.std() > 1e-9
        found["r"][name] = round(float(np.corrcoef(one, true)[0, 1]), 3) if varies else None
    found["rmse"]["mean"] = round(float(np.mean(list(found["rmse"].values()))), 4)
    return found


def measure(model: str, scenes: int, side: int, samples: int) -> dict[str, Any]:
    """The scores of every way, over the pixels of all scenes together."""
    predictor = load_predictor(model, samples=samples, device="cpu", shares=True)
    facts = load(model).metadata["preset"]["library"]
    labels = [class_of(one["name"]) for one in facts]
    library = np.array([one["reflectance"] for one in facts]).T
    bright = library.mean(axis=0) > DARKEST
    others = [scene(FIRST_OTHER + number, side) for number in range(OTHERS)]
    fitted_colours, fitted_shares = (np.concatenate([one[i] for one in others], axis=1) for i in (0, 2))
    weights = np.linalg.lstsq(terms(fitted_colours), fitted_shares.T, rcond=None)[0]
    rows: dict[str, list[Array]] = {}
    truths = []
    for seed in range(scenes):
        colours, spectra, truth = scene(seed, side)
        some = slice(None, None, max(truth.shape[1] // UNMIXED, 1))
        batch = Batch.of_colours(colours.reshape(1, 3, side, side), name=predictor.inputs[0].name)
        drawn = [one[0, len(predictor.bands) :] for one in predictor.predict(batch, range(samples))]
        own = np.mean(drawn, axis=0).reshape(len(labels), -1)[:, some].astype(np.float64)
        known = unmix(spectra[:, some], library)
        constant = np.repeat(fitted_shares.mean(axis=1)[:, None], own.shape[1], axis=1)
        regressed = np.clip((terms(colours[:, some]) @ weights).T, 0.0, 1.0)
        light = [label for label, is_bright in zip(labels, bright, strict=True) if is_bright]
        ways = {
            "model": summed(own, labels), "model, bright": summed(own[bright], light),
            "constant": constant, "colours": regressed,
            "unmixed": summed(known, labels), "unmixed, bright": summed(known[bright], light),
        }  # fmt: skip
        for name, estimate in ways.items():
            rows.setdefault(name, []).append(estimate)
        truths.append(truth[:, some])
    truth = np.concatenate(truths, axis=1)
    found = {name: scores(np.concatenate(parts, axis=1), truth) for name, parts in rows.items()}
    mean = {name: round(float(value), 3) for name, value in zip(CLASSES, truth.mean(axis=1), strict=True)}
    return {
        "pixels": truth.shape[1], "spectra": {one: labels.count(one) for one in CLASSES},
        "dark": [one["name"] for one, is_bright in zip(facts, bright, strict=True) if not is_bright],
        "true mean": mean, "scores": found,
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="hyperldm48")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments(SMALL))
    found = measure(given.model, given.scenes, given.side, given.samples)
    print(f"{found['pixels']} pixels; spectra a class: {found['spectra']}; dark: {', '.join(found['dark'])}")
    print(f"true mean share: {found['true mean']}")
    for name, row in found["scores"].items():
        each = "  ".join(f"{one} {row['rmse'][one]:.3f} (r {row['r'][one]})" for one in CLASSES)
        print(f"{name:16} mean {row['rmse']['mean']:.3f}  {each}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
