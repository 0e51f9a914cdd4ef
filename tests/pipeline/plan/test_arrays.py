"""The table of a cube's arrays, for every kind of plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from spectile.catalog.counts import NODATA
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.arrays import (
    BLOCK_ARRAYS,
    CHUNK_BANDS,
    array_attributes,
    block_arrays,
    cube_arrays,
    spectral_depths,
)
from spectile.pipeline.plan.layers import LAYERS
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.plan.quality_layers import QUALITY
from spectile.pipeline.plan.shares import Share
from tests.pipeline.cubes import ROTATED
from tests.pipeline.fakes import NORTH_UP, UTM


def _plan(transform: Affine = NORTH_UP) -> Plan:
    grid = Grid((600, 700), transform, UTM)
    return Plan(grid, grid.window, Tiling(grid.shape), 512, 48)


SHARE = Share({"name": "a"}, ((0, 0, 2),), ((0, 0, 2),))
FULL = replace(_plan(), settings={"pair": {}}, samples=4, layers=LAYERS, quality=QUALITY, scenes=(SHARE,))


@given(st.integers(1, 4096))
def test_a_shard_is_whole_chunks_that_hold_all_bands_and_not_one_more(bands: int) -> None:
    chunk, shard = spectral_depths(bands)
    assert 1 <= chunk <= CHUNK_BANDS
    assert shard % chunk == 0
    assert bands <= shard < bands + chunk


def test_a_cube_has_the_arrays_of_its_layers_and_scenes_and_no_other() -> None:
    assert set(block_arrays(_plan())) == {"reflectance", "valid"}
    assert set(block_arrays(FULL)) == set(BLOCK_ARRAYS)


def test_a_rotated_cube_has_no_axes() -> None:
    assert cube_arrays(_plan()).keys() - cube_arrays(_plan(ROTATED)).keys() == {"x", "y"}


def test_spectra_have_bands_and_maps_have_none() -> None:
    arrays = cube_arrays(FULL)
    spectral = {name for name, spec in arrays.items() if spec.is_spectral}
    assert spectral == {"reflectance", "reflectance_sd", "reflectance_q05", "reflectance_q95"}
    assert arrays["reflectance_sd"].layout(48, (300, 350)).shape == (48, 300, 350)
    assert arrays["quality"].layout(48, (300, 350)).shape == (300, 350)
    assert arrays["wavelength"].layout(48, (300, 350)).shards is None
    assert (arrays["reflectance"].pixel_bytes(48), arrays["quality"].pixel_bytes(48)) == (96, 1)


@pytest.mark.parametrize("name", block_arrays(FULL))
def test_an_array_of_reflectance_says_what_its_counts_mean_and_others_do_not(name: str) -> None:
    spec = block_arrays(FULL)[name]
    attributes = array_attributes(spec, FULL)
    assert attributes["long_name"]
    assert attributes["grid_mapping"] == "spatial_ref"
    counts = name.startswith("reflectance") or name.endswith(("_consistency", "_disagreement"))
    assert (attributes.get("_FillValue") == NODATA == spec.fill) is counts
    assert ("scale_factor" in attributes) is counts
    assert ("flag_meanings" in attributes) is (name in ("valid", "quality"))
