"""The fusion of real and simulated pairs, measured from the two files to the finished cube.

    SPECTILE_DATA=… python benchmarks/fuse_pairs.py [berlin|paris|shift|same|kill|scale ...] [--out FOLDER]
        [--model fuse] [--side 4000,8000] [--bands 200] [--scratch FOLDER] [--json FILE]

``berlin``: EnMAP 30 m (simulated) with 4 bands at 3.6 m, no whole ratio. ``paris``: Hyperion with ALI's
panchromatic band, ratio 3; and Hyperion averaged 3 × 3 with ALI's nine bands, scored against Hyperion.
``shift``: the MSI of Berlin moved on purpose, and what is found. ``same``: one cube for any block, workers
and region. ``kill``: a run that is killed and goes on. ``scale``: memory, speed and the bare solver's share
for simulated pairs of several sizes; the largest takes tens of gigabytes under ``--scratch``. Without
arguments a small run of ``same``, ``kill`` and ``scale`` on simulated pairs, which needs no imagery.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr
from affine import Affine
from numpy.typing import NDArray
from scipy.io import loadmat
from shared import OUT, arguments, data_folder
from shared.fuse_scale import scale
from shared.pairs import FRAME, simulate

from spectile.catalog.bands import Bands
from spectile.catalog.files import write_text
from spectile.flows.run import execute
from spectile.flows.run.fusion import prepare_fusion_again, run_fusion
from spectile.flows.run.holding import Beating, holding
from spectile.flows.run.settings import FuseSettings
from spectile.flows.run.state import Prepared, Silent
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.pair.source import open_pair
from spectile.pipeline.plan.quality_layers import FLAGS

Floats = NDArray[np.float64]

COUNTS = "dn:0,0.0001"
ALI_NM = Bands(
    (443.0, 483.0, 565.0, 660.0, 790.0, 866.0, 1244.0, 1640.0, 2226.0),
    (20.0, 75.0, 80.0, 60.0, 30.0, 44.0, 88.0, 171.0, 272.0),
)
"""EO-1 ALI, multispectral bands (Lencioni et al. 2005)."""
ALI_PAN = Bands((585.0,), (210.0,))
VNIR, SWIR = (1, 355.59, 10.175), (71, 852.0, 10.085)
"""Hyperion's two detectors (Pearlman et al. 2003): first band, its centre and the step, nm."""
RATIO = 4
"""Of the simulated pair of ``same`` and ``kill``."""
SMALL = ["same", "kill", "scale", "--size", "640", "--side", "640", "--bands", "40"]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []], metavar="MEASURE")
    parser.add_argument("--model", default="fuse")
    parser.add_argument("--out", type=Path, default=OUT / "fuse-pairs")
    parser.add_argument("--side", default="4000,8000", help="rows and columns of the cubes of scale, px")
    parser.add_argument("--bands", type=int, default=200, help="of the cubes of scale")
    parser.add_argument(
        "--scratch", type=Path, help="where the scenes and cubes of scale are, while they are"
    )
    parser.add_argument(
        "--size", type=int, default=1200, help="rows and columns of the cube of same and kill, px"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments(SMALL))
    given.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in given.measures or MEASURES:
        found[name] = MEASURES[name](given)
        print(name, json.dumps(found[name], indent=2), flush=True)
    if given.json:
        write_text(given.json, json.dumps(found, indent=2))


def write_bands(
    path: Path, values: NDArray[Any], bands: Bands, transform: Affine, crs: str = "EPSG:32631"
) -> str:
    """Reflectance (B, h, w) as a GeoTIFF with wavelengths; the path."""
    profile = {
        "driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2],
        "dtype": "float32", "crs": crs, "transform": transform,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values.astype(np.float32))
        for band, (centre, width) in enumerate(zip(bands.centre_nm, bands.fwhm_nm, strict=True), 1):
            dataset.update_tags(band, wavelength=f"{centre}", wavelength_units="Nanometers", fwhm=f"{width}")
    return str(path)


def told(settings: FuseSettings) -> dict[str, Any]:
    """Fuse, and say what was estimated and how the cube agrees with both scenes."""
    started = time.perf_counter()
    prepared, result = run_fusion(settings)
    group = zarr.open_group(settings.out, mode="r")
    flags, valid = group["quality"][:], group["valid"][:] > 0
    estimates = dict(prepared.plan.settings["pair"]["estimates"])
    for name in ("hsi_noise", "sd_factor"):
        estimates.pop(name, None)
    return {
        "shape": list(group["reflectance"].shape), "ratio": prepared.source.ratio,
        "seconds": round(time.perf_counter() - started, 1), "seconds_in_blocks": round(result.seconds, 1),
        "peak_memory_mb": round(result.peak_memory_bytes / 1e6),
        "valid": round(float(valid.mean()), 4),
        "changed": round(float((flags[valid] & FLAGS["changed"] > 0).mean()), 4),
        **{name: quantiles(group[name][:], valid) for name in ("hsi_consistency", "rgb_consistency")},
        "estimates": estimates,
    }  # fmt: skip


def quantiles(counts: NDArray[Any], valid: NDArray[np.bool_]) -> list[float]:
    """Median and 95 % quantile of a layer, reflectance."""
    known = counts[valid & (counts < 65535)] * 1e-4
    return [round(float(value), 5) for value in np.percentile(known, (50, 95))] if known.size else []


def berlin_scenes() -> tuple[str, str]:
    """EnMAP and the sharp scene of Berlin."""
    folder = data_folder() / "berlin_urban_gradient/enmapboxtestdata"
    return str(folder / "EnMAP_BerlinUrbanGradient.bsq"), str(
        folder / "HighResolution_BerlinUrbanGradient.bsq"
    )


def berlin(given: argparse.Namespace) -> dict[str, Any]:
    """The cube of Berlin, in its place."""
    hsi, msi = berlin_scenes()
    return told(FuseSettings(
        hsi=hsi, msi=msi, hsi_radiometry=COUNTS, msi_radiometry=COUNTS, out=str(given.out / "berlin.zarr"),
        model=given.model, overwrite=True,
    ))  # fmt: skip


def hyperion(numbers: NDArray[Any]) -> Bands:
    """Hyperion's bands by their numbers among its 220 calibrated ones, as HySure counts them."""
    centres = []
    for number in numbers.ravel().astype(int).tolist():
        first, nm, step = VNIR if number <= 70 else SWIR
        centres.append(nm + (number - first) * step)
    return Bands(tuple(centres), (10.5,) * len(centres))


def paris(given: argparse.Namespace) -> dict[str, Any]:
    """The two pairs of Paris, whose files have no frame: it is invented, north up."""
    folder = data_folder() / "paris_eo1"
    found = {}
    sharp = loadmat(folder / "paris_data_hs_pan.mat")
    bands = hyperion(sharp["non_del_bands"])
    hsi = write_bands(given.out / "paris-hsi.tif", np.moveaxis(sharp["HSim"], -1, 0), bands, FRAME)
    pan = write_bands(given.out / "paris-pan.tif", sharp["PCim"][None], ALI_PAN, FRAME @ Affine.scale(1 / 3))
    common: dict[str, Any] = {
        "hsi_radiometry": "reflectance", "msi_radiometry": "reflectance", "model": given.model,
        "overwrite": True,
    }  # fmt: skip
    found["pan"] = told(FuseSettings(hsi=hsi, msi=pan, out=str(given.out / "paris-pan.zarr"), **common))
    both = loadmat(folder / "paris_data_hs_ms.mat")
    truth = np.moveaxis(both["HSim"], -1, 0)
    coarse = truth.reshape(len(truth), 24, 3, 24, 3).mean(axis=(2, 4))
    hsi = write_bands(given.out / "paris-coarse.tif", coarse, bands, FRAME @ Affine.scale(3))
    msi = write_bands(given.out / "paris-ali.tif", np.moveaxis(both["MSim"], -1, 0), ALI_NM, FRAME)
    for method in dict.fromkeys((given.model, "fuse:cubic")):
        out = str(given.out / f"paris-ali-{method.replace(':', '-')}.zarr")
        found[f"ali {method}"] = told(FuseSettings(hsi=hsi, msi=msi, out=out, **{**common, "model": method}))
        group = zarr.open_group(out, mode="r")
        cube, valid = group["reflectance"][:] * 1e-4, group["valid"][:] > 0
        found[f"ali {method}"]["against Hyperion"] = scores(cube[:, valid], truth[:, valid])
    return found


def scores(cube: Floats, truth: Floats) -> dict[str, float]:
    """Of spectra (B, n): RMSE in reflectance, PSNR with each band's largest value, angle in degrees."""
    error = cube - truth
    rmse = np.sqrt(np.square(error).mean(axis=1))
    peak = truth.max(axis=1)
    cosine = (cube * truth).sum(axis=0) / np.linalg.norm(cube, axis=0) / np.linalg.norm(truth, axis=0)
    return {
        "rmse": round(float(np.sqrt(np.square(error).mean())), 5),
        "psnr_db": round(float((20 * np.log10(peak / rmse)).mean()), 2),
        "angle_deg": round(float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()), 3),
    }


def shift(given: argparse.Namespace) -> dict[str, Any]:
    """Berlin's sharp scene moved on purpose: what is found, less what is found of it as it is."""
    from spectile.flows.run.fused import shift_of
    from spectile.pipeline.pair.sample import sample_windows

    hsi, msi = berlin_scenes()
    found = []
    with rasterio.open(msi) as dataset:
        values, transform = dataset.read() * 1e-4, dataset.transform
        with rasterio.open(hsi) as coarse:
            crs = coarse.crs.to_wkt()
        bands = open_pair(hsi, msi, hsi_radiometry=COUNTS, msi_radiometry=COUNTS).msi_bands
        values[:, dataset.read(1) == dataset.nodata] = np.nan
    start: Sequence[float] = (0.0, 0.0)
    for moved in ((0.0, 0.0), (0.5, 0.0), (-1.3, 2.25), (3.7, -0.4), (6.0, 6.0)):
        # Fine pixels are an eighth of 30 m. The picture lies down and right of where it belongs.
        at = Affine.translation(moved[1] * 3.75, -moved[0] * 3.75) @ transform
        path = write_bands(given.out / "berlin-moved.tif", values, bands, at, crs)
        pair = open_pair(hsi, path, hsi_radiometry=COUNTS, msi_radiometry="reflectance")
        drift = shift_of(sample_windows(pair, 0), pair).drift
        seen = drift.row, drift.col
        start = seen if moved == (0.0, 0.0) else start
        wrong = [round(each - zero - put, 3) for each, zero, put in zip(seen, start, moved, strict=True)]
        found.append({"put in": list(moved), "found": [round(each, 3) for each in seen], "error": wrong})
    return {"fine pixel": "3.75 m", "moves": found}


def same(given: argparse.Namespace) -> dict[str, Any]:
    """The largest difference, in counts, of cubes that must be the same."""
    with tempfile.TemporaryDirectory() as folder:
        hsi, msi = simulate(Path(folder), given.size, ratio=RATIO)
        common: dict[str, Any] = {"hsi": hsi, "msi": msi, "model": given.model, "samples": 1}
        kinds: Mapping[str, Mapping[str, Any]] = {
            "block 512": {"block": 512}, "block 1024": {"block": 1024}, "block 2048": {"block": 2048},
            "batch 4": {"block": 1024, "batch": 4}, "workers 1": {"block": 512, "workers": 1},
            "workers 2": {"block": 512, "workers": 2}, "region": {"region": region(given.size)},
        }  # fmt: skip
        cubes, known = {}, None
        for name, more in kinds.items():
            settings = FuseSettings(out=str(Path(folder) / f"{name}.zarr"), **{**common, **more})
            if known is None:
                known, _ = run_fusion(settings)
                window = known.plan.window
            else:
                window = fuse_again(settings, known)
            group = zarr.open_group(settings.out, mode="r")
            cubes[name] = {
                key: group[key][:] for key in ("reflectance", "quality", "hsi_consistency", "valid")
            }
        first, part = cubes.pop("block 512"), cubes.pop("region")
        found = {
            name: {key: most(first[key], values) for key, values in cube.items()}
            for name, cube in cubes.items()
        }
        cut = {key: values[(..., *window.slices)] for key, values in first.items()}
        found["region"] = {key: most(cut[key], values) for key, values in part.items()}
        found["seam"] = {
            "sd at borders of tiles ÷ elsewhere": seam(first["reflectance"], known.plan.tiling.core)
        }
    return found


def fuse_again(settings: FuseSettings, known: Prepared) -> Window:
    """Fuse with the estimates of another run; the part of the scene that the cube holds."""
    with (
        prepare_fusion_again(settings, settings.places, known.plan, known.pair) as prepared,
        holding(settings) as lease,
    ):
        cube = execute.start_cube(prepared, lease.storage)
        execute.carry_out(prepared, cube, Beating(lease, Silent()), time.perf_counter())
        return prepared.plan.window


def region(side: int) -> tuple[float, float, float, float]:
    """Map bounds of a part that begins inside an HSI pixel."""
    left, top = FRAME @ (side / RATIO * 0.31 + 0.4, side / RATIO * 0.22 + 0.3)
    right, bottom = FRAME @ (side / RATIO * 0.77, side / RATIO * 0.83)
    return left, bottom, right, top


def most(one: NDArray[Any], other: NDArray[Any]) -> int:
    """The largest difference; −1 for other shapes."""
    return (
        -1 if one.shape != other.shape else int(np.abs(one.astype(np.int64) - other.astype(np.int64)).max())
    )


def seam(counts: NDArray[Any], core: int) -> float:
    """Differences of neighbouring pixels across the borders of tiles' cores, over those elsewhere."""
    across = np.abs(np.diff(counts.astype(np.float64), axis=2)).mean(axis=(0, 1))
    borders = np.arange(core - 1, across.size, core)
    elsewhere = np.setdiff1d(np.arange(across.size), borders)
    return round(float(across[borders].mean() / across[elsewhere].mean()), 4)


def sizes(given: argparse.Namespace) -> dict[str, Any]:
    """Pairs of several sizes, each fused in a process of its own."""
    sides = [int(side) for side in given.side.split(",")]
    return scale(sides, bands=given.bands, model=given.model, folder=given.scratch)


def start(hsi: str, msi: str, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """``spectile fuse`` in a process of its own."""
    command = [sys.executable, "-m", "spectile", "fuse", "--hsi", hsi, "--msi", msi, "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def kill(given: argparse.Namespace) -> dict[str, Any]:
    """A run that is killed between two blocks and goes on, against one that is left alone."""
    with tempfile.TemporaryDirectory() as folder:
        hsi, msi = simulate(Path(folder), given.size, ratio=RATIO)
        whole, broken = Path(folder) / "whole.zarr", Path(folder) / "broken.zarr"
        options = ("--block", "512", "--model", given.model)
        if start(hsi, msi, whole, *options).wait():
            raise SystemExit("the fusion failed")
        run = start(hsi, msi, broken, *options)
        markers = broken / "ledger"
        while run.poll() is None and not list(markers.glob("r*c*.json")):
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGKILL)
        run.wait()
        before = len(list(markers.glob("r*c*.json")))
        started = time.perf_counter()
        if start(hsi, msi, broken, *options, "--resume", "--lease", "1").wait():
            raise SystemExit("the run did not go on")
        one, other = (zarr.open_group(str(path), mode="r") for path in (whole, broken))
        differences = {key: most(one[key][:], other[key][:]) for key in ("reflectance", "quality")}
        return {
            "blocks before": before,
            "seconds of the rest": round(time.perf_counter() - started, 1),
            "difference, counts": differences,
        }


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "berlin": berlin, "paris": paris, "shift": shift, "same": same, "kill": kill, "scale": sizes,
}  # fmt: skip

if __name__ == "__main__":
    main()
