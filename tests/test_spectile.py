"""What notebooks import, and the examples of its pages, run as they stand."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio

import spectile
from spectile.catalog.errors import SceneError, UsageError
from spectile.flows.run import execute
from spectile.flows.run.execute import run_scene
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.scene.source import open_source
from spectile.pipeline.simulate.scene import Simulator

ROOT = Path(__file__).parents[1]
FAST = {"model": "bands-repeat", "block": 512}


@pytest.fixture
def scene(tmp_path) -> Path:
    """A simulated scene of 32 by 36 m where the examples of the pages are; NaN at its border."""
    path = tmp_path / "scene.tif"
    place = {"crs": "EPSG:32619", "origin": (320_255.0, 4_881_575.0)}
    Simulator(seed=2_900_002, shape=(72, 64), **place).write_rgb(path, kind="float", nodata_border=2)
    return path


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Drawing quicklook and report takes longer than all else."""
    monkeypatch.setattr(execute, "write_quicklook", lambda storage: "")
    monkeypatch.setattr(execute, "write_report", lambda storage, **_: "")


def refuse_to_compute(graph, keys, **options):
    raise AssertionError("something was computed")


@pytest.mark.usefixtures("undrawn")
def test_a_run_makes_the_cube_that_the_command_makes_and_opens_it(scene, tmp_path):
    cube = spectile.run(scene, tmp_path / "cube.zarr", **FAST, samples=2)
    run_scene(SceneSettings(scene=str(scene), out=str(tmp_path / "other.zarr"), **FAST, samples=2))
    other = spectile.open_cube(str(tmp_path / "other.zarr"))
    with dask.config.set(scheduler=refuse_to_compute):
        index = other.spectile.index("ndvi")
    assert cube.attrs["spectile"]["digest"] == other.attrs["spectile"]["digest"]
    with rasterio.open(scene) as dataset:
        for found in (other.reflectance, other.reflectance_sd, index):
            assert found.dtype == np.float32
            assert found.chunks is not None
            assert found.rio.crs == dataset.crs
            assert found.rio.transform() == dataset.transform
            assert found.encoding["grid_mapping"] == "spatial_ref"
    np.testing.assert_array_equal(cube.reflectance.values, other.reflectance.values)
    np.testing.assert_array_equal(np.isnan(index.values), other.valid.values == 0)
    assert np.isfinite(index.values).sum() == 68 * 60


@pytest.mark.usefixtures("undrawn")
def test_a_cube_in_an_object_store_opens_and_reads_by_url(scene, tmp_path, object_server):
    cube = spectile.run(scene, "s3://bucket/out/cube.zarr", **FAST)
    spectrum = cube.spectile.spectrum(320_270, 4_881_560)
    assert np.isfinite(spectrum.values).all()
    assert spectile.open_cube("s3://bucket/out/cube.zarr").equals(cube)


def test_a_scene_opens_as_the_model_sees_it(scene, write_scene):
    source = open_source(scene)
    rgb = spectile.open_scene(scene)
    np.testing.assert_array_equal(rgb.values, source.read(source.grid.window)[0])
    assert rgb.dtype == np.float32
    assert rgb.chunks is not None
    assert rgb.rio.transform() == source.grid.transform
    numbers = write_scene(np.full((3, 4, 5), 1500, np.uint16))
    with pytest.raises(SceneError, match="--radiometry"):
        spectile.open_scene(numbers)
    found = spectile.open_scene(numbers, radiometry="dn:500,0.0001", bands=(3, 2, 1), nodata="any")
    assert found.values == pytest.approx(np.full((3, 4, 5), 0.1))


@pytest.mark.usefixtures("undrawn")
def test_what_goes_wrong_is_a_spectile_error(scene, tmp_path):
    out = tmp_path / "cube.zarr"
    with pytest.raises(
        UsageError, match=r"unknown setting \(got radiometrie, expected out, model, steps, .*overwrite"
    ):
        spectile.run(scene, out, radiometrie="display")
    with pytest.raises(
        spectile.SpectileError, match=r"invalid setting samples \(got 0, expected greater than or equal to 1"
    ):
        spectile.run(scene, out, **FAST, samples=0)
    with pytest.raises(UsageError, match=r"invalid setting nodata \(got 'some', expected .*'all' or 'any'\)"):
        spectile.run(scene, out, **FAST, nodata="some")
    with pytest.raises(UsageError, match=r"invalid setting region"):
        spectile.run(scene, out, **FAST, region=(1, 2))
    with pytest.raises(UsageError, match=r"invalid setting region \(got \(2, 0, 1, 1\), .*it is empty\)"):
        spectile.run(scene, out, **FAST, region=(2, 0, 1, 1))
    with pytest.raises(UsageError, match="unknown nodata rule"):
        spectile.open_scene(scene, nodata="some")
    assert not out.exists()
    with pytest.raises(spectile.SpectileError, match="no such store"):
        spectile.open_cube(out)
    spectile.run(scene, out, **FAST)
    with pytest.raises(spectile.SpectileError, match="the output exists"):
        spectile.run(scene, out, **FAST)
    assert spectile.run(scene, out, **FAST, resume=True).sizes["wavelength"] == 48


@pytest.mark.usefixtures("undrawn")
def test_a_run_whose_blocks_fail_says_so_and_can_go_on(scene, tmp_path, monkeypatch):
    def unfinished(settings):
        prepared, result = run_scene(settings)
        return prepared, replace(result, failures=("block r0c0: no",), blocks_failed=1, blocks_done=0)

    monkeypatch.setattr(execute, "run_scene", unfinished)
    with pytest.raises(spectile.SpectileError, match=r"1 of 1 blocks failed: block r0c0: no; .*resume=True"):
        spectile.run(scene, tmp_path / "cube.zarr", **FAST)


def examples(page: str, folder: Path) -> Path:
    """The Python of a page as one script."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    script = folder / f"{Path(page).stem}.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    return script


@pytest.mark.usefixtures("scene")
@pytest.mark.filterwarnings("ignore:the cube does not cover the sensor's bands")
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_examples_of_the_pages_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = spectile.run
    # The network would take most of the time of all tests; the layers that samples bring are there.
    monkeypatch.setattr(spectile, "run", lambda scene, out, **given: real(scene, out, **{**given, **FAST}))
    runpy.run_path(str(examples(page, tmp_path)))


@pytest.mark.slow
def test_the_tutorial_runs_with_the_shipped_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(examples("docs/tutorial.md", tmp_path)))
    ndvi = found["ndvi"]
    with rasterio.open("ndvi.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), ndvi.values)
        assert dataset.crs == ndvi.rio.crs
        assert dataset.transform == ndvi.rio.transform()
    assert Path("ndvi.png").stat().st_size > 1000
    # Vegetation and what is none are told apart, if not exactly.
    assert np.corrcoef(ndvi.values.ravel(), found["truth"].ravel())[0, 1] > 0.7

    # What the page says, in its own precision: samples round differently from processor to processor.
    page = " ".join(Path(ROOT, "docs/tutorial.md").read_text().replace("−", "-").split())
    (numbers,) = re.findall(
        r"RMSE of ([\d.]+) and a bias of ([+-][\d.]+), on an index whose truth here goes from (-[\d.]+) to "
        r"([\d.]+)\. (\d+) % of the scene is above 0\.5\. `mask` left (\d+) % of the scene out",
        page,
    )
    rmse, bias, low, high, green, left_out = map(float, numbers)
    truth, error = found["truth"], found["error"]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(rmse, abs=0.02)
    assert error.mean() == pytest.approx(bias, abs=0.02)
    assert (truth.min(), truth.max()) == (pytest.approx(low, abs=0.1), pytest.approx(high, abs=0.1))
    assert 100 * found["green"] == pytest.approx(green, abs=3)
    assert 100 * float(found["sure"].isnull().mean()) == pytest.approx(left_out, abs=5)
