"""The store at a place."""

from __future__ import annotations

import pytest

from spectile.catalog.errors import UsageError
from spectile.pipeline.store.local import LocalStorage
from spectile.pipeline.store.opening import open_storage


def test_the_web_is_not_written_to():
    with pytest.raises(UsageError, match="not a place for cubes or catalogs"):
        open_storage("https://host/cube.zarr")


def test_a_path_is_a_folder_and_a_bucket_is_asked_nothing_yet(tmp_path):
    assert open_storage(tmp_path / "a.zarr") == LocalStorage(tmp_path / "a.zarr")
    assert open_storage(f"file://{tmp_path}/a.zarr") == LocalStorage(tmp_path / "a.zarr")
    assert str(open_storage("s3://no-such-bucket/a.zarr")) == "s3://no-such-bucket/a.zarr"
