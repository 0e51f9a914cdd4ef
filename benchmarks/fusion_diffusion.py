"""SDP and HSR-Diff on scenes of the fusion table, beside the closed form of the same pair and run.

    SPECTILE_DATA=… python benchmarks/fusion_diffusion.py
    python benchmarks/fusion_diffusion.py --methods sdp --priors clean own --iterations 1500
    python benchmarks/fusion_diffusion.py --methods sdp --priors clean --published --scenes "Salton Sea"
    python benchmarks/fusion_diffusion.py --methods hsr-diff --priors clean --scenes Houston "Jasper Ridge"

The first is a small run, to see that it works. Pairs are those of ``fusion.py``. SDP learns spectra, of the
left half ("clean") or of the HSI of the pair itself ("own"), HSR-Diff the image of the left half. A tenth of
them watches and decides nothing. ``--published`` takes the published sizes and steps, which ``--iterations``
may cut short; else sizes are for a CPU.

PSNR is at each band's own largest value, SAM in degrees. "learning" is the training, or what the closed form
estimates of a pair; "fusion" is what follows. Multiply-adds are those of the fusion for a pixel, counted as
``shared/counting.py`` says, of the first two times of SDP or steps of HSR-Diff, for all are alike.
Run again, it goes on where it stopped; a checkpoint without the state of its training is taken as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from shared import OUT, arguments, data_folder
from shared.counting import multiply_adds
from shared.fused import PRIORS, PROTOCOLS, SENSOR, Protocol, batch_of
from shared.wald import SCENES, Halves, read_halves, response_of

from spectile.catalog.bands import Bands
from spectile.catalog.files import write_text
from spectile.model.data.crops import TrainingScene
from spectile.model.data.pairs import PairConfig
from spectile.model.facts import FILE
from spectile.model.fusion.learned import Learned, load_learned
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.predictor import load_fusion
from spectile.model.fusion.scored import scores_of
from spectile.model.hsr_diff import train as hsr_diff
from spectile.model.hsr_diff.preset import HsrDiffConfig, HsrDiffTraining, Phase
from spectile.model.networks.cdformer import CDFormerSizes
from spectile.model.networks.spectral_mlp import SpectralMLPSizes
from spectile.model.sdp import train as sdp
from spectile.model.sdp.preset import SdpConfig, SdpFusion, SdpTraining
from spectile.model.training.run import LOG, STATE

CLOSED = "fuse:mixture"
SMALL = [
    "--scenes",
    "Salton Sea",
    "--methods",
    "sdp",
    "--iterations",
    "100",
    "--width",
    "32",
    "--steps",
    "20",
]
LEARNING_RATE_FALL = 3
"""A short training's learning rate falls over this part of it, as the published one does."""


def main() -> None:
    """Train, fuse, and write a table with a row for each method beside the closed form's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--methods", nargs="+", choices=("sdp", "hsr-diff"), default=["sdp"])
    parser.add_argument("--priors", nargs="+", choices=PRIORS, default=["clean"])
    parser.add_argument("--ratio", type=int, choices=[one.ratio for one in PROTOCOLS], default=8)
    parser.add_argument("--published", action="store_true", help="the published sizes and numbers of steps")
    parser.add_argument("--iterations", type=int, help="of the training")
    parser.add_argument("--width", type=int, help="of the network")
    parser.add_argument("--steps", type=int, help="of the fusion")
    parser.add_argument("--seeds", type=int, default=1, help="of the noise")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", type=Path, default=OUT / "fusion-diffusion.md", help="checkpoints go beside it"
    )
    given = parser.parse_args(arguments([*SMALL, "--out", str(OUT / "fusion-diffusion-small.md")]))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    protocol = next(one for one in PROTOCOLS if one.ratio == given.ratio)
    store = given.out.with_suffix(".json")
    rows: list[dict[str, object]] = json.loads(store.read_text()) if store.exists() else []
    for method, prior, name, seed in product(given.methods, given.priors, given.scenes, range(given.seeds)):
        label = "-".join(
            [method, prior, name.replace(" ", "").lower(), protocol.name, str(seed if prior == "own" else 0)]
            + ["published"] * given.published
        )
        at = {"label": label, "scene": name, "prior": prior, "protocol": protocol.name, "seed": seed}
        if any(row["label"] == label and row["seed"] == seed for row in rows):
            continue
        if method == "hsr-diff" and prior == "own":
            print("left out: HSR-Diff learns from images without noise")
            continue
        found = measure(given, protocol, method, prior, name, seed, given.out.with_suffix("") / label)
        rows += [{**at, **one} for one in found]
        store.parent.mkdir(parents=True, exist_ok=True)
        write_text(store, json.dumps(rows, indent=1))
        print(table(rows[-len(found) :]), flush=True)
    write_text(given.out, table(rows))


def measure(
    given: argparse.Namespace, protocol: Protocol, method: str, prior: str, name: str, seed: int, folder: Path
) -> list[dict[str, object]]:
    """The rows of a method and of the closed form, of one pair."""
    halves = read_halves(name, data_folder(), protocol.ratio)
    msi, response = response_of(SENSOR, halves.bands, data_folder())
    window = protocol.pair_of(halves.test, response, seed)
    clean = halves.beside if prior == "clean" else None
    start = time.perf_counter()
    pair = protocol.known_pair(window, (halves.bands, msi), response, clean=clean, seed=seed)
    estimated = time.perf_counter() - start
    config = PairConfig(ratio=protocol.ratio, psf_sigma=protocol.sigma[0], snr_db=protocol.snr_db)
    if (folder / FILE).exists() and not (folder / STATE).exists():
        print(f"as trained: {folder}")
    elif method == "sdp":
        train_sdp(given, halves, msi, config, window if clean is None else None, folder)
    else:
        train_hsr_diff(given, halves, msi, config, folder)
    learned = load_learned(str(folder), pair, device=given.device)
    parameters = sum(value.numel() for value in learned.network.stage(0).parameters())
    closed = fused(CLOSED, given, pair, window, halves)
    pixels = window.msi[0].size
    return [
        {
            "method": method, "learning": training_seconds(folder), "parameters": parameters,
            "multiply_adds": counted(learned, window) / pixels,
            **fused(str(folder), given, pair, window, halves),
        },
        {"method": CLOSED, "learning": estimated, **closed},
    ]  # fmt: skip


def train_sdp(
    given: argparse.Namespace,
    halves: Halves,
    msi: Bands,
    pair: PairConfig,
    own: PairWindow | None,
    folder: Path,
) -> None:
    """The prior of the spectra, as published or at a quarter of the width and a twentieth of the batches."""
    spectra = halves.beside if own is None else own.hsi.reshape(len(own.hsi), -1)
    watched = np.arange(spectra.shape[1]) % 10 == 0
    parts = [
        TrainingScene(
            "spectra", part[:, :, None].astype(np.float32), halves.bands, np.ones((part.shape[1], 1), bool)
        )
        for part in (np.maximum(spectra[:, ~watched], 0.0), np.maximum(spectra[:, watched], 0.0))
    ]
    iterations = given.iterations or (30_000 if given.published else 1000)
    training = SdpTraining(iterations=iterations, validate_every=min(iterations, 5000))
    config = SdpConfig(halves.bands, msi, pair, training=training, steps=given.steps or 1000)
    if not given.published:
        training = SdpTraining(
            iterations=iterations,
            learning_rate_fall=max(iterations // LEARNING_RATE_FALL, 1),
            validate_every=iterations,
            log_every=max(iterations // 10, 1),
            ema_start=max(iterations // 2, 1),
        )
        few = SdpFusion(start="upsampled", learning_rate=2.5e-3)
        sizes = SpectralMLPSizes(width=given.width or 128)
        config = replace(config, fusion=few, steps=given.steps or 60, network=sizes, training=training)
    sdp.train(
        config, parts[:1], parts[1:], folder, metadata={"name": "sdp"}, device=given.device,
        progress=print,
    )  # fmt: skip


def train_hsr_diff(
    given: argparse.Namespace, halves: Halves, msi: Bands, pair: PairConfig, folder: Path
) -> None:
    """The network of the left half, whose last rows watch."""
    cube = halves.beside.reshape(len(halves.bands), halves.rows, -1).astype(np.float32)
    parts = [
        TrainingScene("left half", part, halves.bands, np.ones(part.shape[1:], bool))
        for part in np.split(cube, [halves.rows * 9 // 10], axis=1)
    ]
    iterations = given.iterations or 200
    training = HsrDiffTraining(
        phases=(Phase(32, 4, iterations),), learning_rate=1e-3, turn=True, ema_decay=0.98,
        ema_start=max(iterations // 4, 1), validate_every=iterations, log_every=max(iterations // 10, 1),
    )  # fmt: skip
    sizes = CDFormerSizes(width=given.width or 32, layers=2, heads=4)
    steps = given.steps or 10
    if given.published:
        training, sizes, steps = HsrDiffTraining(), CDFormerSizes(), given.steps or 100
    config = HsrDiffConfig(
        halves.bands, msi, pair, sizes, offset=0.2, scale=0.2, training=training, steps=steps,
        variance="beta" if given.published else "posterior",
    )  # fmt: skip
    hsr_diff.train(
        config, parts[:1], parts[1:], folder, metadata={"name": "hsr-diff"}, device=given.device,
        progress=print,
    )  # fmt: skip


def training_seconds(folder: Path) -> float:
    """What its log says that a training took."""
    lines = [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
    last = [line for line in lines if "seconds_a_step" in line][-1]
    return float(last["seconds_a_step"]) * int(last["step"])


def fused(
    method: str, given: argparse.Namespace, pair: PairModel, window: PairWindow, halves: Halves
) -> dict[str, object]:
    """Scores, seconds, and of a closed form multiply-adds a pixel."""
    predictor = load_fusion(method, pair, device=given.device)
    batch = batch_of(window)
    start = time.perf_counter()
    (cube,) = predictor.predict(batch, range(1))
    seconds = time.perf_counter() - start
    found: dict[str, object] = {
        "fusion": seconds,
        **scores_of(halves.test, cube[0], pair.ratio),
    }
    if method == CLOSED:
        total = multiply_adds(lambda: list(predictor.predict(batch, range(1))))
        found["multiply_adds"] = total / window.msi[0].size
    return found


def counted(learned: Learned, window: PairWindow) -> float:
    """Multiply-adds of a fusion: those of one step, and what each further one adds."""
    network, config = learned.network, learned.network.config
    hsi, msi = (
        torch.from_numpy(values)[None].to(network.response.device) for values in (window.hsi, window.msi)
    )
    shape = (1, len(window.hsi), *window.msi.shape[1:])

    def draw(stage: int, step: int) -> torch.Tensor:
        return torch.zeros(shape, device=hsi.device)

    one, two = (
        multiply_adds(lambda steps=steps: network.finish(network.begin(msi, hsi), draw, steps=steps))
        for steps in (1, 2)
    )
    return one + (config.steps - 1) * (two - one)


def table(rows: Sequence[dict[str, object]]) -> str:
    """Markdown."""
    shown = {
        "psnr": ("PSNR", ".2f"), "sam": ("SAM", ".2f"), "ergas": ("ERGAS", ".2f"), "uiqi": ("UIQI", ".3f"),
        "learning": ("learning, s", ".1f"), "fusion": ("fusion, s", ".2f"),
        "multiply_adds": ("multiply-adds a pixel", ",.0f"), "parameters": ("parameters", ",d"),
    }  # fmt: skip
    head = ["scene", "learned from", "method", *(title for title, _ in shown.values())]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [str(row[key]) for key in ("scene", "prior", "method")]
        cells += [format(row[key], form) if key in row else "–" for key, (_, form) in shown.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
