"""Only arrays that are what the plan says are opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube.arrays import open_arrays, readable, reading_metadata
from spectile.pipeline.cube.record import Cube


def test_the_arrays_of_every_level_are_opened(whole: Cube) -> None:
    group = open_arrays(whole.storage, whole.plan, consolidated=True, levels=whole.plan.levels)
    assert group["reflectance"].shape == (6, 600, 1100)
    assert group["overviews/2/reflectance"].shape == (6, 300, 550)


def _codecs(metadata: dict[str, Any]) -> None:
    metadata["codecs"][0]["configuration"]["codecs"][-1] = {"name": "gzip", "configuration": {"level": 5}}


def _chunks(metadata: dict[str, Any]) -> None:
    metadata["codecs"][0]["configuration"]["chunk_shape"] = [6, 512, 512]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda metadata: metadata.update(shape=[6, 600, 10**9]), r"not the plan's.*got shape .*1000000000"),
        (
            lambda metadata: metadata.update(data_type="uint8", fill_value=0),
            r"not the plan's.*got dtype uint8",
        ),
        (_chunks, r"not the plan's.*got chunks"),
        (
            lambda metadata: metadata["attributes"].update(scale_factor=1.0),
            "scale, offset or fill value is not the plan's",
        ),
        (_codecs, r"a codec that cubes do not use.*got gzip"),
        (
            lambda metadata: metadata.update(zarr_format=2),
            "metadata are damaged|not an array",
        ),
        (lambda metadata: metadata.pop("codecs"), "cube's metadata are damaged"),
    ],
)
def test_an_array_that_is_another_is_refused(
    cube: Cube, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    metadata = json.loads(cube.storage.get("reflectance/zarr.json") or b"")
    change(metadata)
    cube.storage.put("reflectance/zarr.json", json.dumps(metadata).encode())
    with pytest.raises(CubeError, match=told) as caught:
        open_arrays(cube.storage, cube.plan, consolidated=False)
    assert "\n" not in str(caught.value)


def test_an_array_that_is_missing_is_damage(cube: Cube) -> None:
    cube.storage.delete("valid/zarr.json")
    with pytest.raises(CubeError, match=r"KeyError: 'valid'.*verify --repair"):
        open_arrays(cube.storage, cube.plan, consolidated=False)


def test_damage_is_told_in_a_line_and_our_own_errors_are_not_touched() -> None:
    for reading in (reading_metadata, readable):
        with pytest.raises(CubeError, match=r"ValueError: of a codec") as caught, reading("a.zarr"):
            raise ValueError("of a codec" + "." * 1000)
        assert len(str(caught.value)) < 400
        with pytest.raises(CubeError, match=r"^ours$"), reading("a.zarr"):
            raise CubeError("ours")
        with pytest.raises(KeyboardInterrupt), reading("a.zarr"):
            raise KeyboardInterrupt
