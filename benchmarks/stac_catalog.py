"""How fast a catalog is: searches of many items, and processes that add at once.

    python benchmarks/stac_catalog.py                       both, as docs/catalog.md tells them
    python benchmarks/stac_catalog.py --items 10000 --processes 2 --adds 20

Items are made up; no cube is written. The index is built as rows, without a file for each item.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from spectile.catalog.stac.index import Query, newest, to_parquet, to_table
from spectile.catalog.stac.items import COG_TYPE, ZARR_TYPE, Facts, Placed, build_item
from spectile.catalog.times import parse_open_span
from spectile.flows.benchmark.model import machine
from spectile.pipeline.stac.collection import Collection
from spectile.pipeline.store.local import LocalStorage

SEARCHES = {
    "everything": Query(),
    "a box of 1°": Query(bbox=(10.0, 50.0, 11.0, 51.0)),
    "half the globe": Query(bbox=(0.0, -90.0, 180.0, 90.0)),
    "a month": Query(datetime=parse_open_span("2024-06")),
    "model and bands": Query(model="vnir48", wavelength=(450.0, 900.0)),
    "box, month, model, bands, status": Query(
        (0.0, 40.0, 20.0, 60.0), parse_open_span("2024-06"), "vnir48", "complete", (450.0, 900.0)
    ),
}


def made_up(number: int, chance: random.Random) -> Facts:
    """A cube of a square kilometre somewhere."""
    west, south = chance.uniform(-180, 179.9), chance.uniform(-80, 80)
    east, north = west + 0.014, south + 0.009
    taken = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(6 * 365 * 24 * 60))
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    name = f"scene{number:06d}"
    return Facts(
        name=name,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=(west, south, east, north),
        properties={
            "proj:code": f"EPSG:326{chance.randrange(1, 61):02d}",
            "gsd": 0.5,
            "spectile:status": "complete" if number % 50 else "incomplete",
            "spectile:model": "vnir48" if number % 3 else "scdm-paper",
            "spectile:model_digest": "0" * 64,
            "spectile:digest": f"{chance.getrandbits(256):064x}",
            "spectile:samples": 1,
            "spectile:layers": [],
            "spectile:bands": 48,
            "spectile:wavelength_min": 380.0,
            "spectile:wavelength_max": 1050.0,
        },
        assets={
            "cube": {"href": f"{name}.zarr", "type": ZARR_TYPE, "title": "cube", "roles": ["data"]},
            "true_colour": {"href": f"{name}.tif", "type": COG_TYPE, "title": "COG", "roles": ["visual"]},
        },
        links=[{"rel": "derived_from", "href": f"urn:spectile:scene:{number:064x}", "title": "scene.tif"}],
        taken=(taken, taken),
    )


def measure_searches(count: int, folder: Path, repeats: int) -> dict[str, Any]:
    """Milliseconds of each search in a warm process, the index read from its file each time."""
    chance = random.Random(1)
    now = datetime.now(UTC)
    collection = Collection(LocalStorage(folder))
    collection.create()
    items = (
        build_item(made_up(n, chance), Placed(f"i{n}", "../../../"), created=now, updated=now)
        for n in range(count)
    )
    index = to_parquet(to_table(items))
    collection.storage.put("index.parquet", index)
    found: dict[str, Any] = {"items": count, "index_megabytes": len(index) / 1e6}
    for name, query in SEARCHES.items():
        collection.search(query)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            rows = collection.search(query)
            newest(rows, 100).to_pylist()
            times.append(1000 * (time.perf_counter() - start))
        times.sort()
        found[name] = {"found": rows.num_rows, "ms_median": times[len(times) // 2], "ms_most": times[-1]}
    return found


def _add(folder: str, worker: int, count: int, start: Any) -> None:
    chance = random.Random(worker)
    collection = Collection(LocalStorage(Path(folder) / "stac"))
    start.wait()
    for number in range(count):
        facts = made_up(worker * 100_000 + number, chance)
        collection.add(f"{folder}/out/{facts.name}.zarr", facts)


def measure_adds(processes: int, count: int, folder: Path) -> dict[str, Any]:
    """Seconds in which processes add items at once, and how many are lost."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes + 1)
    workers = [
        context.Process(target=_add, args=(str(folder), number, count, start)) for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - began
    collection = Collection(LocalStorage(folder / "stac"))
    found = collection.search(Query()).num_rows
    start_rebuild = time.perf_counter()
    rebuilt = collection.rebuild()
    return {
        "processes": processes,
        "adds_each": count,
        "seconds": seconds,
        "failed": sum(worker.exitcode != 0 for worker in workers),
        "lost": processes * count - found,
        "lost_after_rebuild": processes * count - rebuilt.items,
        "rebuild_seconds": time.perf_counter() - start_rebuild,
    }


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=100_000, help="items that are searched")
    parser.add_argument("--repeats", type=int, default=5, help="times that each search is made")
    parser.add_argument("--processes", type=int, default=8, help="processes that add at once")
    parser.add_argument("--adds", type=int, default=200, help="items that each adds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        facts = {
            "machine": machine(),
            "searches": measure_searches(given.items, Path(folder) / "many", given.repeats),
            "adds": measure_adds(given.processes, given.adds, Path(folder) / "few"),
        }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
