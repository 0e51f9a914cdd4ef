"""One scene, measured: speed, memory, invariance, resuming after kill -9, and seams.

    python benchmarks/scene.py [speed|files|invariance|kill|seams|memory ...] [--model vnir48] [--json FILE]

Without names everything runs but ``memory``, which takes half an hour. The scene is NEON's BART crop
where SPECTILE_DATA names the folder of real imagery, and a simulated one of the same size elsewhere.
Every run is a process of its own, started through the command line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from spectile.catalog.counts import SCALE
from spectile.flows.benchmark.model import machine
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.block.mosaic import extent, mosaic_block, read_inputs
from spectile.pipeline.cube.record import load_plan, open_cube
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.product.quality import seams
from spectile.pipeline.scene.source import open_source
from spectile.pipeline.simulate.scene import Simulator
from spectile.pipeline.store.opening import open_storage

BART = "neon/2019_BART_5_320000_4881000_image_crop.tif"
SPECTILE = [sys.executable, "-m", "spectile"]


def scene(folder: Path) -> Path:
    """The real scene, or a simulated one of its size."""
    real = Path(os.environ.get("SPECTILE_DATA", "")) / BART
    if os.environ.get("SPECTILE_DATA") and real.exists():
        return real
    path = folder / "scene.tif"
    if not path.exists():
        Simulator(seed=11, shape=(1106, 1213), materials="demo").write_rgb(path, kind="display")
    return path


def _spectile(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SPECTILE, *arguments], capture_output=True, text=True, check=False)


def run(scene: Path, out: Path, *options: str) -> dict[str, Any]:
    """One run through the command line; its report, with the wall time of the whole process."""
    report = out.with_suffix(".json")
    start = time.perf_counter()
    done = _spectile("run", str(scene), "--out", str(out), "--json", str(report), *options)
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"the run failed: {done.stderr.strip() or done.stdout.strip()}")
    return {**json.loads(report.read_text()), "wall_seconds": wall}


def counts(out: Path, name: str = "reflectance") -> np.ndarray[Any, np.dtype[Any]]:
    """The stored counts of a cube."""
    group: Any = zarr.open_group(out, mode="r")
    return np.asarray(group[name][:])


def speed(folder: Path, model: str) -> dict[str, Any]:
    """Wall time and peak memory of one run with the default settings."""
    facts = run(scene(folder), folder / "speed.zarr", "--model", model)
    result, plan = facts["result"], facts["plan"]
    return {
        "wall_seconds": facts["wall_seconds"],
        "megapixels": result["megapixels"],
        "megapixels_per_second": result["megapixels"] / facts["wall_seconds"],
        "peak_memory_bytes": result["peak_memory_bytes"],
        "planned_memory_bytes": plan["peak_memory_bytes"],
        "redundancy": plan["redundancy"],
        "model_digest": facts["model"]["digest"],
    }


def files(folder: Path, model: str) -> dict[str, Any]:
    """Every small file of ``rgb_misc``: its cube, or the refusal and the cube with what it names."""
    named = os.environ.get("SPECTILE_DATA")
    if not named:
        return {"skipped": "SPECTILE_DATA is not set"}
    found: dict[str, Any] = {}
    for path in sorted((Path(named) / "rgb_misc").glob("*.tif")):
        out, facts = folder / "file.zarr", {}
        done = _spectile("run", str(path), "--out", str(out), "--model", model, "--overwrite")
        if done.returncode:
            facts["refused"] = done.stderr.strip().splitlines()[-1].replace(named, "$SPECTILE_DATA")
            run(path, out, "--model", model, "--overwrite", "--radiometry", "dn:0,0.0001")
        cube, source = open_cube(out), open_source(path, radiometry=_radiometry(out))
        values, valid = cube.reflectance.values, source.read(source.grid.window)[1]
        facts |= {
            "shape": list(values.shape),
            "same_place": cube.reflectance.rio.transform() == source.grid.transform
            and cube.reflectance.rio.crs == source.grid.crs_wkt,
            "valid_share": float(valid.mean()),
            "finite_where_valid_and_only_there": bool((np.isfinite(values).all(axis=0) == valid).all()),
            "verified": not verify_cube(open_storage(out)),
        }
        found[path.name] = facts
    return found


def _radiometry(out: Path) -> str:
    kind = load_plan(open_storage(out)).settings["radiometry"]["kind"]  # type: ignore[index]
    return "dn:0,0.0001" if kind == "dn" else str(kind)


def invariance(folder: Path, model: str) -> dict[str, Any]:
    """Largest difference in stored counts between ways of running one scene."""
    source = prepare(
        SceneSettings(scene=str(scene(folder)), out=str(folder / "none"), model="bands-repeat")
    ).source
    grid = source.grid
    row, col, height, width = 201, 333, 610, 540
    x, y = grid.transform @ (col, row)
    x_end, y_end = grid.transform @ (col + width, row + height)
    reference_options = ["--block", "2048", "--batch", "8"]
    run(scene(folder), folder / "reference.zarr", "--model", model, *reference_options)
    reference = counts(folder / "reference.zarr").astype(np.int32)
    found = {}
    ways = {
        "block 512": ["--block", "512", "--batch", "8"],
        "block 1024": ["--block", "1024", "--batch", "8"],
        "batch 1": ["--block", "2048", "--batch", "1"],
        "region": [*reference_options, "--region", f"{x},{y_end},{x_end},{y}"],
        "repeated": reference_options,
    }
    for name, options in ways.items():
        out = folder / "other.zarr"
        run(scene(folder), out, "--model", model, *options, "--overwrite")
        part = reference[:, row : row + height, col : col + width] if name == "region" else reference
        difference = np.abs(counts(out).astype(np.int32) - part)
        found[name] = {
            "largest_counts": int(difference.max()),
            "share_of_values_that_differ": float((difference > 0).mean()),
        }
    return found


def kill(folder: Path, model: str, *, times: int = 5) -> dict[str, Any]:
    """Kill a run at random moments, resume it, and compare with the uninterrupted cube."""
    whole, out = folder / "whole.zarr", folder / "killed.zarr"
    options = ["--model", model, "--block", "512"]
    wall = run(scene(folder), whole, *options)["wall_seconds"]
    expected, chance = counts(whole), random.Random(0)
    delays, identical, kills = [], 0, 0
    for _ in range(times):
        shutil.rmtree(out, ignore_errors=True)
        while True:
            delay = chance.uniform(0.05, 1.0) * wall
            resume = ["--resume"] if out.exists() else []
            process = subprocess.Popen(
                [*SPECTILE, "run", str(scene(folder)), "--out", str(out), *options, *resume],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                process.wait(delay)
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                delays.append(round(delay, 2))
                kills += 1
        run(scene(folder), out, *options, *(["--resume"] if out.exists() else []))
        identical += int(np.array_equal(counts(out), expected) and not verify_cube(open_storage(out)))
    return {"cubes": times, "kills": kills, "identical": identical, "seconds_before_kill": delays}


def seam_measures(folder: Path, model: str) -> dict[str, Any]:
    """Seams of (sample − mean of 4) on the scene and on one of a single colour."""
    found = {}
    flat = folder / "flat.tif"
    _write_flat(flat)
    for name, path in (("scene", scene(folder)), ("one colour", flat)):
        prepared = prepare(SceneSettings(scene=str(path), out=str(folder / "none"), model=model))
        window = prepared.plan.window
        mosaic = mosaic_block(
            Block(0, 0, window),
            reading=read_inputs(
                prepared.sources, prepared.predictor.inputs, extent(prepared.plan.tiling, window)
            ),
            tiling=prepared.plan.tiling,
            predictor=prepared.predictor,
            samples=4,
        )
        texture = mosaic.samples[0] - mosaic.samples.mean(axis=0)
        texture = texture[:, : window.height, : window.width]
        found[name] = asdict(seams(texture, prepared.plan.tiling, window))
        found[name]["texture_sd_reflectance"] = float(texture.std())
        found[name]["mean_field"] = asdict(seams(mosaic.samples.mean(axis=0), prepared.plan.tiling, window))
    return found


def _write_flat(path: Path) -> None:
    import rasterio
    from affine import Affine

    profile = {
        "driver": "GTiff", "count": 3, "height": 1000, "width": 1000, "dtype": "float32",
        "crs": "EPSG:32619", "transform": Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        for band, value in enumerate((0.14, 0.12, 0.09), 1):
            dataset.write(np.full((1000, 1000), value, np.float32), band)


def memory(folder: Path, model: str) -> dict[str, Any]:
    """Peak memory of a run on simulated scenes of 4,000² and 16,000²; the network costs nothing."""
    found: dict[str, Any] = {}
    for side in (4_000, 16_000):
        path = folder / f"large{side}.tif"
        Simulator(seed=5, shape=(side, side)).write_rgb(path, kind="display")
        facts = run(path, folder / f"large{side}.zarr", "--model", "bands-repeat")
        found[str(side)] = {
            "peak_memory_bytes": facts["result"]["peak_memory_bytes"],
            "planned_memory_bytes": facts["plan"]["peak_memory_bytes"],
            "wall_seconds": facts["wall_seconds"],
        }
        shutil.rmtree(folder / f"large{side}.zarr")
    found["ratio"] = found["16000"]["peak_memory_bytes"] / found["4000"]["peak_memory_bytes"]
    return found


MEASURES: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "speed": speed,
    "files": files,
    "invariance": invariance,
    "kill": kill,
    "seams": seam_measures,
    "memory": memory,
}


def main() -> None:
    """Run the measures that were asked for and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("measures", nargs="*", choices=[[], *MEASURES], default=[])
    parser.add_argument("--model", default="vnir48")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "model": arguments.model, "count": SCALE}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.measures or [name for name in MEASURES if name != "memory"]:
            found[name] = MEASURES[name](Path(folder), arguments.model)
            print(name, json.dumps(found[name], indent=2), flush=True)
    print("machine:", found["machine"])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
