"""What events work on: the scene, the uninterrupted cube, and an S3 server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np

from benchmarks.faults.processes import Process, ask, spectile


class Skipped(Exception):
    """What this machine cannot do, and why."""


class Bench:
    """The scene, the uninterrupted cubes, and a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scene = str(folder / "scene.tif")
        self._server: str | None = None
        self._stack = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)
        ask(lambda: _write_scene(self.scene), folder / "scene.log")
        self.reference = str(folder / "reference" / "cube.zarr")
        """The uninterrupted cube."""
        self.passages, self.cpu_seconds = self._make_reference()

    def close(self) -> None:
        """End the object server."""
        self._stack.close()

    def _make_reference(self) -> tuple[dict[str, int], float]:
        """Make it; how often its run passed each phase, and its CPU seconds with the lease."""
        counts = Path(self.reference).parent / "counts.json"
        shutil.rmtree(counts.parent, ignore_errors=True)
        counts.parent.mkdir()
        lease = Path(self.reference, "ledger", "lease-00000001.json")
        before = used = 0.0
        with spectile(self.run(self.reference), counts.with_suffix(".log"), counts=counts) as process:
            while process.poll() is None:
                used = max(used, process.cpu_seconds())
                if not lease.exists():
                    before = used
                time.sleep(0.005)
        if process.code != 0:
            raise RuntimeError(f"the uninterrupted run failed: {counts.with_suffix('.log')}")
        return json.loads(counts.read_text()), used - before

    def run(self, cube: str, *more: str) -> list[str]:
        """The arguments of a run."""
        return ["run", self.scene, "--out", cube, "--model", "bands-repeat", "--block", "512", *more]

    def objects(self) -> str:
        """The URL of a bucket on a real S3 server on loopback, which starts when it is first asked for."""
        if self._server is None:
            place = self.folder / f"server-{os.getpid()}.url"
            server = Process(lambda: _serve(place), place.with_suffix(".log"))
            self._stack.callback(server.end)
            while not place.exists():
                if server.poll() is not None:
                    raise Skipped("moto is not installed")
                time.sleep(0.05)
            self._server = place.read_text()
            os.environ |= {"AWS_ENDPOINT_URL": self._server, "AWS_ACCESS_KEY_ID": "testing",
                           "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}  # fmt: skip
            with urlopen(Request(f"{self._server}/bucket", method="PUT")):
                pass
        return "s3://bucket"


def _write_scene(path: str) -> None:
    """Flat squares, which compress fast, 540 × 540 px: four blocks; a corner is masked."""
    import rasterio

    squares = np.random.default_rng(0).integers(1, 255, (3, 14, 14), dtype=np.uint8)
    squares[:, :4, 10:] = 0
    array = np.kron(squares, np.ones((1, 40, 40), dtype=np.uint8))[:, :540, :540]
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=540, width=540, dtype="uint8", crs="EPSG:32619",
        transform=rasterio.Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000), nodata=0, photometric="RGB",
        tiled=True, blockxsize=256, blockysize=256,
    ) as dataset:  # fmt: skip
        dataset.write(array)


def _serve(place: Path) -> int:
    from tests.object_server import ObjectServer

    with ObjectServer().running() as server:
        part = place.with_suffix(".part")
        part.write_text(server.url)
        part.rename(place)
        signal.pause()
    return 0
