"""What a report measures is what the cube holds."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube.attempts import note_failure
from spectile.pipeline.cube.record import Cube, open_cube
from spectile.pipeline.cube.write import write_block
from spectile.pipeline.product import report_measures
from spectile.pipeline.product.points import POINTS
from spectile.pipeline.product.report import gather
from spectile.pipeline.product.report_measures import (
    Agreement,
    agreement,
    flag_shares,
    seam_figures,
    statistics,
    timing,
)
from spectile.pipeline.product.view import open_view
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.cubes import content


def test_points_are_spread_valid_pixels_with_the_cubes_own_spectra(layered, facts):
    found, valid = open_cube(layered.storage.root), content(layered.plan.window).valid
    assert len(facts.points) == POINTS
    for point in facts.points:
        assert valid[point.row, point.col]
        there = found.isel(y=point.row, x=point.col)
        np.testing.assert_allclose(point.spectrum.reflectance, there.reflectance, atol=1e-6)
        low, high = point.spectrum.interval
        np.testing.assert_allclose(low, there.reflectance_q05, atol=1e-6)
        np.testing.assert_allclose(high, there.reflectance_q95, atol=1e-6)
        x, y = layered.plan.grid.transform @ (point.col + 0.5, point.row + 0.5)
        assert point.place[:2] == pytest.approx((x, y))
    places = np.array([(point.row, point.col) for point in facts.points], dtype=float)
    apart = np.linalg.norm(places[:, None] - places, axis=2)[~np.eye(len(places), dtype=bool)]
    assert apart.min() > 150
    assert gather(layered.storage).points[0].row == facts.points[0].row


def test_statistics_are_those_of_a_cube_that_is_read_whole(layered, facts):
    values, found = open_cube(layered.storage.root).reflectance.values.reshape(6, -1), facts.statistics
    assert found.pixels == np.isfinite(values[0]).sum()
    np.testing.assert_allclose(found.mean, np.nanmean(values, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.sd, np.nanstd(values, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.low, np.nanmin(values, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.high, np.nanmax(values, axis=1), atol=1e-6)


def test_seams_are_told_from_none(layered, tmp_path, monkeypatch):
    view, plan = open_view(layered.storage), layered.plan
    rng = np.random.default_rng(0)

    def texture(view, at, valid):
        return noise[:, valid].copy()

    monkeypatch.setattr(report_measures, "_texture", texture)
    shape = (min(600, report_measures.SEAM_SIDE), min(1100, report_measures.SEAM_SIDE))
    noise = rng.normal(size=(4, *shape))
    assert seam_figures(view, plan).sd_ratio == pytest.approx(1.0, abs=0.02)
    from spectile.pipeline.geometry.grid import Window
    from spectile.pipeline.product.quality import near_borders

    # Around the border of cores of 192 px that is nearest to the middle, as far as the cube goes.
    at = Window(600 - shape[0], 3 * 192 - shape[1] // 2, *shape)
    noise[:, near_borders(plan.tiling, at)] *= 0.7
    found = seam_figures(view, plan)
    assert found.sd_ratio == pytest.approx(0.7, abs=0.02)
    inside = found.distance > plan.tiling.halo
    assert found.sd[inside].min() > found.sd[~inside].max()


def test_the_time_is_that_of_the_ledger_with_blocks_that_were_given_up(layered, tmp_path):
    cube = Cube(open_storage(shutil.copytree(layered.storage.root, tmp_path / "cube.zarr")), layered.plan)
    first, last = cube.plan.blocks[0], cube.plan.blocks[-1]
    for _ in range(2):
        note_failure(cube, last, "no memory")
    marker = write_block(cube, first, content(first.window, 4), seconds=2.5)
    told = timing(cube)
    assert told.given_up == {last.name: 2}
    assert told.pixels == 600 * 1100
    assert told.seconds[0] == 2.5
    assert told.tiles == 9 * len(cube.plan.blocks) == marker.tiles * len(told.seconds)


def test_agreement_is_told_by_its_quantiles():
    assert Agreement(np.arange(101, dtype=np.float32)).quantiles == (50.0, 95.0, 99.0)


def test_a_cube_without_quality_layers_has_neither_flags_nor_agreement(layered):
    view = open_view(layered.storage)
    assert flag_shares(view) == {}
    assert agreement(view, view.levels[0]) is None


def test_statistics_that_are_damaged_are_one_line(layered, tmp_path):
    storage = open_storage(shutil.copytree(layered.storage.root, tmp_path / "cube.zarr"))
    root = json.loads(storage.get("zarr.json"))
    del root["consolidated_metadata"]["metadata"]["reflectance"]["attributes"]["statistics"]["stddev"]
    storage.put("zarr.json", json.dumps(root).encode())
    with pytest.raises(CubeError, match=r"metadata are damaged.*stddev"):
        statistics(open_view(storage))
