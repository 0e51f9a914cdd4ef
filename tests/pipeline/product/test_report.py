"""The report of a cube: true to it, whole in one file, bounded, and silent about the machine."""

from __future__ import annotations

import tracemalloc

import pytest

from spectile.catalog.errors import CubeError
from spectile.pipeline.product.report import gather, report_name, write_report
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.cubes import make


def test_the_same_report_stands_beside_the_cube_or_where_it_is_wanted(layered, page, tmp_path):
    beside = layered.storage.root.parent / report_name(layered.storage.name)
    assert write_report(layered.storage) == str(beside)
    other = tmp_path / "other.html"
    assert write_report(layered.storage, open_storage(other)) == str(other)
    assert beside.name == "cube.report.html"
    assert beside.read_bytes() == other.read_bytes() == page.encode()


def test_an_unfinished_cube_has_no_report(tmp_path):
    with pytest.raises(CubeError, match="not finished"):
        gather(make(tmp_path, finished=False).storage)


def test_less_is_held_than_the_cube_holds(tmp_path):
    cube = make(tmp_path, shape=(1500, 1500))
    decoded = 1500 * 1500 * 6 * 4
    tracemalloc.start()
    try:
        gather(cube.storage)
        assert tracemalloc.get_traced_memory()[1] < decoded
    finally:
        tracemalloc.stop()
