"""Shards in memory are the bytes that zarr reads in a store."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from spectile.catalog.counts import NODATA
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.cube.shards import Shard, encode_shard, read_bands, read_metadata, shard_key


@pytest.mark.parametrize(("row", "col"), [(0, 0), (1, 2)])
def test_a_shard_is_read_part_by_part_as_zarr_reads_it(whole: Cube, row: int, col: int) -> None:
    stored = zarr.open_group(whole.storage.root, mode="r")
    at = (slice(512 * row, 512 * (row + 1)), slice(512 * col, 512 * (col + 1)))
    for name, lead in (("reflectance", (6,)), ("valid", ())):
        key = shard_key(whole.arrays[name], row, col)
        metadata = read_metadata(whole.storage, f"{name}/zarr.json")
        shard = Shard(metadata, row, col, whole.storage.get(key) or b"")
        assert shard.lead == lead
        expected = stored[name][(..., *at)]  # type: ignore[index]
        parts = [shard.read(part) for part in shard.parts]
        assert {each.dtype for each in parts} == {shard.dtype} == {expected.dtype}
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_a_shard_at_the_corner_is_encoded_to_the_bytes_that_are_there(whole: Cube) -> None:
    metadata = read_metadata(whole.storage, "reflectance/zarr.json")
    values = zarr.open_group(whole.storage.root, mode="r")["reflectance"][:, 512:, 1024:]  # type: ignore[index]
    assert values.shape == (6, 88, 76)
    assert encode_shard(metadata, 1, 2, values) == whole.storage.get("reflectance/c/0/1/2")


def test_a_shard_without_a_valid_pixel_is_written_all_the_same(whole: Cube) -> None:
    metadata = read_metadata(whole.storage, "reflectance/zarr.json")
    value = encode_shard(metadata, 1, 2, np.full((6, 88, 76), NODATA, np.uint16))
    shard = Shard(metadata, 1, 2, value)
    assert shard.fill == NODATA
    assert (shard.read(shard.parts[0]) == NODATA).all()
    assert len(value) > 100


def test_metadata_that_are_not_there_are_named(whole: Cube) -> None:
    with pytest.raises(FileNotFoundError, match=r"metadata are missing.*nothing/zarr\.json"):
        read_metadata(whole.storage, "nothing/zarr.json")


@pytest.mark.parametrize("bands", [[0, 1, 2], [4], [5, 0, 3], [2, 2]])
def test_bands_are_read_in_the_order_asked_for(whole: Cube, bands: list[int]) -> None:
    array = zarr.open_group(whole.storage.root, mode="r")["reflectance"]
    at = (slice(500, 520), slice(30, 50))
    np.testing.assert_array_equal(read_bands(array, bands, at), array[(slice(None), *at)][bands])  # type: ignore[index]
