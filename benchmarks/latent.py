"""Whether a diffused code pays: multiply-adds and seconds against diffusion in the bands.

    python benchmarks/latent.py [--tile 256] [--rounds 3] [--json FILE]

Compared are ``hyperldm48``, ``vnir48`` and the latent U-Net of ``hyperldm48`` run where there is no code
(``in the bands``): on all 48 bands of every pixel, with random weights, the same widths, steps and solver.
One thread, float32, one tile, one sample; in each round all of them in turns, so that other work of the
machine hits each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from shared import arguments
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spectile.model import checkpoint
from spectile.model.hyperldm.network import Begun, HyperLdm
from spectile.model.registry import load_network
from spectile.model.system import Network

SMALL = ["--tile", "64", "--rounds", "1"]
MODELS = ("hyperldm48", "vnir48")
BANDS = "in the bands"


def in_the_bands(model: HyperLdm) -> HyperLdm:
    """Its latent U-Net for a state of all bands at full size: one level of condition encoder, no folding.

    Of the network only the denoiser is used; its VQGAN is as small as it can be.
    """
    config, shape = model.config, model.config.denoiser
    auto = replace(config.autoencoder, fold=1, widths=(8,), latent=len(config.bands))
    torch.manual_seed(0)
    whole = replace(
        config, autoencoder=auto, denoiser=replace(shape, condition_widths=shape.condition_widths[:1])
    )
    return HyperLdm(whole).eval()


def sampling(network: Network, rgb: Tensor, steps: int | None, *, code_alone: bool) -> Callable[[], Any]:
    """A call that draws one sample; of ``code_alone`` without encoder and decoder."""
    generator = torch.Generator().manual_seed(0)
    draw = network.drawn_by(generator, 1, *rgb.shape[2:])
    if not code_alone:
        return lambda: network.sample(rgb, draw, steps=steps)
    assert isinstance(network, HyperLdm)
    denoiser = network.denoiser
    return lambda: network.draw_code(Begun([], denoiser.encode(network.condition_of(rgb))), draw, steps=steps)


def measure(tile: int, rounds: int) -> dict[str, Any]:
    """Multiply-adds a pixel, and CPU seconds a megapixel in each round, by way."""
    torch.set_num_threads(1)
    rgb = 0.03 + 0.3 * torch.rand(1, 3, tile, tile, generator=torch.Generator().manual_seed(0))
    networks = {name: load_network(checkpoint.load(name)).eval() for name in MODELS}
    latent = networks[MODELS[0]]
    assert isinstance(latent, HyperLdm)
    networks[BANDS] = in_the_bands(latent)
    steps = {name: network.config.steps for name, network in networks.items()}
    calls = {
        name: sampling(network, rgb, steps[name], code_alone=name == BANDS)
        for name, network in networks.items()
    }
    # What the code alone takes is the fair counterpart of what diffusion in the bands takes.
    calls["the code alone"] = sampling(latent, rgb, steps[MODELS[0]], code_alone=True)
    found: dict[str, Any] = {}
    with torch.inference_mode():
        for name, call in calls.items():
            counter = FlopCounterMode(display=False)
            with counter:
                call()
            # torch counts a multiplication and an addition as two.
            found[name] = {
                "multiply_adds_per_pixel": counter.get_total_flops() / 2 / tile**2,
                "seconds_per_megapixel": [],
            }
        for _ in range(rounds):
            for name, call in calls.items():
                start = time.process_time()
                call()
                found[name]["seconds_per_megapixel"].append((time.process_time() - start) / tile**2 * 1e6)
    return {"tile": tile, "steps": steps, "ways": found}


def main() -> None:
    """Measure, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments(SMALL))
    found = measure(given.tile, given.rounds)
    first = found["ways"][MODELS[0]]
    for name, way in found["ways"].items():
        seconds = way["seconds_per_megapixel"]
        ratios = [other / own for own, other in zip(first["seconds_per_megapixel"], seconds, strict=True)]
        work = way["multiply_adds_per_pixel"]
        print(
            f"{name:16} {work / 1e6:7.3f} M multiply-adds a pixel, "
            f"{work / first['multiply_adds_per_pixel']:6.2f} times; "
            f"{statistics.median(seconds):7.1f} CPU seconds a megapixel, "
            f"{statistics.median(ratios):5.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
