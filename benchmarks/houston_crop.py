"""The ladder on the Houston crop: every row of the table in docs/evaluation.md; goes on where it stopped.

    SPECTILE_DATA=… python benchmarks/houston_crop.py
    SPECTILE_DATA=… python benchmarks/houston_crop.py FOLDER [OPTION ...]
    SPECTILE_DATA=… python benchmarks/houston_crop.py --shipped hyperldm48 vnir48

The second is ``spectile evaluate --protocol houston-crop`` with rows, checkpoint, JSON and picture in FOLDER,
and the options that are given; it takes hours. The first is a small run of it, to see that it works. The
third measures shipped models, which were not trained on the place, on the same test columns: of 16 samples,
in their own bands, in counts of the rough scale that their recipe has. They see the columns through their
camera.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from shared import OUT, arguments, data_folder

from spectile.catalog.bands import SENSORS
from spectile.flows.commands import app as cli
from spectile.flows.evaluation.evaluate import HOUSTON_CROP, as_model_sees, draw_samples
from spectile.flows.evaluation.protocols import PROTOCOLS, read_counts
from spectile.model.measure.scores import cube_scores, interval_coverage
from spectile.model.predict.predictor import load_predictor
from spectile.pipeline.spectra.hyperspectral import Hyperspectral

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


SCALE = 5e-5
"""Reflectance of a count, roughly."""
SAMPLES = 16


def measure_shipped(model: str) -> None:
    """Print the error of a model that was not trained here."""
    protocol = PROTOCOLS["houston-crop"]
    (test,) = protocol.cut(read_counts(data_folder() / HOUSTON_CROP, protocol.bands)).tests
    cube = (test * SCALE).astype(np.float32)
    scene = Hyperspectral(cube, SENSORS["houston2018"], np.ones(cube.shape[1:], dtype=bool))
    predictor = load_predictor(model, samples=SAMPLES)
    rgb, truth, _, kept = as_model_sees(scene, predictor.bands, predictor.inputs[0].bands, "test columns")
    drawn = draw_samples(predictor, rgb.astype(np.float32), SAMPLES)[:, kept]
    for name, estimate in (("mean of 16", drawn.mean(axis=0)), ("one sample", drawn[0])):
        scores = cube_scores(
            [truth / SCALE], [estimate / SCALE], input_bands=[], peaks=protocol.peaks, offset=1.0
        )
        print(f"{model}, {name}: RMSE {scores['rmse']:.0f} counts, SAM {scores['sam']:.4f} rad")
    if predictor.calibration is not None and len(kept) == len(predictor.bands):
        found = interval_coverage([truth], [drawn], predictor.calibration)
        print(f"{model}: the 90 % interval covers {found['coverage']:.2f}, width {found['width']:.2f}")


def main() -> int:
    """Fill the rows that are missing."""
    folder, *options = arguments(SMALL)
    if folder == "--shipped":
        for model in options:
            measure_shipped(model)
        return 0
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
