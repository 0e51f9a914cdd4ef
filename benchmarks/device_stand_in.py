"""How busy the pipeline keeps a device that is as fast as a GPU: one that sleeps instead.

    python benchmarks/device_stand_in.py [--size 4096] [--bands 48,6] [--samples 1,4,16]

The stand-in takes 0.1 s for 16 tiles of 256² px and one sample, holds no core meanwhile, and gives two
bytes a value, as a device would that reduces its samples itself. What is told is its share of the time in
which blocks are made: read, put together, compressed, written, with their overviews.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.choices import Layer
from spectile.catalog.counts import Part
from spectile.catalog.inputs import Batch
from spectile.flows.benchmark.model import machine
from spectile.flows.run.execute import start_cube
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.benchmark import Unwatched, write_scene
from spectile.pipeline.block.predict import BandsRepeat
from spectile.pipeline.run import process_run

SECONDS_A_PIXEL = 0.1 / (16 * 256**2)
TILE = 512


@dataclass
class StandIn(BandsRepeat):
    """A device that sleeps."""

    batch: int = 4
    calls: int = 2
    slept: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(
        self, batch: Batch, samples: int, layers: Sequence[Layer], cut: tuple[slice, slice]
    ) -> tuple[dict[Part, NDArray[np.uint16]], NDArray[np.bool_]]:
        """The same counts each time, after the time that a device would take."""
        values = next(iter(batch.rasters.values())).values
        seconds = len(values) * values.shape[2] * values.shape[3] * samples * SECONDS_A_PIXEL
        rows, cols = (range(size)[part] for size, part in zip(values.shape[2:], cut, strict=True))
        with self._lock:  # it does one thing at a time
            time.sleep(seconds)
            self.slept += seconds
        # What a device makes comes into memory without a core of the host's.
        made = self.made[: len(values), :, : len(rows), : len(cols)]
        parts: tuple[Part, ...] = ("mean", *layers)
        return dict.fromkeys(parts, made), np.ones(len(values), dtype=bool)

    @cached_property
    def made(self) -> NDArray[np.uint16]:
        """(N, B, h, w) counts, as noisy as estimates are."""
        smooth = np.add.outer(np.arange(TILE), np.arange(TILE)) % 2048
        noise = np.random.default_rng(0).normal(0, 40, (self.batch, len(self.bands), TILE, TILE))
        made: NDArray[np.uint16] = np.clip(smooth + 500 + noise, 0, 6000).astype(np.uint16)
        made.flags.writeable = False
        return made


def measure(scene: Path, bands: int, samples: int, folder: Path) -> dict[str, float]:
    """The device's share of the time of blocks, and pixels a second."""
    predictor = StandIn(Bands.evenly_spaced(400, 1000, bands))
    settings = SceneSettings(
        scene=str(scene), out=str(folder / f"{bands}-{samples}.zarr"), model="bands-repeat", samples=samples,
        radiometry="display",
    )  # fmt: skip
    with prepare(settings, predictor=predictor) as prepared:
        cube = start_cube(prepared)
        assert predictor.made.shape[2:] >= (prepared.plan.tiling.core,) * 2  # made before the clock runs
        start = time.perf_counter()
        process_run(
            cube, cube.plan.blocks, sources=prepared.sources, predictor=predictor, watch=Unwatched(),
            overlapped=prepared.estimate.overlapped,
        )  # fmt: skip
        seconds = time.perf_counter() - start
    return {"busy": predictor.slept / seconds, "megapixels_per_second": cube.plan.window.size / seconds / 1e6}


def main() -> None:
    """Print a row for each number of bands and samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--bands", default="48,6")
    parser.add_argument("--samples", default="1,4,16")
    arguments = parser.parse_args()
    print(machine())
    print("| bands | samples | device busy | MPix/s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = folder / "scene.tif"
        write_scene(scene, (arguments.size, arguments.size))
        for bands in map(int, arguments.bands.split(",")):
            for samples in map(int, arguments.samples.split(",")):
                row = measure(scene, bands, samples, folder)
                print(
                    f"| {bands} | {samples} | {row['busy']:.0%} | {row['megapixels_per_second']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
