"""What is laid out for a cube, to the byte."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from affine import Affine
from rasterio.crs import CRS

from spectile.catalog.bands import VNIR48, Bands
from spectile.pipeline.cube.layout import lay_out
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.cost import Workload
from spectile.pipeline.plan.layers import LAYERS
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.plan.quality_layers import DEFAULT
from spectile.pipeline.plan.quality_layers import QUALITY as ALL
from spectile.pipeline.plan.shares import Share
from tests.pipeline.cubes import BANDS
from tests.pipeline.fakes import NORTH_UP, UTM

CRS_WKT = CRS.from_epsg(32633).to_wkt()

QUALITY = tuple(layer for layer in ALL if layer != "hsi_consistency")  # which a pair alone has


def scene() -> Plan:
    """Of one scene, with every layer."""
    shape = (620, 700)
    grid = Grid(shape, NORTH_UP, CRS_WKT)
    return Plan(
        grid, grid.window, Tiling(shape), 512, 48, 4, LAYERS, {"scene": {"name": "a.tif"}}, (), QUALITY
    )


def line() -> Plan:
    """Of a flight line of two scenes."""
    shape = (620, 700)
    grid = Grid(shape, NORTH_UP, CRS_WKT)
    settings = {"line": {"combine": "feather", "resampling": "bilinear"}}
    scenes = (
        Share({"name": "a.tif"}, ((0, 0, 2),), ((0, 0, 2),)),
        Share({"name": "b.tif"}, ((1, 1, 2),), ((1, 0, 3),)),
    )
    return Plan(grid, grid.window, Tiling(shape), 512, 48, 1, (), settings, scenes, DEFAULT)


@pytest.mark.parametrize(
    ("plan", "digest"),
    [
        (scene(), "2e525261f1df94deb5af25f3eb9c0c3bc081ba6c138586b095608ddf587b0d63"),
        (line(), "176f66bdba6f560ba5c6f2341d11d6535c2af2f63d5510b1ff67715376f2e2d8"),
    ],
    ids=["scene", "line"],
)
def test_the_metadata_of_a_cube_are_what_they_were(plan: Plan, digest: str) -> None:
    found = {}
    for key, value in lay_out(plan, VNIR48).items():
        if not key.endswith(".json") or key.endswith("spatial_ref/zarr.json"):
            continue  # numbers; and how the library of projections writes a CRS
        metadata = json.loads(value.decode().replace(json.dumps(CRS_WKT)[1:-1], "CRS"))
        if "spectile" in metadata["attributes"]:
            own = metadata["attributes"]["spectile"]
            del own["version"], own["digest"]
        found[key] = metadata
    # In the order in which they are written.
    assert hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("crs", "y", "x"),
    [
        ("EPSG:32619", ("projection_y_coordinate", "m"), ("projection_x_coordinate", "m")),
        ("EPSG:2263", ("projection_y_coordinate", "0.304800609601219 m"),
         ("projection_x_coordinate", "0.304800609601219 m")),
        ("EPSG:2222", ("projection_y_coordinate", "0.3048 m"), ("projection_x_coordinate", "0.3048 m")),
        ("EPSG:4326", ("latitude", "degrees_north"), ("longitude", "degrees_east")),
        ("EPSG:4807", ("latitude", "0.0157079632679489 rad"), ("longitude", "0.0157079632679489 rad")),
        ("+proj=ob_tran +o_proj=longlat +o_lat_p=30 +lon_0=10", ("grid_latitude", "degrees"),
         ("grid_longitude", "degrees")),
        ('LOCAL_CS["site",UNIT["kilometre",1000]]', ("projection_y_coordinate", "1000 m"),
         ("projection_x_coordinate", "1000 m")),
    ],
)  # fmt: skip
def test_the_axes_have_the_names_and_units_of_their_crs(crs, y, x):
    wkt = CRS.from_user_input(crs).to_wkt()
    grid = Grid((20, 30), Affine(0.001, 0, 10, 0, -0.001, 40), wkt)
    objects = lay_out(Plan(grid, grid.window, Tiling(grid.shape), 512, len(BANDS)), BANDS)
    for axis, expected in (("y", y), ("x", x)):
        said = json.loads(objects[f"{axis}/zarr.json"])["attributes"]
        assert (said["standard_name"], said["units"]) == expected


@pytest.mark.parametrize(
    ("bands", "chunk", "shard"),
    [
        (6, 6, 6), (16, 16, 16), (17, 16, 32), (48, 16, 48), (102, 16, 112), (103, 16, 112), (191, 16, 192),
    ],
)  # fmt: skip
def test_chunks_are_of_16_bands_whatever_their_number(bands, chunk, shard):
    grid = Grid((600, 600), NORTH_UP, UTM)
    plan = Plan(grid, grid.window, Tiling(grid.shape), 512, bands, 2, ("sd",))
    objects = lay_out(plan, Bands.evenly_spaced(400, 2400, bands))
    for name in ("reflectance", "reflectance_sd", "overviews/2/reflectance"):
        metadata = json.loads(objects[f"{name}/zarr.json"])
        assert metadata["shape"][0] == bands
        assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [shard, 512, 512]
        assert metadata["codecs"][0]["configuration"]["chunk_shape"] == [chunk, 256, 256]
    # The bands that fill a shard up are written as chunks like the others, and so count as memory.
    full = Workload(replace(plan, bands=shard), 3).estimate().peak_memory_bytes
    sums = 512 * 512 * (shard - bands) * 4 * plan.samples
    assert full - Workload(plan, 3).estimate().peak_memory_bytes == sums
