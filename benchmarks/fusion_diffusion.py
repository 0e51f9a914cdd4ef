"""SDP and HSR-Diff on one scene: trained on its left half, then pairs made of its right half are fused.

    SPECTILE_DATA=… python benchmarks/fusion_diffusion.py
    SPECTILE_DATA=… python benchmarks/fusion_diffusion.py --scene Houston --method sdp --published --device
    cuda SPECTILE_DATA=… python benchmarks/fusion_diffusion.py --scene Houston --method hsr-diff --ratio 4
    --steps 10

The first is a small run, to see that it works. Pairs are those of the table on fusion (``shared/wald.py``):
ratio 8 with 20 and 30 dB of noise, or ratio 4 with 35 and 40 dB. The training looks at nothing else of the
scene: SDP learns its spectra (``--clean`` from the left half, ``--coarse`` from the HSI of the pair itself),
HSR-Diff its image; a tenth of it watches. ``--published`` takes the published sizes and steps. PSNR is at
each band's own largest value, SAM in degrees; seconds are those of the fusion alone.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from shared import OUT, arguments, data_folder
from shared.wald import SCENES, Halves, read_halves, response_of

from spectile.catalog.bands import Bands
from spectile.catalog.inputs import Batch, Raster
from spectile.flows.console.console import print_table
from spectile.model.data.crops import TrainingScene
from spectile.model.data.degrade import DegradedPair, degrade
from spectile.model.data.pairs import PairConfig
from spectile.model.hsr_diff import train as hsr_diff
from spectile.model.hsr_diff.preset import HsrDiffConfig, HsrDiffTraining, Phase
from spectile.model.measure.metrics import band_peaks, mpsnr, spectral_angle
from spectile.model.networks.cdformer import CDFormerSizes
from spectile.model.networks.spectral_mlp import SpectralMLPSizes
from spectile.model.predict.predictor import load_predictor
from spectile.model.sdp import train as sdp
from spectile.model.sdp.preset import SdpConfig, SdpFusion, SdpTraining

PAIRS = {
    8: PairConfig(ratio=8, psf_sigma=3.4, psf_size=15, snr_db=(20.0, 30.0)),
    4: PairConfig(ratio=4, psf_sigma=1.7, snr_db=(35.0, 40.0)),
}
"""By their ratio."""
SMALL = ["--scene", "Houston", "--iterations", "200", "--width", "32", "--steps", "20", "--out"]


def main() -> None:
    """Train, fuse, and print a row for each seed of the noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scene", choices=SCENES, default="Houston")
    parser.add_argument("--method", choices=("sdp", "hsr-diff"), default="sdp")
    parser.add_argument("--ratio", type=int, choices=PAIRS, default=8)
    parser.add_argument(
        "--coarse", action="store_true", help="SDP learns from the HSI of the pair, not beside it"
    )
    parser.add_argument("--published", action="store_true", help="the published sizes and numbers of steps")
    parser.add_argument("--iterations", type=int, help="of the training")
    parser.add_argument("--width", type=int, help="of the network")
    parser.add_argument("--steps", type=int, help="of the fusion")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=OUT / "fusion-diffusion", help="where checkpoints go")
    given = parser.parse_args(arguments([*SMALL, str(OUT / "fusion-diffusion-small")]))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    halves = read_halves(given.scene, data_folder(), given.ratio)
    bands, response = response_of("ikonos", halves.bands, data_folder())
    rows = []
    for seed in range(given.seeds):
        pair = PAIRS[given.ratio]
        sigma = (pair.psf_sigma, pair.psf_sigma)
        made = degrade(
            halves.test, pair.ratio, sigma, response, snr_db=pair.snr_db, seed=seed, size=pair.psf_size
        )
        learned = "coarse" if given.coarse else "clean"
        # A prior of the pair's own spectra is another for each seed.
        name = f"{given.scene}-{given.method}-{given.ratio}-{learned}-{seed if given.coarse else 0}"
        folder = given.out / name.replace(" ", "-").lower()
        if given.method == "sdp":
            train_sdp(given, halves, bands, made, folder)
        else:
            train_hsr_diff(given, halves, bands, folder)
        rows.append(
            (
                given.scene,
                given.method,
                learned,
                f"×{given.ratio}",
                str(seed),
                *fuse(given, halves, made, folder),
            )
        )
        print_table(("scene", "method", "learned from", "ratio", "seed", "PSNR", "SAM", "seconds"), rows)


def train_sdp(
    given: argparse.Namespace, halves: Halves, msi: Bands, made: DegradedPair, folder: Path
) -> None:
    """The prior of the spectra, as published or at a quarter of the width and a fifth of the batches."""
    spectra = made.hsi.reshape(len(made.hsi), -1) if given.coarse else halves.beside
    watched = np.arange(spectra.shape[1]) % 10 == 0
    parts = [
        TrainingScene(
            "spectra", part[:, :, None].astype(np.float32), halves.bands, np.ones((part.shape[1], 1), bool)
        )
        for part in (np.maximum(spectra[:, ~watched], 0.0), np.maximum(spectra[:, watched], 0.0))
    ]
    iterations = given.iterations or (30_000 if given.published else 6_000)
    training = SdpTraining(
        iterations=iterations,
        learning_rate_fall=max(iterations // 3, 1),
        validate_every=iterations,
        ema_start=1 if given.published else max(iterations // 2, 1),
    )
    config = SdpConfig(halves.bands, msi, PAIRS[given.ratio], training=training)
    if not given.published:
        few = SdpFusion(start="upsampled", learning_rate=2.5e-3)
        config = replace(config, fusion=few, steps=100, network=SpectralMLPSizes(width=given.width or 128))
    sdp.train(
        config, parts[:1], parts[1:], folder, metadata={"name": "sdp"}, device=given.device, progress=print
    )


def train_hsr_diff(given: argparse.Namespace, halves: Halves, msi: Bands, folder: Path) -> None:
    """The network of the left half, whose last rows watch."""
    rows = read_halves(given.scene, data_folder(), 1).test.shape[1]
    cube = halves.beside.reshape(len(halves.bands), rows, -1).astype(np.float32)
    parts = [
        TrainingScene("left half", part, halves.bands, np.ones(part.shape[1:], bool))
        for part in np.split(cube, [rows * 9 // 10], axis=1)
    ]
    iterations = given.iterations or (100_000 if given.published else 6_000)
    training = HsrDiffTraining(
        phases=(Phase(32, 8, iterations - iterations // 4), Phase(64, 4, max(iterations // 4, 1))),
        learning_rate=1e-4 if given.published else 5e-4, turn=True, ema_decay=0.998, ema_start=200,
        precision="bfloat16", validate_every=max(iterations // 4, 1),
    )  # fmt: skip
    width = given.width or (256 if given.published else 32)
    config = HsrDiffConfig(
        halves.bands, msi, PAIRS[given.ratio], CDFormerSizes(width=width, heads=max(width // 32, 4)),
        offset=0.2, scale=0.2, training=training, steps=100 if given.published else 10,
        variance="beta" if given.published else "posterior",
    )  # fmt: skip
    hsr_diff.train(
        config,
        parts[:1],
        parts[1:],
        folder,
        metadata={"name": "hsr-diff"},
        device=given.device,
        progress=print,
    )


def fuse(given: argparse.Namespace, halves: Halves, made: DegradedPair, folder: Path) -> tuple[str, str, str]:
    """PSNR, SAM and seconds of the fused right half."""
    predictor = load_predictor(str(folder), device=given.device, steps=given.steps)
    stride, shape = predictor.stride, halves.test.shape[1:]
    missing = [-side % stride for side in shape]
    rasters = {}
    for name, values, ratio in (("msi", made.msi, 1), ("hsi", made.hsi, given.ratio)):
        padded = np.pad(values, [(0, 0), *((0, more // ratio) for more in missing)], mode="symmetric")
        rasters[name] = Raster(padded[None].astype(np.float32), np.ones((1, *padded.shape[1:]), dtype=bool))
    batch = Batch(rasters, np.zeros((1, 2), dtype=np.int64), 1)
    started = time.perf_counter()
    (cube,) = predictor.predict(batch, range(1))
    seconds = time.perf_counter() - started
    truth = torch.from_numpy(halves.test)
    estimate = torch.from_numpy(cube[0, :, : shape[0], : shape[1]]).double()
    valid = torch.ones(shape, dtype=torch.bool)
    psnr = mpsnr(truth, estimate, valid, peak=band_peaks(truth, valid))
    angle = np.degrees(spectral_angle(truth, estimate, valid).radians)
    return f"{psnr:.2f}", f"{angle:.2f}", f"{seconds:.1f}"


if __name__ == "__main__":
    main()
