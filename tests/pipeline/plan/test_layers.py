from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
import zarr

from spectile.catalog.calibration import Calibration
from spectile.catalog.counts import NODATA
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Raster
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.record import finished_blocks, open_cube, shard_keys
from spectile.pipeline.cube.write import create_cube, write_block
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling, reflected
from spectile.pipeline.plan.layers import LAYERS, array_name, choose_layers
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.fakes import NORTH_UP, SIX, UTM, Positional, made

# Of 0.1, 0.2, 0.3 and 0.6 the mean is 0.3 and the sum of squares about it 0.14.
DRAWN = np.array([0.1, 0.2, 0.3, 0.6])
S = np.sqrt(0.14 / 3)
FITTED = Calibration(
    16, spread=(1, 2, 3, 4, 0.5, 0.25), low=(-1, -2, -3, -0.1, 0.5, -9), high=(1, 2, 3, 4, 1, 99)
)


@dataclass
class Drawn(Positional):
    """A predictor whose k-th sample is the k-th value of DRAWN, in every band and pixel."""

    def predict(self, batch, samples):
        rgb = batch.rasters["rgb"].values
        for sample in samples:
            yield np.full((len(rgb), len(SIX), *rgb.shape[2:]), DRAWN[sample], np.float32)


class Noise:
    """An endless scene in memory, valid but for a corner."""

    def read(self, window):
        rng = np.random.default_rng(5)
        rgb, valid = rng.random((3, 700, 600), np.float32), np.ones((700, 600), bool)
        valid[:40, :60] = False
        rows = reflected(window.row, window.row_stop, 700)[:, None]
        cols = reflected(window.col, window.col_stop, 600)
        return Raster(rgb[:, rows, cols], valid[rows, cols])


def make(root, predictor, *, samples=4, layers=LAYERS, block=512, shape=(700, 600)):
    grid = Grid(shape, NORTH_UP, UTM)
    plan = Plan(grid, grid.window, Tiling(shape), block, len(SIX), samples, layers, {"seed": 0})
    cube = create_cube(open_storage(root), plan, SIX, calibration=predictor.calibration)
    for each in plan.blocks:
        mosaic = made(each, source=Noise(), tiling=plan.tiling, predictor=predictor, samples=samples)
        write_block(cube, each, mosaic)
    finalise(cube, attributes={})
    return cube


@pytest.mark.parametrize(
    ("wanted", "samples", "expected"),
    [
        (None, 1, ()),
        (None, 2, ("sd",)),
        ((), 8, ()),
        (("sd",), 2, ("sd",)),
        (("q95", "sd", "q95"), 4, ("sd", "q95")),
        (["q05"], 4, ("q05",)),
    ],
)
def test_layers_are_chosen_in_one_order_and_sd_by_default(wanted, samples, expected):
    assert choose_layers(wanted, samples) == expected


@pytest.mark.parametrize(
    ("wanted", "samples", "told"),
    [
        (("sd",), 1, r"the layer sd takes 2 samples or more .*--layers sd --samples 1"),
        (("q05", "q95"), 1, r"quantile layers take 4 samples"),
        (("sd", "q95"), 3, r"quantile layers take 4 samples .*use --samples 4 or more"),
        (("sd", "median"), 8, r"unknown layer 'median' .*expected sd,q05,q95"),
        (("",), 8, r"unknown layer ''"),
    ],
)
def test_layers_that_cannot_be_taken_are_one_clear_line(wanted, samples, told):
    with pytest.raises(UsageError, match=told) as caught:
        choose_layers(wanted, samples)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("calibration", [None, FITTED])
def test_the_layers_hold_mean_spread_and_quantiles_of_known_samples(tmp_path, calibration):
    cube = make(tmp_path / "cube.zarr", Drawn(calibration=calibration))
    found, valid = open_cube(cube.storage.root), Noise().read(cube.plan.window)[1]
    spread, low, high = (
        (FITTED.spread, FITTED.low, FITTED.high) if calibration else ([1.0] * 6, [-1.6449] * 6, [1.6449] * 6)
    )
    expected = {
        "reflectance": np.full(6, 0.3),
        "reflectance_sd": np.array(spread) * S,
        "reflectance_q05": 0.3 + np.array(low) * S,
        "reflectance_q95": 0.3 + np.array(high) * S,
    }
    assert sorted(found.data_vars) == sorted([*expected, "valid"])
    for name, values in expected.items():
        assert np.isnan(found[name].values[:, ~valid]).all()
        stored = found[name].values[:, valid]
        # Half a count, and the rounding of float32. What no count holds is at the end of the range.
        assert np.abs(stored - np.clip(values, 0, 6.5534)[:, None]).max() < 0.51e-4, name
    assert found.reflectance_q95.values[5, -1, -1] == pytest.approx(
        6.5534 if calibration else 0.655, abs=1e-3
    )


def test_the_size_of_the_blocks_changes_no_layer(tmp_path):
    predictor = Positional(leak=0.3, calibration=FITTED)
    cubes = [make(tmp_path / f"{block}.zarr", predictor, block=block) for block in (512, 1024)]
    assert len({cube.plan.digest for cube in cubes}) == 1
    groups = [zarr.open_group(cube.storage.root, mode="r") for cube in cubes]
    for layer in map(array_name, LAYERS):
        first, second = (group[layer][:] for group in groups)
        np.testing.assert_array_equal(first, second)
        assert len(np.unique(first)) > 100


@pytest.mark.parametrize("calibration", [None, FITTED])
def test_the_attributes_say_what_a_layer_is(tmp_path, calibration):
    root = make(tmp_path / "cube.zarr", Drawn(calibration=calibration), layers=("sd", "q95")).storage.root
    raw = xr.open_zarr(root, mask_and_scale=False)
    assert raw.reflectance.attrs["ancillary_variables"] == "reflectance_sd reflectance_q95"
    assert raw.reflectance_sd.attrs["cell_methods"] == "realization: standard_deviation"
    assert "95 % quantile" in raw.reflectance_q95.attrs["long_name"]
    for layer in (raw.reflectance_sd, raw.reflectance_q95):
        said = layer.attrs
        assert (said["scale_factor"], said["_FillValue"], said["units"]) == (1e-4, NODATA, "1")
        assert said["valid_range"] == [0, NODATA - 1]
        assert said["grid_mapping"] == "spatial_ref"
        assert said["samples"] == 4
        assert said["calibrated"] is (calibration is not None)
        assert said.get("calibration_samples") == (16 if calibration else None)
        assert ("promise nothing elsewhere" in said["comment"]) == bool(calibration)
    # The range is that of the counts, which open_cube decodes.
    assert "valid_range" not in open_cube(root).reflectance_sd.attrs


def test_a_block_is_done_when_all_of_its_layers_are(tmp_path):
    cube = make(tmp_path / "cube.zarr", Drawn())
    (block, *_) = cube.plan.blocks
    assert {key.partition("/")[0] for key in shard_keys(cube, block)} == {
        "reflectance", "reflectance_sd", "reflectance_q05", "reflectance_q95", "valid"
    }  # fmt: skip
    assert set(finished_blocks(cube)) == set(cube.plan.blocks)
