"""Scenes with more than red, green and blue, from the files to the cube."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio

from spectile.catalog.bands import VNIR48
from spectile.catalog.errors import CubeError, SceneError, UsageError
from spectile.flows.console.describe import describe_cube
from spectile.flows.console.plan_map import channel_pairs, map_plans
from spectile.flows.run import planning, predictors
from spectile.flows.run.execute import run_scene
from spectile.flows.run.line import prepare_line
from spectile.flows.run.planning import prepare
from spectile.flows.run.repair import repair_cube
from spectile.flows.run.settings import LineSettings, SceneSettings
from spectile.pipeline.block.predict import BandsRepeat
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.scene.products import numbers_of, write_jp2, write_safe

TEN = "bands-repeat:sentinel2:B02,B03,B04,B05,B06,B07,B08,B8A,B11,B12"


def spectrum_of(values: list[float], sensor: str) -> np.ndarray:
    """What bands-repeat makes of a pixel."""
    centre = np.array(BandsRepeat(sensor=sensor).inputs[0].bands.centre_nm)
    order = np.argsort(centre)
    return np.interp(VNIR48.centre_nm, centre[order], np.array(values)[order])


@pytest.mark.slow
def test_a_sentinel_2_product_becomes_a_cube_of_ten_bands(tmp_path):
    safe = write_safe(tmp_path, hole=30)
    settings = SceneSettings(scene=str(safe), out=str(tmp_path / "cube.zarr"), model=TEN, block=512)
    prepared, result = run_scene(settings)
    assert result.blocks_failed == 0
    assert verify_cube(open_storage(settings.out)) == []
    cube = open_cube(settings.out)
    assert cube.reflectance.shape == (48, 120, 120)
    assert np.isnan(cube.reflectance.values[:, :, :4]).all()
    # In the middle of a coarse pixel's ramp the interpolated numbers are those of the ramp.
    row, col = 60, 71
    seen = prepared.source.read(prepared.source.grid.window).values[:, row, col]
    assert seen[2] == pytest.approx((numbers_of("B04", 10)[row, col] - 1000) / 10_000)
    expected = spectrum_of(seen.tolist(), TEN.partition(":")[2])
    np.testing.assert_allclose(cube.reflectance.values[:, row, col], expected, atol=1e-4)
    facts = describe_cube(settings.out)
    assert "864.7 nm: band 9 (B8A, 864.7 nm)" in facts["channels"]
    assert prepared.plan.settings["channels"] == [2, 3, 4, 5, 6, 7, 8, 9, 11, 12]
    assert facts["scene"] == safe.name
    again, nothing = run_scene(replace(settings, resume=True))
    assert again.plan.digest == prepared.plan.digest
    assert nothing.megapixels == 0
    swapped = ("B03", "B02", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
    with pytest.raises(CubeError, match="channels"):
        run_scene(replace(settings, resume=True, bands=swapped))
    shard = next(path for path in (tmp_path / "cube.zarr/reflectance/c").rglob("0") if path.is_file())
    shard.write_bytes(b"broken")
    _, left = repair_cube(settings.out, [str(safe)])
    assert not left.problems
    np.testing.assert_array_equal(open_cube(settings.out).reflectance.values, cube.reflectance.values)


def test_a_flight_line_reads_the_bands_of_each_of_its_scenes(write_scene, tmp_path):
    numbers = np.random.default_rng(0).integers(1000, 4000, (4, 40, 50), dtype=np.uint16)
    shared = {"radiometry": ("dn:0,0.0001",), "model": "bands-repeat:rgbn", "block": 512}
    places = []
    for name, order in (("a.tif", [0, 1, 2, 3]), ("b.tif", [2, 1, 0, 3])):
        path = write_scene(numbers[order], name, photometric="MINISBLACK")
        colours = np.array(["red", "green", "blue", "nir"])[order]
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = colours.tolist()
        places.append(str(path))
    line = LineSettings(scenes=tuple(places), out=str(tmp_path / "line.zarr"), **shared)
    source = prepare_line(line).source
    values, valid = source.read(source.grid.window)
    np.testing.assert_allclose(values[:, valid], numbers[:, valid] * 1e-4, rtol=1e-5)
    assert source.feeds == (
        "a.tif: red (635 nm): band 1 (red), green (555 nm): band 2 (green), blue (465 nm): band 3 (blue), "
        "nir (845 nm): band 4 (nir)",
        "b.tif: red (635 nm): band 3 (red), green (555 nm): band 2 (green), blue (465 nm): band 1 (blue), "
        "nir (845 nm): band 4 (nir)",
    )
    with pytest.raises(SceneError, match="--bands must name one band for each channel"):
        prepare_line(replace(line, bands=(1, 2, 3)))
    _, report = map_plans(
        [SceneSettings(scene=places[0], out="x", model="bands-repeat:rgbn", radiometry="dn:0,0.0001")]
    )
    assert channel_pairs(report)["channels"].startswith("red (635 nm): band 1 (red); green")
    with pytest.raises(UsageError, match="unknown sensor"):
        prepare(SceneSettings(scene=places[0], out="x", model="bands-repeat:spot"))


def test_the_plan_knows_which_bands_the_numbers_of_a_folder_count(tmp_path, make_scene):
    folder = tmp_path / "bands"
    for band in ("B2", "B3", "B4", "B5"):
        write_jp2(folder / f"x_{band}.tif", numbers_of("B02", 30), 30, driver="GTiff")
    shared = {"radiometry": "dn:0,0.0001", "block": 512}
    model = {"model": "bands-repeat:rgbn", "sensor": "landsat8"}
    out = str(tmp_path / "x.zarr")
    settings = SceneSettings(scene=str(folder), out=out, **model, **shared)
    facts = prepare(settings).plan.settings
    assert (facts["channels"], facts["sensor"]) == ([3, 2, 1, 4], "landsat8")
    other = prepare(replace(settings, bands=("B5", "B3", "B2", "B4"))).plan
    assert other.settings["channels"] == [4, 2, 1, 3]
    one = SceneSettings(scene=str(make_scene(dtype="uint16")), out=out, model="bands-repeat", **shared)
    assert prepare(one).plan.digest == prepare(replace(one, sensor="rgb")).plan.digest
    assert prepare(one).plan.digest != prepare(replace(one, bands=(3, 2, 1))).plan.digest


def test_a_model_of_several_rasters_is_refused_by_name(make_scene, tmp_path, monkeypatch):
    class Two(BandsRepeat):
        inputs = BandsRepeat().inputs * 2

    monkeypatch.setattr(predictors, "predictor_of", lambda settings: Two())
    settings = SceneSettings(scene=str(make_scene()), out=str(tmp_path / "x.zarr"), model="bands-repeat")
    with pytest.raises(UsageError, match="takes several rasters"):
        planning.prepare(settings)


@pytest.mark.data
@pytest.mark.slow
def test_a_real_scene_of_four_bands_becomes_a_cube(data_dir, tmp_path):
    path = data_dir / "berlin_urban_gradient/enmapboxtestdata/HighResolution_BerlinUrbanGradient.bsq"
    settings = SceneSettings(
        scene=str(path), out=str(tmp_path / "cube.zarr"), model="bands-repeat:rgbn", radiometry="dn:0,0.0001"
    )
    prepared, result = run_scene(settings)
    assert result.blocks_failed == 0
    assert prepared.plan.settings["channels"] == [3, 2, 1, 4]
    cube = open_cube(settings.out)
    seen, valid = prepared.source.read(prepared.source.grid.window)
    row, col = np.argwhere(valid)[valid.sum() // 2]
    expected = spectrum_of(seen[:, row, col].tolist(), "rgbn")
    np.testing.assert_allclose(cube.reflectance.values[:, row, col], expected, atol=1e-4)
