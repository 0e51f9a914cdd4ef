"""The demonstration: a simulated scene goes through the flow, and its cube is compared with the truth."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.files import replacing, write_text
from spectile.catalog.sizes import width_by_height
from spectile.flows.console import console
from spectile.flows.deployed.server import LocalServer
from spectile.pipeline.simulate.scene import Simulator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from spectile.catalog.bands import Bands

LOG = logging.getLogger("spectile")

SEED = 3_000_000
"""A scene that no weights have seen: training and held-out scenes have lower numbers."""
SIDE = 384
"""Rows and columns of the scene."""
PIXEL_SIZE_M = 0.8
"""Coarse enough for streets, houses, trees and fields to be in it."""
SAMPLES = 4
"""Samples whose mean is compared too: ridge and lookup estimate a mean, one sample is a random draw."""
DIFFUSION = "vnir48"
"""The diffusion model, beside the default."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """How far an estimate is from the truth, over all pixels and bands."""

    rmse: float
    """Root mean square error, reflectance."""
    sam: float
    """Mean spectral angle, radians."""


@dataclass(frozen=True)
class Spot:
    """A pixel whose spectrum is drawn."""

    row: int
    """Row in the scene."""
    col: int
    """Column in the scene."""
    name: str
    """The material that it shows."""


def run_demo(out: Path, model: str = "vnir48-rgb", *, side: int = SIDE) -> dict[str, Any]:
    """Simulate, run, compare and draw; prints where the results are and returns the numbers.

    Parameters
    ----------
    out : the folder for everything that is written; results of an earlier demo are replaced.
    side : rows and columns of the scene.

    Raises
    ------
    SpectileError : the folder cannot be used, or the run failed.
    """
    clock = Clock()
    out.mkdir(parents=True, exist_ok=True)
    scene, cube = out / "scene.tif", out / "cube.zarr"
    # The server takes seconds to start, on another core.
    size = width_by_height((side, side))
    with LocalServer() as server:
        LOG.info("starting a Prefect server on loopback, and simulating a scene of %s", size)
        simulator = Simulator(seed=SEED, shape=(side, side), pixel_size_m=PIXEL_SIZE_M, materials="demo")
        simulator.write_rgb(scene)
        truth = simulator.truth(0, 0, side, side)
        clock.lap("simulate")
        report = _run(server, scene, cube, model, clock)
    LOG.info("drawing samples, and asking the diffusion model for its mean")
    name = report["model"]["name"]
    estimates = {f"{name}, the mean": _reflectance(cube)}
    estimates[f"{name}, one sample"] = _again(scene, model, steps=_steps_of_a_sample(model))
    several = _again(scene, model, samples=SAMPLES, seed=1)
    clock.lap("samples")
    if name != DIFFUSION:
        estimates[f"{DIFFUSION}, the mean"] = _again(scene, DIFFUSION)
        clock.lap("diffusion model")
    LOG.info("comparing with the truth")
    from spectile.model.closed.baselines import load_baselines
    from spectile.pipeline.scene.source import open_source

    source = open_source(scene)
    rgb, _ = source.read(source.grid.window)
    estimates |= {name: each.predict(rgb) for name, each in load_baselines(model).items()}
    known = {**estimates, f"{name}, mean of {SAMPLES} samples": several}
    scores = {name: score(truth, estimate) for name, estimate in known.items()}
    clock.lap("compare")
    LOG.info("drawing")
    spots = choose_spots(simulator, truth)
    draw(out / "demo.png", rgb, truth, estimates, spots, simulator.bands)
    clock.lap("draw")
    numbers = {
        "scores": {name: {"rmse": each.rmse, "sam": each.sam} for name, each in scores.items()},
        "scene": {"seed": SEED, "materials": "demo", "shape": [side, side], "pixel_size_m": PIXEL_SIZE_M},
        "seconds": clock.seconds,
        "report": report,
    }
    _write_numbers(out / "numbers.json", numbers)
    _print(out, report, scores, clock)
    return numbers


class Clock:
    """Wall time of each part."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}
        """Seconds of each part that is over, in order."""

    def lap(self, part: str) -> None:
        """End a part."""
        now = time.perf_counter()
        self.seconds[part], self._last = round(now - self._last, 2), now

    @property
    def total(self) -> float:
        """Seconds from the beginning to the last lap."""
        return self._last - self._started


def _run(server: LocalServer, scene: Path, cube: Path, model: str, clock: Clock) -> dict[str, Any]:
    from rich.console import Console

    from spectile.flows.deployed.server import quiet_prefect

    quiet_prefect()
    from spectile.flows.deployed.scene import process_scene

    with server.in_use() as url, console.RunProgress(Console(stderr=True)) as progress:
        clock.lap("wait for the server")
        LOG.info("running the flow on the server at %s", url)
        with console.observed_by(progress):
            report: dict[str, Any] = process_scene(
                scene=str(scene), out=str(cube), model=model, overwrite=cube.exists()
            )
        clock.lap("run the flow")
    return report


def _reflectance(cube: Path) -> Floats:
    from spectile.pipeline.cube.record import open_cube

    with open_cube(cube) as opened:
        values: Floats = opened["reflectance"].to_numpy()
    return values


def _again(scene: Path, model: str, **settings: Any) -> Floats:
    """The (B, h, w) estimate of a run with other settings; its cube is not kept."""
    from spectile.flows.run.execute import run_scene
    from spectile.flows.run.settings import SceneSettings

    with tempfile.TemporaryDirectory(prefix="spectile-demo-") as folder:
        cube = Path(folder) / "again.zarr"
        run_scene(SceneSettings(scene=str(scene), out=str(cube), model=model, **settings))
        return _reflectance(cube)


def _steps_of_a_sample(model: str) -> int:
    from spectile.flows.run.predictors import predictor_of
    from spectile.flows.run.settings import SceneSettings

    settings = SceneSettings(scene="", out="", model=model, samples=SAMPLES)
    return max(int(str(predictor_of(settings, weights=False).settings["steps"])), 1)


def score(truth: Floats, estimate: Floats) -> Score:
    """The errors of an estimate (B, h, w) against the truth (B, h, w), both reflectance."""
    dot = np.einsum("bhw,bhw->hw", truth, estimate)
    length = np.sqrt(np.einsum("bhw,bhw->hw", truth, truth) * np.einsum("bhw,bhw->hw", estimate, estimate))
    angle = np.arccos(np.clip(dot / np.maximum(length, 1e-12), -1, 1))
    rmse = np.sqrt(np.mean((truth - estimate) ** 2, dtype=np.float64))
    return Score(round(float(rmse), 5), round(float(np.mean(angle, dtype=np.float64)), 5))


def choose_spots(simulator: Simulator, truth: Floats, count: int = 6) -> list[Spot]:
    """Pixels well inside the largest areas of as many families of materials, each with its usual spectrum."""
    from scipy.ndimage import minimum_filter

    labels = simulator.labels(0, 0, *simulator.shape)
    materials = simulator.endmembers
    sizes = np.bincount(labels.ravel(), minlength=len(materials))
    spots: dict[str, Spot] = {}
    for label in np.argsort(-sizes, kind="stable"):
        family = materials[label].family
        inside = minimum_filter(labels == label, size=5, mode="constant", cval=0)
        if family in spots or len(spots) == count or not inside.any():
            continue
        rows, cols = np.nonzero(inside)
        spectra = truth[:, rows, cols]
        distance = np.abs(spectra - np.median(spectra, axis=1, keepdims=True)).sum(axis=0)
        nearest = int(np.argmin(distance))
        name = materials[label].name.rpartition("_")[0].replace("_", " ")
        spots[family] = Spot(int(rows[nearest]), int(cols[nearest]), name)
    return list(spots.values())


def draw(
    path: Path,
    rgb: Floats,
    truth: Floats,
    estimates: Mapping[str, Floats],
    spots: Sequence[Spot],
    bands: Bands,
) -> None:
    """Draw the input, the cube, its error and some spectra; the first estimate is the cube's.

    Parameters
    ----------
    rgb : (3, h, w) reflectance of the scene.
    truth : (B, h, w) reflectance.
    estimates : (B, h, w) reflectance by name of the method.
    bands : the B bands.
    """
    from matplotlib.figure import Figure

    from spectile.catalog.colour import colour_infrared, picture_gain, true_colour

    cube = next(iter(estimates.values()))
    own, gain = true_colour(bands), picture_gain(rgb)
    infrared = colour_infrared(bands)
    centre_nm = np.asarray(bands.centre_nm)
    channels = ", ".join(f"{centre_nm[band]:.0f}" for band in infrared.heaviest)
    cir = infrared.of(cube[list(infrared.bands)])
    figure = Figure(figsize=(16, 8.8), dpi=110, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1))
    upper, lower = parts
    panels = upper.subplots(1, 4)
    error = np.sqrt(np.mean((cube - truth) ** 2, axis=0))
    for panel, title, picture, gained in (
        (panels[0], "input: RGB", rgb, gain),
        (panels[1], "cube: true colour", own.of(cube[list(own.bands)]), gain),
        (panels[2], f"cube: colour infrared ({channels} nm)", cir, picture_gain(cir)),
    ):
        panel.imshow(_display(picture, gained))
        panel.set_title(title)
    shown = panels[3].imshow(error, cmap="magma", vmin=0, vmax=float(np.percentile(error, 99)))
    panels[3].set_title("RMSE over the bands")
    upper.colorbar(shown, ax=panels[3], shrink=0.72, label="reflectance")
    for panel in panels:
        panel.set_axis_off()
    for number, spot in enumerate(spots, 1):
        panels[0].annotate(
            str(number), (spot.col, spot.row), weight="bold", size=11, ha="center", va="center",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": "black", "alpha": 0.9},
        )  # fmt: skip
    charts = lower.subplots(2, 3, sharex=True)
    for number, (chart, spot) in enumerate(zip(charts.flat, spots, strict=False), 1):
        _draw_spectra(chart, truth, estimates, spot, centre_nm)
        chart.set_title(f"{number}  {spot.name}", loc="left", weight="bold")
    for chart in charts[-1]:
        chart.set_xlabel("wavelength, nm")
    for chart in charts[:, 0]:
        chart.set_ylabel("reflectance")
    lower.legend(*charts.flat[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    with replacing(path) as part:
        figure.savefig(part, format="png")


def _draw_spectra(
    chart: Axes, truth: Floats, estimates: Mapping[str, Floats], spot: Spot, centre_nm: NDArray[np.float64]
) -> None:
    chart.plot(centre_nm, truth[:, spot.row, spot.col], color="black", linewidth=2.6, label="truth")
    styles = (("#d1495b", "-", 2.2), ("#d1495b", "-", 0.8), ("#00798c", "--", 1.3), ("#edae49", ":", 1.8))
    for (name, estimate), (colour, line, width) in zip(estimates.items(), styles, strict=False):
        chart.plot(
            centre_nm, estimate[:, spot.row, spot.col], line, color=colour, linewidth=width, label=name
        )
    chart.set_ylim(bottom=0)
    chart.set_xlim(float(centre_nm[0]), float(centre_nm[-1]))
    chart.grid(alpha=0.25)


def _display(light: Floats, gain: float) -> Floats:
    from spectile.catalog.colour import linear_to_srgb

    picture: Floats = np.moveaxis(linear_to_srgb(light * np.float32(gain)), 0, -1)
    return picture


def _write_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(numbers, indent=2, allow_nan=False) + "\n")


def _print(out: Path, report: Mapping[str, Any], scores: Mapping[str, Score], clock: Clock) -> None:
    spent = ", ".join(f"{part} {console.duration(seconds)}" for part, seconds in clock.seconds.items())
    print(f"\n{console.duration(clock.total)}: {spent}\n")
    print("Error against the known truth, over all pixels and bands:")
    header = ("method", "RMSE, reflectance", "SAM, rad")
    console.print_table(
        header, [(name, f"{score.rmse:.4f}", f"{score.sam:.4f}") for name, score in scores.items()]
    )
    print()
    console.print_pairs(
        {
            "cube": report["result"]["cube"],
            "report": report["result"]["report"] or "none",
            "quicklook": report["result"]["quicklook"],
            "picture": out / "demo.png",
            "numbers": out / "numbers.json",
        }
    )
