"""Shards in memory are the bytes that zarr reads in a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from spectile.catalog.counts import NODATA
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.cube.shards import decode_shard, encode_shard, read_bands, read_metadata, shard_key


@pytest.mark.parametrize(("row", "col"), [(0, 0), (1, 2)])
@pytest.mark.parametrize("name", ["reflectance", "valid"])
def test_a_shard_is_decoded_as_zarr_reads_it(whole: Cube, name: str, row: int, col: int) -> None:
    stored = zarr.open_group(whole.storage.root, mode="r")
    expected = stored[name][..., 512 * row : 512 * (row + 1), 512 * col : 512 * (col + 1)]  # type: ignore[index]
    value = whole.storage.get(shard_key(whole.arrays[name], row, col)) or b""
    found = np.zeros_like(expected)
    for bands, values in decode_shard(read_metadata(whole.storage, f"{name}/zarr.json"), row, col, value):
        assert values.dtype == expected.dtype
        found[bands] = values
    np.testing.assert_array_equal(found, expected)


def test_bands_that_do_not_fill_a_chunk_and_chunks_that_are_missing_are_decoded(tmp_path: Path) -> None:
    # As zarr writes them itself, without those that hold nothing.
    compressor = zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(20, 700, 600), dtype="uint16", chunks=(16, 256, 256),
        shards=(32, 512, 512), compressors=compressor, fill_value=NODATA,
    )  # fmt: skip
    expected = np.full((20, 700, 600), NODATA, dtype=np.uint16)
    expected[:18, 520:690, 10:300] = np.random.default_rng(0).integers(0, 9000, (18, 170, 290))
    array[:] = expected
    metadata, value = ((tmp_path / "a.zarr" / key).read_bytes() for key in ("zarr.json", "c/0/1/0"))
    parts = list(decode_shard(metadata, 1, 0, value))
    assert [bands for bands, _ in parts] == [(slice(0, 16),), (slice(16, 20),)]
    np.testing.assert_array_equal(np.concatenate([values for _, values in parts]), expected[:, 512:, :512])


def test_a_shard_at_the_corner_is_encoded_to_the_bytes_that_are_there(whole: Cube) -> None:
    metadata = read_metadata(whole.storage, "reflectance/zarr.json")
    values = zarr.open_group(whole.storage.root, mode="r")["reflectance"][:, 512:, 1024:]  # type: ignore[index]
    assert values.shape == (6, 88, 76)
    assert encode_shard(metadata, 1, 2, values) == whole.storage.get("reflectance/c/0/1/2")


def test_a_shard_without_a_valid_pixel_is_written_all_the_same(whole: Cube) -> None:
    metadata = read_metadata(whole.storage, "reflectance/zarr.json")
    value = encode_shard(metadata, 1, 2, np.full((6, 88, 76), NODATA, np.uint16))
    ((_, values),) = decode_shard(metadata, 1, 2, value)
    assert (values == NODATA).all()
    assert len(value) > 100


def test_metadata_that_are_not_there_are_named(whole: Cube) -> None:
    with pytest.raises(FileNotFoundError, match=r"metadata are missing.*nothing/zarr\.json"):
        read_metadata(whole.storage, "nothing/zarr.json")


@pytest.mark.parametrize("bands", [[0, 1, 2], [4], [5, 0, 3], [2, 2]])
def test_bands_are_read_in_the_order_asked_for(whole: Cube, bands: list[int]) -> None:
    array = zarr.open_group(whole.storage.root, mode="r")["reflectance"]
    at = (slice(500, 520), slice(30, 50))
    np.testing.assert_array_equal(read_bands(array, bands, at), array[(slice(None), *at)][bands])  # type: ignore[index]
