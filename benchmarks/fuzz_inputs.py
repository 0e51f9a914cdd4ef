"""Cubes, items of catalogs and checkpoints, changed at random: what is accepted, refused, fails or hangs.

    python benchmarks/fuzz_inputs.py                     300 cubes, 300 items, 100 checkpoints
    python benchmarks/fuzz_inputs.py --seed 7 --count 60

Each input is read in a process of its own with limits on time and memory. Seed, kind and number of
an input make it again. Prints the counts and writes JSON, which says where each traceback ended.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SpectileError
from spectile.catalog.stac.index import Query
from spectile.catalog.stac.items import Placed, build_item
from spectile.model import checkpoint
from spectile.model.predict.predictor import load_predictor
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.verify import inspect_cube
from spectile.pipeline.cube.write import create_cube, write_block
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product.quicklook import write_quicklook
from spectile.pipeline.product.view import open_view
from spectile.pipeline.stac.collection import Collection
from spectile.pipeline.stac.item import cube_facts
from spectile.pipeline.stac.scenes import list_scenes
from spectile.pipeline.store.local import LocalStorage

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 30
"""What an input may take."""
MEMORY = 4 << 30
"""Bytes that it may take beyond what is there before it is read."""
NESTED: Any = []
for _ in range(500):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**12, 10**30, 1e308, float("nan"), "", "x" * 10_000, "../../secret",
    "/etc/passwd", "http://127.0.0.1/x.tif",
    "file:///etc/passwd", "\x1b[2J", "<script>", [], {}, [None] * 1000, NESTED,
)  # fmt: skip
"""What a value of JSON may become."""


def make_cube(folder: Path) -> None:
    """A small finished cube with an overview."""
    centres = tuple(float(nm) for nm in range(400, 1000, 100))
    bands = Bands(centres, (50.0,) * len(centres))
    grid = Grid((600, 80), Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000), CRS.from_epsg(32619).to_wkt())
    plan = Plan(grid, grid.window, Tiling(grid.shape), 512, len(bands), 2, ("sd",), {"seed": 0})
    cube = create_cube(LocalStorage(folder), plan, bands)
    for block in plan.blocks:
        shape = block.window.shape
        values = np.random.default_rng(0).random((2, len(bands), *shape), dtype=np.float32)
        write_block(cube, block, Mosaic(values, np.ones(shape, dtype=bool), 1, 0))
    write_quicklook(cube.storage)
    finalise(cube, attributes={"tiles": 1})


def change(said: Any, chance: random.Random) -> Any:
    """JSON with one to three of its values replaced, left out or repeated."""
    for _ in range(chance.randint(1, 3)):
        if not isinstance(said, dict | list) or not said:
            return chance.choice(VALUES)
        at: Any = said
        while True:
            key = chance.choice(list(at)) if isinstance(at, dict) else chance.randrange(len(at))
            if isinstance(at[key], dict | list) and at[key] and chance.random() < 0.8:
                at = at[key]
                continue
            break
        match chance.randrange(6):
            case 0:
                del at[key]
            case 1 if isinstance(at, list):
                at *= 50
            case _:
                at[key] = chance.choice(VALUES)
    return said


def spoil(data: bytes, chance: random.Random) -> bytes:
    """Bytes of which some are others, or missing, or too many."""
    held = bytearray(data)
    match chance.randrange(4):
        case 0:
            del held[chance.randrange(len(held) + 1) :]
        case 1:
            held[chance.randrange(len(held) + 1) : 0] = chance.randbytes(chance.randint(1, 64))
        case _:
            # Headers and indices are at the ends.
            for _ in range(chance.randint(1, 16)):
                near = min(len(held), chance.choice((16, 256, len(held))))
                held[chance.choice((chance.randrange(near), -1 - chance.randrange(near)))] = chance.randrange(
                    256
                )
    return bytes(held)


def change_file(path: Path, chance: random.Random) -> None:
    """Change a file, mostly as JSON where it is JSON; now and then it becomes a link, a folder or nothing."""
    if chance.random() < 0.05:
        path.unlink()
        chance.choice((lambda: path.symlink_to("/etc/passwd"), path.mkdir, path.touch, lambda: None))()
        return
    data = path.read_bytes()
    if path.suffix == ".json" and chance.random() < 0.9:
        path.write_text(json.dumps(change(json.loads(data), chance)), encoding="utf-8")
    elif data:
        path.write_bytes(spoil(data, chance))


def cube(base: Path, chance: random.Random) -> Callable[[], object]:
    """Change a cube; what reads it: the page, ``open_cube``, ``verify`` or the catalog."""
    files = sorted(path for path in base.rglob("*") if path.is_file())
    if chance.random() < 0.7:  # arrays say for themselves what they are
        root = base / "zarr.json"
        said = json.loads(root.read_text(encoding="utf-8"))
        said.pop("consolidated_metadata", None)
        root.write_text(json.dumps(said), encoding="utf-8")
    told = [path for path in files if path.suffix == ".json"]
    for path in {
        chance.choice(told if chance.random() < 0.7 else files) for _ in range(chance.randint(1, 2))
    }:
        change_file(path, chance)

    def look() -> None:
        view = open_view(str(base))
        for key in view.subjects:
            view.read(view.subject(key, 550.0), view.levels[-1])
        view.spectrum(300, 40)

    def compute() -> None:
        open_cube(base).reflectance[:, 290:310, 30:50].compute()

    return chance.choice(
        (look, compute, lambda: inspect_cube(LocalStorage(base)), lambda: cube_facts(LocalStorage(base)))
    )


def item(base: Path, chance: random.Random) -> Callable[[], object]:
    """Change an item of a catalog, or of a collection of scenes; what reads it."""
    if chance.random() < 0.5:
        path = chance.choice(sorted(path for path in base.rglob("*") if path.is_file()))
        change_file(path, chance)
        catalog = Collection(LocalStorage(base))
        return lambda: (catalog.rebuild(), catalog.search(Query()))
    path = next(path for path in base.rglob("*.json") if path.name != "collection.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    found["assets"]["scene"] = {
        "href": "./scene.tif",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
    }
    scenes = base / "scenes.json"
    scenes.write_text(json.dumps({"type": "FeatureCollection", "features": [found]}), encoding="utf-8")
    change_file(scenes, chance)
    return lambda: list_scenes([str(scenes)])


def trained(base: Path, chance: random.Random) -> Callable[[], object]:
    """Change a checkpoint, in half of them so that its digest still holds; what loads it."""
    if chance.random() < 0.5:
        held = checkpoint.load(base)
        metadata = change(json.loads(json.dumps(dict(held.metadata))), chance)
        tensors = dict(held.tensors)
        if chance.random() < 0.3:
            name = chance.choice(sorted(tensors))
            tensors[name] = tensors[name].flatten()[: chance.randrange(tensors[name].numel() + 1)]
        checkpoint.save(base, tensors, metadata if isinstance(metadata, dict) else {})
    else:
        change_file(chance.choice(sorted(path for path in base.iterdir() if path.is_file())), chance)
    return lambda: load_predictor(str(base), device="cpu")


KINDS = {"cube": (cube, 300), "item": (item, 300), "checkpoint": (trained, 100)}
"""How an input is made, and how many there are."""


def make_bases(folder: Path) -> None:
    """What inputs are changed copies of."""
    make_cube(folder / "cube")
    catalog = Collection(LocalStorage(folder / "item"))
    catalog.add(str(folder / "cube"), cube_facts(LocalStorage(folder / "cube")))
    now = datetime.now(UTC)
    facts = cube_facts(LocalStorage(folder / "cube"))
    said = build_item(facts, Placed("scene", "./"), created=now, updated=now)
    (folder / "item" / "spare.json").write_text(json.dumps(said), encoding="utf-8")
    shutil.copytree(checkpoint.locate("vnir48"), folder / "checkpoint")


def apart(work: Callable[[], dict[str, Any]], *, seconds: int = SECONDS) -> tuple[dict[str, Any], float]:
    """What work says in a process of its own, and the MB that this one took at most."""
    reads, writes = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reads)
        signal.alarm(seconds)
        try:
            os.write(writes, json.dumps(work()).encode())
        finally:
            os._exit(0)  # whatever happens: the folder is the other process's to remove
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        text = pipe.read()
    _, status, used = os.wait4(child, 0)
    if text:
        return json.loads(text), used.ru_maxrss / 1024
    ended = os.waitstatus_to_exitcode(status)
    return {
        "outcome": "hang" if ended == -signal.SIGALRM else "killed",
        "line": f"exit {ended}",
    }, used.ru_maxrss / 1024


def attempt(kind: str, seed: int, number: int, folder: Path) -> dict[str, Any]:
    """Make an input and read it; the outcome."""
    chance = random.Random(f"{seed} {kind} {number}")
    base = folder / "input"
    shutil.copytree(folder / kind, base, symlinks=True)
    read = KINDS[kind][0](base, chance)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    try:
        read()
    except (SpectileError, OSError) as err:
        return {"outcome": "refused", "line": str(err)[:300]}
    except Exception as err:  # whatever comes out is what is counted
        last = traceback.extract_tb(err.__traceback__)
        ours = [frame for frame in last if Path(frame.filename).is_relative_to(ROOT)][-1]
        where = f"{Path(ours.filename).parent.name}/{Path(ours.filename).name}:{ours.lineno}"
        return {"outcome": "traceback", "line": f"{type(err).__name__}: {err}"[:300], "where": where}
    return {"outcome": "accepted"}


def main() -> None:
    """Make the inputs, read them, print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="inputs of each kind; default 300, of checkpoints 100")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz_inputs.json"))
    given = parser.parse_args()
    results: dict[str, Any] = {"seed": given.seed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        apart(lambda: make_bases(folder) or {}, seconds=600)
        for kind, (_, usual) in KINDS.items():
            found: list[dict[str, Any]] = []
            most = 0.0
            for number in range(given.count or usual):
                shutil.rmtree(folder / "input", ignore_errors=True)
                said, megabytes = apart(
                    lambda kind=kind, number=number: attempt(kind, given.seed, number, folder)
                )
                most = max(most, megabytes)
                found.append({"number": number, **said, "megabytes": round(megabytes)})
            counts = dict(Counter(each["outcome"] for each in found))
            odd = [each for each in found if each["outcome"] not in ("accepted", "refused")]
            results[kind] = {"counts": counts, "largest_megabytes": round(most), "faults": odd}
            print(f"{kind}: {counts}, {most:.0f} MB at most", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
