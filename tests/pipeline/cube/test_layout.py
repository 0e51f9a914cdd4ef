"""What is laid out for a cube, to the byte."""

from __future__ import annotations

import hashlib
import json

import pytest
from rasterio.crs import CRS

from spectile.catalog.bands import VNIR48
from spectile.pipeline.cube.layout import lay_out
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.layers import LAYERS
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.plan.quality_layers import DEFAULT, QUALITY
from spectile.pipeline.plan.shares import Share
from tests.pipeline.fakes import NORTH_UP

UTM = CRS.from_epsg(32633).to_wkt()


def scene() -> Plan:
    """Of one scene, with every layer."""
    shape = (620, 700)
    grid = Grid(shape, NORTH_UP, UTM)
    return Plan(
        grid, grid.window, Tiling(shape), 512, 48, 4, LAYERS, {"scene": {"name": "a.tif"}}, (), QUALITY
    )


def line() -> Plan:
    """Of a flight line of two scenes."""
    shape = (620, 700)
    grid = Grid(shape, NORTH_UP, UTM)
    settings = {"line": {"combine": "feather", "resampling": "bilinear"}}
    scenes = (
        Share({"name": "a.tif"}, ((0, 0, 2),), ((0, 0, 2),)),
        Share({"name": "b.tif"}, ((1, 1, 2),), ((1, 0, 3),)),
    )
    return Plan(grid, grid.window, Tiling(shape), 512, 48, 1, (), settings, scenes, DEFAULT)


@pytest.mark.parametrize(
    ("plan", "digest"),
    [
        (scene(), "8fd7280d7fdf4c3b47d7c250251b9b5595ad93bd9aa0b62e37d141224cea62bb"),
        (line(), "9d9672231832f8707349936c73be515ec136a4da0ba8906dd92494c2aca0958e"),
    ],
    ids=["scene", "line"],
)
def test_the_metadata_of_a_cube_are_what_they_were(plan: Plan, digest: str) -> None:
    found = {}
    for key, value in lay_out(plan, VNIR48).items():
        if not key.endswith(".json") or key.endswith("spatial_ref/zarr.json"):
            continue  # numbers; and how the library of projections writes a CRS
        metadata = json.loads(value.decode().replace(json.dumps(UTM)[1:-1], "CRS"))
        if "spectile" in metadata["attributes"]:
            own = metadata["attributes"]["spectile"]
            del own["version"], own["digest"]
        found[key] = metadata
    # In the order in which they are written.
    assert hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest() == digest
