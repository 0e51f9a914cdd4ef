"""A long flight line across the map, measured: what its emptiness costs, in the plan and in a run.

    python benchmarks/flight_line.py [plan|run|read ...] [--model bands-repeat] [--json FILE]

``plan`` plans a line of 2,000 × 40,000 px that lies at 45°, as one scene; ``run`` makes a cube of a smaller
one, and of the same pixels without a rotation; ``read`` times the reading of a feathered block.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from spectile.flows.run.execute import run_scene
from spectile.flows.run.line import prepare_line, run_line
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import LineSettings, SceneSettings
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.plan.shares import cells

METRE = Affine(1, 0, 500_000, 0, -1, 4_000_000)


def write_strip(path: Path, shape: tuple[int, int], degrees: float, *, texture: bool = False) -> str:
    """A reflectance scene of uint16 with a scale, turned about its first pixel; the path."""
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff", "count": 3, "height": shape[0], "width": shape[1], "dtype": "uint16",
        "crs": "EPSG:32633", "transform": METRE @ Affine.rotation(degrees), "tiled": True, "blockxsize": 512,
        "blockysize": 512, "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        for row in range(0, shape[0], 512):
            height = min(512, shape[0] - row)
            numbers = np.full((3, height, shape[1]), 2000, dtype=np.uint16)
            if texture:
                numbers += rng.integers(0, 500, numbers.shape, dtype=np.uint16)
            dataset.write(numbers, window=rasterio.windows.Window(0, row, shape[1], height))
        dataset.scales = (1e-4,) * 3
    return str(path)


def _line(scenes: list[str], out: Path, model: str, **given: Any) -> LineSettings:
    return LineSettings(scenes=tuple(scenes), out=str(out), model=model, **given)


def _cost(estimate: dict[str, Any], core: int, data: int) -> dict[str, Any]:
    """Pixels that are written, and whose tiles' cores go through the network, for each valid one."""
    computed = estimate["tiles"] - estimate["tiles_masked"]
    return {
        "blocks": estimate["blocks"],
        "blocks_empty": estimate["blocks_empty"],
        "written_by_data": estimate["pixels"] / data,
        "computed_by_data": computed * core**2 / data,
    }


def plan(folder: Path, model: str) -> dict[str, Any]:
    """The plan of the 45° line by frame and block, and that of the same pixels as a straight scene."""
    shape = 40_000, 2_000
    data = shape[0] * shape[1]
    turned = write_strip(folder / "turned.tif", shape, 45)
    straight = write_strip(folder / "straight.tif", shape, 0)
    found: dict[str, Any] = {}
    for frame in ("north-up", "line"):
        for block in (512, 1024, None):
            start = time.perf_counter()
            ready = prepare_line(_line([turned], folder / "x", model, frame=frame, block=block), dry=True)
            said = _cost(asdict(ready.estimate), ready.plan.tiling.core, data)
            shown = {cell for share in ready.plan.scenes for cell in cells(share.tiles)}
            said["distinct_tiles_by_data"] = len(shown) * ready.plan.tiling.core**2 / data
            said["seconds"] = time.perf_counter() - start
            said["peak_memory_bytes"] = ready.estimate.peak_memory_bytes
            found[f"{frame}, block {ready.plan.block}"] = said
    for block in (512, 1024, None):
        ready = prepare(
            SceneSettings(scene=straight, out=str(folder / "x"), model=model, block=block), dry=True
        )
        found[f"straight scene, block {ready.plan.block}"] = _cost(
            asdict(ready.estimate), ready.plan.tiling.core, data
        )
    return found


def run(folder: Path, model: str) -> dict[str, Any]:
    """A line of 600 × 6,000 px at 45° made for real, and the same pixels as a straight scene."""
    shape = 6_000, 600
    found = {}
    for name, degrees in (("turned", 45.0), ("straight", 0.0)):
        scene = write_strip(folder / f"{name}.small.tif", shape, degrees, texture=True)
        out = folder / f"{name}.zarr"
        if degrees:
            prepared, result = run_line(_line([scene], out, model))
        else:
            prepared, result = run_scene(SceneSettings(scene=scene, out=str(out), model=model))
        files = [path for path in out.rglob("*") if path.is_file()]
        found[name] = {
            **_cost(asdict(prepared.estimate), prepared.plan.tiling.core, shape[0] * shape[1]),
            "grid": list(prepared.plan.grid.shape),
            "seconds": result.seconds,
            "tiles": result.tiles,
            "peak_memory_bytes": result.peak_memory_bytes,
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
        }
    return found


def read(folder: Path, model: str) -> dict[str, Any]:
    """Seconds to read 1,024² px where two scenes overlap, beside reading one scene as it is."""
    scenes = [
        write_strip(folder / f"{number}.tif", (1500, 1500), degrees, texture=True)
        for number, degrees in enumerate((0.0, 2.0))
    ]
    window, found = Window(200, 200, 1024, 1024), {}
    single = prepare(SceneSettings(scene=scenes[0], out=str(folder / "x"), model="bands-repeat")).source
    for resampling in ("bilinear", "cubic"):
        source = prepare_line(_line(scenes, folder / "x", "bands-repeat", resampling=resampling)).source
        found[resampling] = _timed(lambda source=source: source.read(window))  # type: ignore[misc]
    found["one scene as it is"] = _timed(lambda: single.read(window))
    return found


def _timed(act: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        act()
        times.append(time.perf_counter() - start)
    return min(times)


MEASURES: dict[str, Callable[[Path, str], dict[str, Any]]] = {"plan": plan, "run": run, "read": read}


def main() -> None:
    """Run the measures that were asked for and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("measures", nargs="*", choices=[[], *MEASURES], default=[])
    parser.add_argument("--model", default="bands-repeat")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.measures or MEASURES:
            found[name] = MEASURES[name](Path(folder), arguments.model)
            print(name, json.dumps(found[name], indent=2), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
