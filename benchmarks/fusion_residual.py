"""What a diffusion of the errors of ``fuse:mixture`` adds to it.

    SPECTILE_DATA=… python benchmarks/fusion_residual.py
    python benchmarks/fusion_residual.py --scenes Houston "Jasper Ridge" --priors clean own

The first is a small run, to see that it works. Pairs are those of ``fusion.py`` at ratio 8. In the pair's
subspace, turned to the axes of the correction, x_0 = (truth − posterior mean) / predicted standard deviation.
A small network sees the MSI, the mean and the spread around a pixel: by default how they differ there from
the mean of 5 × 5 pixels, with ``--sees colours`` as they are. One branch corrects the mean. The other, which
is trained after it, denoises what is left in six steps of DPM-Solver++.

"clean" learns from pairs made of the left half. It is cut into strips; the mixture that a strip is fused with
has not seen its spectra, or the errors to learn from would be too small. "own" learns from the pair itself,
degraded once more, whose truth is the noisy HSI. The last third says after which step to stop. Nothing is
chosen on the half that is scored.

Rows: the closed form; the corrected mean; the mean of 16 samples, and one of them. CRPS and energy score are
in reflectance, "cover" is the share of the truth within 90 % intervals. The closed form's samples are
calibrated as in the product, the network's are raw. "watched" is the squared error of the corrected mean in
what was watched, over that of the closed form. Run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from shared import OUT, arguments, data_folder
from shared.fused import PROTOCOLS, draws
from shared.wald import SCENES, Halves, read_halves, response_of
from torch import Tensor, nn
from torch.nn import functional

from spectile.catalog.files import write_text
from spectile.model.diffusion.noise import noise
from spectile.model.diffusion.parameterization import add_noise
from spectile.model.diffusion.sampler import dpm_solver_pp_2m
from spectile.model.diffusion.schedule import linear_schedule, logsnr_grid
from spectile.model.fusion.estimate import estimate_pair
from spectile.model.fusion.fuser import Fuser
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.scored import cover_of, scores_of
from spectile.model.fusion.wald import degrade_windows, wald_on_own_pair
from spectile.model.fusion.window import prepare
from spectile.model.measure.metrics import energy_score, reliability
from spectile.model.networks.unet_compact import TIME_FEATURES, TIME_WIDTH, Block, time_features
from spectile.model.training.ema import Ema

SMALL = [
    "--scenes",
    "Salton Sea",
    "--priors",
    "clean",
    "--steps",
    "60",
    "--out",
    str(OUT / "residual-small.md"),
]
PROTOCOL = PROTOCOLS[0]
SAMPLES, SOLVER_STEPS = 16, 6
STRIPS, POOL, BATCH, CROP, WATCH = 4, 8, 16, 16, 50
WIDTH, SIDE, BLOCKS = 32, 5, 2
FLOOR = 0.25
SCHEDULE = linear_schedule()
LEVELS = torch.tensor(SCHEDULE.alpha_bar)


@dataclass(frozen=True)
class Example:
    """What the network sees of a window, and what it should tell."""

    seen: Tensor
    """(C + 2 p, H, W) MSI, mean and spread."""
    mean: Tensor
    """(p, H, W) the closed form's coefficients."""
    spread: Tensor
    """(p, H, W) their predicted standard deviation."""
    error: Tensor
    """(p, H, W) truth − mean over the spread."""
    counts: Tensor
    """(H, W) one where the pixel counts."""


class Frame:
    """The rotated coefficients of the pair that is scored, in which everything is learned."""

    def __init__(self, pair: PairModel, window: PairWindow) -> None:
        self.fuser = Fuser(pair)
        self.axes = self.fuser.spectra["mixture"]
        self.values = self.fuser.variances("mixture").sum(1)
        self.weights = self.axes.T / self.fuser.tensor(pair.hsi_noise).square()
        self.scale = torch.ones(1)
        deviation = self.example(window, None).seen.std((1, 2))
        deviation[-len(self.values) :] = 1.0
        self.scale = deviation[:, None, None]

    def coefficients(self, spectra: Tensor) -> Tensor:
        """(p, H, W) of spectra (B, H, W)."""
        return torch.tensordot(self.weights, spectra - self.fuser.centre, 1)

    def example(
        self, window: PairWindow, truth: NDArray[np.floating] | None, *, by: Fuser | None = None
    ) -> Example:
        """A window fused by the pair, or by another of the same bands that has not seen its spectra."""
        by = by or self.fuser
        ready, edge = prepare(by, window), by.margin * by.pair.ratio
        inner = (slice(None), slice(edge, -edge), slice(edge, -edge))
        sharp = by.solve(ready, "mixture", spread=True)
        turn = self.weights @ by.spectra["mixture"]
        moved = self.weights @ (by.centre - self.fuser.centre)[:, :, 0]
        mean = torch.tensordot(turn, sharp.mean[inner], 1) + moved[:, :, None]
        variance = sharp.scale[inner].square() * by.variances("mixture").sum(1)[:, None, None]
        spread = torch.tensordot(turn.square(), variance, 1).sqrt()
        msi = ready.msi[inner] - self.fuser.seen_centre[:, :, None]
        seen = torch.cat([msi, mean, (spread.square() / self.values[:, None, None]).log()]) / self.scale
        error = torch.zeros_like(mean)
        if truth is not None:
            error = (self.coefficients(torch.from_numpy(truth).float()) - mean) / spread
        return Example(seen, mean, spread, error, torch.ones(mean.shape[1:]))

    def floored(self, one: Example) -> Example:
        """The same with a spread of at least a quarter of the pair's usual variance.

        A subspace of fewer directions, learned from fewer pixels, predicts no spread in those that it lacks.
        """
        spread = one.spread.maximum((FLOOR * self.values).sqrt()[:, None, None])
        seen = one.seen.clone()
        seen[-len(spread) :].clamp_(min=math.log(FLOOR))
        return replace(one, seen=seen, spread=spread, error=one.error * one.spread / spread)

    def spectra(self, one: Example, error: Tensor) -> NDArray[np.float32]:
        """(B, H, W) reflectance of the mean and an error over the spread."""
        fine = one.mean + one.spread * error
        found: NDArray[np.float32] = self.fuser.to_spectra(fine, "mixture").clamp(0.0, 1.6).numpy()
        return found


def main() -> None:
    """Train and score what was asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--priors", nargs="+", choices=("own", "clean"), default=["clean", "own"])
    parser.add_argument(
        "--steps", type=int, default=300, help="of the correction's training; twice as many of the denoiser's"
    )
    parser.add_argument("--sees", choices=("differences", "colours"), default="differences")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--out", type=Path, default=OUT / "residual.md")
    given = parser.parse_args(arguments(SMALL))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    store = given.out.with_suffix(".json")
    rows: list[dict[str, object]] = json.loads(store.read_text()) if store.exists() else []
    for prior, name in product(given.priors, given.scenes):
        if not any(row["prior"] == prior and row["scene"] == name for row in rows):
            found = measure(name, prior, steps=given.steps, colours=given.sees == "colours", seed=given.seed)
            rows += [{"scene": name, "prior": prior, **one} for one in found]
            store.parent.mkdir(parents=True, exist_ok=True)
            write_text(store, json.dumps(rows, indent=1))
            print(table(rows[len(rows) - len(found) :]), flush=True)
    write_text(given.out, table(rows))


def measure(name: str, prior: str, *, steps: int, colours: bool, seed: int) -> list[dict[str, object]]:
    """The rows of a scene."""
    halves = read_halves(name, data_folder(), PROTOCOL.ratio)
    msi_bands, response = response_of("ikonos", halves.bands, data_folder())
    window = PROTOCOL.pair_of(halves.test, response, seed)
    clean = halves.beside if prior == "clean" else None

    def known(seen: PairWindow, spectra: NDArray[np.float64] | None) -> PairModel:
        return PROTOCOL.known_pair(seen, (halves.bands, msi_bands), response, clean=spectra, seed=seed)

    pair = wald_on_own_pair([window], known(window, clean), clean=clean, seed=seed)
    frame = Frame(pair, window)
    start = time.perf_counter()
    if clean is None:
        learned, watched = own_examples(frame, window, seed)
    else:
        learned, watched = clean_examples(frame, halves, known, response, seed)
    if not learned:
        print(name, prior, "left out: too few coarse pixels to degrade once more")
        return []
    prepared = time.perf_counter() - start
    start = time.perf_counter()
    _, model, stopped, watched_error = train(frame, learned, watched, steps=steps, colours=colours, seed=seed)
    seconds = time.perf_counter() - start
    one = frame.example(window, None)
    start = time.perf_counter()
    corrected, sampled = sample(model, one, seed)
    waited = (time.perf_counter() - start) / SAMPLES
    truth = torch.from_numpy(halves.test)
    closed = draws("fuse:mixture", pair, window, seed, SAMPLES)
    drawn = np.stack([frame.spectra(one, error) for error in sampled])
    plain = replace(pair, calibration=np.outer([1.0, -1.645, 1.645], np.ones(len(halves.bands))))
    rows = []
    for row, mean, samples, known_spread in (
        ("closed form", draws("fuse:mixture", pair, window, seed, 1)[0], closed, pair),
        ("corrected mean", frame.spectra(one, corrected), None, plain),
        ("mean of 16", drawn.mean(0), drawn, plain),
        ("one sample", drawn[0], None, plain),
    ):
        found: dict[str, object] = {"row": row, **scores_of(halves.test, mean, PROTOCOL.ratio)}
        if samples is not None:
            valid = torch.ones(truth.shape[1:], dtype=torch.bool)
            every = torch.from_numpy(samples).double()
            found["crps"] = reliability(truth, every, valid).crps
            found["energy"] = energy_score(truth, every, valid)
            found["cover"] = cover_of(halves.test, samples, known_spread.calibration)
        rows.append(found)
    rows[2] |= {
        "pairs_s": prepared,
        "train_s": seconds,
        "sample_s": waited,
        "stopped": stopped,
        "watched": watched_error,
    }
    return rows


Known = Callable[[PairWindow, NDArray[np.float64] | None], PairModel]


def clean_examples(
    frame: Frame, halves: Halves, known: Known, response: NDArray[np.float64], seed: int
) -> tuple[list[Example], list[Example]]:
    """Those to learn from and to watch: the left half, whose strips are fused by pairs without them."""
    image = halves.beside.reshape(len(halves.bands), halves.rows, -1)
    height, width = (side // PROTOCOL.ratio * PROTOCOL.ratio for side in image.shape[1:])
    part = np.arange(halves.rows) * STRIPS // halves.rows
    whole = PROTOCOL.pair_of(image[:, :height, :width], response, seed)
    others = [Fuser(known(whole, image[:, part != strip].reshape(len(image), -1))) for strip in range(STRIPS)]
    generator = np.random.default_rng(seed)
    examples = []
    for number in range(POOL):
        top, left = (
            int(generator.integers(0, n - m + 1))
            for n, m in zip(image.shape[1:], (height, width), strict=True)
        )
        truth = image[:, top : top + height, left : left + width]
        seen = PROTOCOL.pair_of(truth, response, 1000 + number)
        by_strip = [frame.example(seen, truth, by=other) for other in others]
        at = torch.from_numpy(part[top : top + height])
        examples.append(
            Example(
                *(
                    torch.cat(
                        [getattr(one, field.name)[..., at == strip, :] for strip, one in enumerate(by_strip)],
                        dim=-2,
                    )
                    for field in fields(Example)
                )
            )
        )
    last = (torch.arange(height) >= height * 2 // 3).float()[:, None]
    return [replace(one, counts=one.counts * (1.0 - last)) for one in examples], [
        replace(one, counts=one.counts * last) for one in examples
    ]


def own_examples(frame: Frame, window: PairWindow, seed: int) -> tuple[list[Example], list[Example]]:
    """The pair itself, degraded once more; its last third is watched."""
    pair = frame.fuser.pair
    learned: list[Example] = []
    for number in range(POOL):
        degraded, kept, ratio = degrade_windows([window], pair, seed + number)
        if not degraded:
            return [], []
        sigma = (pair.psf_sigma[0] * ratio / pair.ratio, pair.psf_sigma[1] * ratio / pair.ratio)
        again = estimate_pair(
            degraded, ratio, pair.hsi_bands, pair.msi_bands,
            response=pair.response, psf=sigma, scaled=False, seed=seed,
        )  # fmt: skip
        learned.append(frame.floored(frame.example(degraded[0], kept[0].hsi, by=Fuser(again))))
    watched = []
    for one in learned:
        last = torch.zeros_like(one.counts)
        last[one.counts.shape[0] * 2 // 3 :] = 1.0
        watched.append(replace(one, counts=one.counts * last))
    return [
        replace(one, counts=one.counts - other.counts) for one, other in zip(learned, watched, strict=True)
    ], watched


class Surroundings(nn.Module):
    """What surrounds a pixel: a convolution of 5 × 5, by default of differences alone.

    Colours as they are say which material it is, and networks that see them learn the materials of the left
    half.
    """

    def __init__(self, channels: int, colours: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Conv2d(channels, WIDTH, SIDE, bias=False).weight.detach())
        self.colours = colours

    def forward(self, seen: Tensor) -> Tensor:
        """(N, WIDTH, H, W) in (−1, 1)."""
        weight = self.weight if self.colours else self.weight - self.weight.mean((2, 3), keepdim=True)
        return functional.conv2d(functional.pad(seen, [SIDE // 2] * 4, mode="replicate"), weight).tanh()


class Corrector(nn.Module):
    """The expected error of the closed form's mean, over its spread; zero at first."""

    def __init__(self, one: Example, colours: bool) -> None:
        super().__init__()
        self.around = Surroundings(len(one.seen), colours)
        self.last = nn.Conv2d(WIDTH, len(one.error), 1, bias=colours)
        nn.init.zeros_(self.last.weight)

    def losses(self, batch: Example, generator: torch.Generator) -> Tensor:
        """(N, p, H, W) squared errors, weighted by what they are worth in reflectance."""
        return (batch.error - self(batch.seen)).square()

    def forward(self, seen: Tensor) -> Tensor:
        """(N, p, H, W)."""
        found: Tensor = self.last(self.around(seen))
        return found


class Residual(nn.Module):
    """Denoises what the corrected mean leaves."""

    left: Tensor
    """(p, 1, 1) its root mean square where the network learns."""

    def __init__(self, corrector: Corrector, one: Example, left: Tensor, colours: bool) -> None:
        super().__init__()
        self.corrector = [corrector]  # in a list, so that it is no part of what is trained
        self.register_buffer("left", left)
        self.around = Surroundings(len(one.seen), colours)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, TIME_WIDTH), nn.SiLU())
        self.first = nn.Conv2d(len(one.error), WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList([Block(WIDTH, "channel", timed=True) for _ in range(BLOCKS)])
        self.last = nn.Conv2d(WIDTH, len(one.error), 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, state: Tensor, t: Tensor, around: Tensor) -> Tensor:
        """F, of which x̂_0 = √ᾱ x_t + √(1 − ᾱ) F."""
        time = self.time(time_features(t))
        hidden = self.first(state) + around
        for block in self.blocks:
            hidden = block(hidden, time)
        found: Tensor = self.last(functional.silu(hidden))
        return found

    def losses(self, batch: Example, generator: torch.Generator) -> Tensor:
        """(N, p, H, W) squared errors of F at random times."""
        with torch.no_grad():
            left = (batch.error - self.corrector[0](batch.seen)) / self.left
        t = torch.randint(1, len(LEVELS), (len(left),), generator=generator)
        level = LEVELS[t][:, None, None, None].float()
        white = torch.randn(left.shape, generator=generator)
        wanted = (1.0 - level).sqrt() * left - level.sqrt() * white
        return (wanted - self(add_noise(left, white, level), t, self.around(batch.seen))).square()

    def denoise(self, state: Tensor, t: float, around: Tensor) -> Tensor:
        """x̂_0 of a state."""
        level = SCHEDULE.alpha_bar_at(t)
        return level**0.5 * state + (1.0 - level) ** 0.5 * self(state, torch.full((len(state),), t), around)


def optimise(
    model: Corrector | Residual,
    learned: Sequence[Example],
    watched: Sequence[Example],
    worth: Callable[[Example], Tensor],
    *,
    steps: int,
    rate: float,
    seed: int,
) -> tuple[int, float]:
    """Train in place up to the step that did best on what is watched: it, and its loss over the first."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    ema = Ema(model, decay=0.98, start=20)
    generator = np.random.default_rng(seed)
    side = min(CROP, *(length for one in learned for length in one.counts.shape))
    averaged, watch = copy.deepcopy(model), stacked(watched)
    best, kept = (float("inf"), 0), ema.state()[0]
    first = 0.0

    def loss_of(one: Corrector | Residual, batch: Example, key: int, power: float) -> Tensor:
        weight = (worth(batch).square() if power == 2 else worth(batch)) * batch.counts[:, None]
        loss = one.losses(batch, torch.Generator().manual_seed(key)) * weight
        return loss.sum() / weight.sum().clamp_min(1e-12)

    for step in range(steps + 1):
        if step % WATCH == 0:
            with torch.no_grad():
                score = float(loss_of(ema.averaged(averaged), watch, 1, 2))
            first = first or score
            if score < best[0]:
                best, kept = (score, step), ema.state()[0]
        picked = [
            crop(learned[index], side, generator) for index in generator.integers(0, len(learned), BATCH)
        ]
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1.0 - 0.9 * step / steps)
        optimiser.zero_grad(set_to_none=True)
        loss_of(model, stacked(picked), seed + step, 1).backward()
        optimiser.step()
        ema.update(model)
    model.load_state_dict(kept)
    model.eval()
    return best[1], best[0] / first


def train(
    frame: Frame,
    learned: Sequence[Example],
    watched: Sequence[Example],
    *,
    steps: int,
    colours: bool,
    seed: int,
) -> tuple[Corrector, Residual, str, float]:
    """Both networks, the steps at which they stopped, and the corrected error in what was watched."""
    torch.manual_seed(seed)
    energy = frame.axes.square().sum(0).sqrt()[:, None, None]

    def worth(batch: Example) -> Tensor:
        return energy * batch.spread

    corrector = Corrector(learned[0], colours)
    stopped, watched_error = optimise(corrector, learned, watched, worth, steps=steps, rate=2e-3, seed=seed)
    with torch.no_grad():
        errors = [(one.error - corrector(one.seen[None])[0])[:, one.counts > 0] for one in learned]
    left = torch.cat(errors, dim=1).square().mean(1).sqrt()[:, None, None]
    residual = Residual(corrector, learned[0], left, colours)
    also, _ = optimise(
        residual,
        learned,
        watched,
        lambda batch: torch.ones_like(batch.error),
        steps=2 * steps,
        rate=1e-3,
        seed=seed,
    )
    return corrector, residual, f"{stopped}, {also}", watched_error


def crop(one: Example, side: int, generator: np.random.Generator) -> Example:
    """A square of an example, turned at random."""
    top, left = (int(generator.integers(0, length - side + 1)) for length in one.counts.shape)
    turns, flip = int(generator.integers(4)), bool(generator.integers(2))

    def cut(values: Tensor) -> Tensor:
        turned = torch.rot90(values[..., top : top + side, left : left + side], turns, (-2, -1))
        return turned.flip(-1) if flip else turned

    return Example(*(cut(getattr(one, field.name)) for field in fields(Example)))


def stacked(examples: Sequence[Example]) -> Example:
    """As a batch."""
    return Example(
        *(torch.stack([getattr(one, field.name) for one in examples]) for field in fields(Example))
    )


@torch.inference_mode()
def sample(model: Residual, one: Example, seed: int) -> tuple[Tensor, list[Tensor]]:
    """(p, H, W) the corrected error, and samples of it; noise is a function of the position."""
    correction, around = model.corrector[0](one.seen[None]), model.around(one.seen[None])
    height, width = one.counts.shape
    times = logsnr_grid(SCHEDULE, SOLVER_STEPS, whole=True)
    drawn = []
    for number in range(SAMPLES):

        def draw(step: int, number: int = number) -> Tensor:
            return noise(
                seed=seed, stage=2, step=step, sample=number, channels=len(one.error),
                origins=torch.zeros((1, 2), dtype=torch.int64), height=height, width=width, device="cpu",
            )  # fmt: skip

        left = dpm_solver_pp_2m(
            lambda state, t: model.denoise(state, t, around), SCHEDULE, times=times, draw=draw
        )
        drawn.append((correction + model.left * left)[0])
    return correction[0], drawn


def table(rows: Sequence[dict[str, object]]) -> str:
    """Markdown."""
    shown = {
        "psnr": ("PSNR", ".2f"), "sam": ("SAM", ".2f"), "crps": ("CRPS", ".5f"), "energy": ("energy", ".4f"),
        "cover": ("cover", ".3f"), "watched": ("watched", ".2f"), "stopped": ("steps", ""),
        "pairs_s": ("pairs, s", ".0f"), "train_s": ("training, s", ".0f"), "sample_s": ("a sample, s", ".2f"),
    }  # fmt: skip
    head = ["scene", "learned from", "row", *(title for title, _ in shown.values())]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [str(row[key]) for key in ("scene", "prior", "row")]
        cells += [format(row[key], form) if key in row else "–" for key, (_, form) in shown.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
