"""A fusion whose scenes and cube lie on servers, and whose blocks workers make: the cube is that of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import obstore
import pytest
from distributed import LocalCluster

from spectile.catalog.urls import locate
from spectile.flows.commands import app as cli
from spectile.flows.run.fusion import run_fusion
from spectile.flows.run.settings import FuseSettings
from spectile.pipeline.cube.record import Cube, finished_blocks, load_plan
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.objects import connect
from spectile.pipeline.store.opening import open_storage
from tests.flows.run.pairs import write_pair
from tests.hostile.servers import listening

pytestmark = pytest.mark.slow  # servers, workers and whole runs

SHAPE = (32, 144)
"""Of the HSI: two blocks of 512 px."""
FAST = {
    "model": "fuse:linear",
    "block": 512,
    "tile": 128,
    "halo": 24,
    "layers": ("quality", "hsi_consistency"),
}
SCENE, CUBE = "s3://bucket/in put/hsi.tif", "s3://bucket/out/cube.zarr"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> FuseSettings:
    """A pair in files and its cube, made by one process."""
    folder = tmp_path_factory.mktemp("alone")
    hsi, msi, _ = write_pair(folder, SHAPE)
    settings = FuseSettings(hsi=hsi, msi=msi, out=str(folder / "cube.zarr"), **FAST)  # type: ignore[arg-type]
    _, result = run_fusion(settings)
    assert (result.blocks_done, result.blocks_failed) == (2, 0)
    return settings


def values(storage: Storage) -> dict[str, bytes | None]:
    """Every object that holds values of a layer."""
    keys = [key for key in storage.walk() if "/c/" in key]
    assert {key.partition("/")[0] for key in keys} >= {"reflectance", "quality", "hsi_consistency", "valid"}
    return {key: storage.get(key) for key in keys}


def checksums(place: str) -> dict[Block, dict[str, str]]:
    cube = Cube(open_storage(place), load_plan(open_storage(place)))
    return {block: dict(marker.checksums) for block, marker in finished_blocks(cube).items()}


def test_scenes_by_url_and_a_cube_in_a_bucket_are_those_of_files(
    alone: FuseSettings, object_server, capsys: pytest.CaptureFixture[str]
) -> None:
    where = locate(SCENE)
    obstore.put(connect(where), where.key, Path(alone.hsi).read_bytes())
    options = ["--model", "fuse:linear", "--block", "512", "--tile", "128", "--halo", "24", "--layers",
               "quality,hsi_consistency"]  # fmt: skip
    there = open_storage(CUBE)
    with listening(Path(alone.msi).parent) as web:
        fuse = ["fuse", "--hsi", SCENE, "--msi", f"{web.url}/msi.tif", "--out", CUBE, *options]
        assert cli.main(fuse) == 0, capsys.readouterr().err
        assert values(there) == values(open_storage(alone.out))
        assert verify_cube(there) == []
        # The plan knows where both scenes are: a repair needs to be told nothing.
        key = next(key for key in there.walk() if key.startswith("reflectance/c/"))
        before = there.get(key)
        there.put(key, b"damaged")
        assert cli.main(["verify", CUBE]) == 1
        assert cli.main(["verify", CUBE, "--repair"]) == 0, capsys.readouterr().err
    assert there.get(key) == before


def test_workers_make_the_cube_that_one_process_makes(alone: FuseSettings, tmp_path: Path) -> None:
    settings = replace(alone, out=str(tmp_path / "cube.zarr"), workers=2)
    _, result = run_fusion(settings)
    assert (result.blocks_done, result.blocks_failed) == (2, 0)
    assert checksums(settings.out) == checksums(alone.out)
    assert verify_cube(open_storage(settings.out)) == []


def test_a_cluster_makes_it_in_a_bucket(alone: FuseSettings, object_server) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None,
                      protocol="tcp://", worker_dashboard_address=None) as cluster:  # fmt: skip
        settings = replace(alone, out="s3://bucket/cluster/cube.zarr", dask_address=cluster.scheduler_address)
        _, result = run_fusion(settings)
    assert (result.blocks_done, result.blocks_failed) == (2, 0)
    assert checksums(settings.out) == checksums(alone.out)
