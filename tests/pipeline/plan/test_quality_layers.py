import json
import re
from dataclasses import replace

import numpy as np
import pytest
import zarr

from spectile.catalog.bands import RGB_CAMERA, VNIR48, Bands, good_bands, resampling_matrix
from spectile.catalog.counts import NODATA
from spectile.catalog.errors import UsageError
from spectile.pipeline.block.mosaic import Kept
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.layout import lay_out
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.reduce import reduce_flat
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.cube.write import create_cube
from spectile.pipeline.geometry.blend import tile_weights
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.tiling import Block, Tiling, blocks
from spectile.pipeline.plan.cost import Workload
from spectile.pipeline.plan.layers import choose_layers
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.plan.quality_layers import DEFAULT, FLAGS, Inspection, choose_quality
from spectile.pipeline.plan.quality_layers import QUALITY as ALL
from spectile.pipeline.product.report import gather
from spectile.pipeline.product.report_measures import flat
from spectile.pipeline.product.report_page import render
from spectile.pipeline.product.view import open_view
from spectile.pipeline.run import process_run
from spectile.pipeline.scene.source import open_source
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.block.test_mosaic import Held, scene
from tests.pipeline.fakes import NORTH_UP, SIX, UTM, Positional, made

QUALITY = tuple(layer for layer in ALL if layer != "hsi_consistency")  # which a pair alone has
TILING = Tiling((150, 210), 64, 8)


def evidence_of(held: Held, predictor, *, size=1000, samples=1, ceiling=None, batch=3, kept=None):
    """(flags, disagreement) of a whole scene, made in blocks of a size."""
    predictor = replace(predictor, batch=batch)
    flags = np.zeros(held.valid.shape, np.uint8)
    disagreement = np.zeros(held.valid.shape, np.float32)
    parts = list(blocks(Window(0, 0, *held.valid.shape), size))
    for block, then in zip(parts, [*parts[1:], None], strict=True):
        found = made(
            block, source=held, tiling=TILING, predictor=predictor, samples=samples, kept=kept,
            then=then and then.window, inspection=Inspection(QUALITY, ceiling),
        ).evidence  # fmt: skip
        flags[block.window.slices] = found.flags
        disagreement[block.window.slices] = found.disagreement
    return flags, disagreement


def test_flags_say_what_a_pixel_was_made_from():
    held = scene()
    np.minimum(held.rgb, 0.99, out=held.rgb)
    held.rgb[:, 100, 100] = [0.5, 1.6, 0.5]
    held.rgb[0, 101, 101] = 0.999
    held.rgb[:, 60, 90] = [2.0, 0.9999, 0.5]
    held.valid[60, 90] = False
    flags, _ = evidence_of(held, Positional(), ceiling=np.full(3, 0.999, np.float32))

    def having(name) -> set[tuple[int, int]]:
        return set(zip(*map(list, np.nonzero(flags & FLAGS[name])), strict=True))

    assert having("nodata") == {(60, 90)}
    assert flags[60, 90] == FLAGS["nodata"]
    assert having("extrapolating") == {(100, 100)}
    assert having("saturated") == {(100, 100), (101, 101)}
    padded, masked = (np.zeros(held.valid.shape, bool) for _ in range(2))
    for tile in TILING.tiles():
        at = tile.window.intersection(Window(0, 0, 150, 210)).slices
        padded[at] |= not Window(0, 0, 150, 210).contains(tile.window)
        masked[at] |= Window(60, 90, 1, 1).intersection(tile.window).size > 0
    np.testing.assert_array_equal(flags & FLAGS["padded"] > 0, padded & held.valid)
    np.testing.assert_array_equal(flags & FLAGS["masked_input"] > 0, masked & held.valid)
    assert 0 < masked.mean() < 0.3
    assert 0.2 < padded.mean() < 0.9


@pytest.mark.parametrize(("reach", "size"), [(0, 1000), (5, 1000), (5, 50)])
def test_only_pixels_from_which_the_network_looks_beyond_are_flagged(reach, size):
    held = scene()
    held.valid[60:62, 90] = False
    flags, _ = evidence_of(held, Positional(reach=reach), size=size)
    padded, masked = (np.zeros(held.valid.shape, bool) for _ in range(2))
    if reach:
        padded[...] = True
        padded[reach:-reach, reach:-reach] = False
        masked[60 - reach : 62 + reach, 90 - reach : 91 + reach] = held.valid[55:67, 85:96]
    np.testing.assert_array_equal(flags & FLAGS["padded"] > 0, padded & held.valid)
    np.testing.assert_array_equal(flags & FLAGS["masked_input"] > 0, masked)


def test_disagreement_is_the_rms_difference_of_the_tiles():
    held = scene()
    predictor = Positional(leak=0.5)  # tiles differ by half the difference of their mean colours
    _, found = evidence_of(held, predictor)
    tiles = list(TILING.tiles())
    expected = np.full(held.valid.shape, np.nan, np.float32)
    weight, blend = np.zeros((2, *held.valid.shape), np.float64)
    for tile in tiles:
        rgb, _ = held.read(tile.window)
        level = 0.5 * float(rgb.mean())  # what sets this tile apart in every band
        shared = tile.window.intersection(Window(0, 0, 150, 210))
        at = shared.slices
        met = weight[at] > 0
        apart = np.abs(level - blend[at] / np.where(met, weight[at], 1))
        expected[at] = np.where(met, np.fmax(expected[at], apart), expected[at])
        weights = tile_weights(TILING, tile, shared)
        weight[at] += weights
        blend[at] += weights * level
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.nanmax(found) > 1e-3
    _, same = evidence_of(held, Positional())
    assert np.nanmax(same) < 1e-6


@pytest.mark.parametrize(("size", "batch"), [(32, 1), (50, 2), (64, 8)])
def test_neither_block_nor_batch_nor_kept_tiles_change_the_evidence(size, batch):
    held = scene()
    held.valid[20:90, 30:130] = False
    predictor = Positional(leak=0.3)
    expected = evidence_of(held, predictor, samples=2)
    for kept in (None, Kept()):
        found = evidence_of(held, predictor, samples=2, size=size, batch=batch, kept=kept)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


class Quiet:
    def tiles(self, count):
        pass

    def done(self, block, marker, seconds):
        pass

    def failed(self, block, error):
        raise error


def run(write_scene, root, *, block=512, quality=QUALITY, predictor=None, shape=(600, 700)):
    values = np.random.default_rng(3).integers(1, 255, (3, *shape), dtype=np.uint8)
    values[:, 10:40, 20:60] = 0
    if min(shape) > 200:
        values[1, 200, 200] = 255
    path = write_scene(values, "scene.tif", nodata=0, photometric="RGB")
    source = open_source(str(path), radiometry="dn:0,0.002")
    predictor = predictor or Positional(leak=0.2)
    plan = Plan(
        source.grid, source.grid.window, Tiling(shape), block, len(predictor.bands), 1, (), {"seed": 0},
        quality=quality,
    )  # fmt: skip
    cube = create_cube(open_storage(root), plan, predictor.bands)
    process_run(cube, plan.blocks, sources={"rgb": source}, predictor=predictor, watch=Quiet())
    finalise(cube, attributes={})
    return cube, source


def test_quality_is_written_verified_and_in_the_overviews(write_scene, tmp_path):
    cube, source = run(write_scene, tmp_path / "a.zarr")
    assert verify_cube(cube.storage) == []
    stored = zarr.open_group(tmp_path / "a.zarr", mode="r")
    rgb, valid = source.read(source.grid.window)
    flags = stored["quality"][:]
    np.testing.assert_array_equal(flags & 1 == 0, valid)
    assert flags[200, 200] & FLAGS["saturated"]
    assert np.count_nonzero(flags & FLAGS["saturated"]) == 1
    assert stored["quality"].attrs["flag_masks"] == [1, 2, 4, 8, 16]
    assert stored["quality"].attrs["flag_meanings"].split() == [name for name in FLAGS if name != "changed"]
    for name in ("rgb_consistency", "overlap_disagreement"):
        assert (stored[name][:][~valid] == NODATA).all()
    with open_cube(tmp_path / "a.zarr") as found:
        matrix, supported = resampling_matrix(SIX, RGB_CAMERA)
        assert supported.all()
        seen = np.einsum("cb,byx->cyx", matrix, found.reflectance.values)
        expected = np.sqrt(np.mean((seen - rgb) ** 2, axis=0))
        # Half a count of rounding in either of the two.
        np.testing.assert_allclose(found.rgb_consistency.values[valid], expected[valid], atol=1.1e-4)
        assert found.overlap_disagreement.dtype == np.float32
        alone = np.isnan(found.overlap_disagreement.values)
        assert alone[100, 100]
        assert not alone[300, 192]
    coarse = stored["overviews/2/quality"][:]
    np.testing.assert_array_equal(coarse, reduce_flat("flags", flags))
    assert coarse[100, 100] & FLAGS["saturated"]
    np.testing.assert_array_equal(coarse & 1 == 0, stored["overviews/2/valid"][:] == 1)


def test_a_report_shows_what_the_layers_hold(write_scene, tmp_path):
    cube, _ = run(write_scene, tmp_path / "a.zarr")
    view = open_view(cube.storage)
    level = view.levels[0]
    with open_cube(tmp_path / "a.zarr") as found:
        for name in (*QUALITY, "valid"):
            np.testing.assert_allclose(flat(view, level, name), found[name].values, atol=1e-7)
        facts = gather(cube.storage)
        assert facts.agreement is not None
        assert facts.agreement.quantiles[0] == pytest.approx(np.nanmedian(found.rgb_consistency), rel=1e-3)
    page = render(facts).decode()
    assert {"Difference of overlapping tiles", "Quality"} <= set(re.findall("<h3>([^<]+)</h3>", page))


def test_statistics_are_those_of_the_values_whatever_the_block(write_scene, tmp_path):
    cube, _ = run(write_scene, tmp_path / "a.zarr")
    other, _ = run(write_scene, tmp_path / "b.zarr", block=1024)
    for name in cube.arrays:
        assert cube.storage.get(f"{name}/zarr.json") == other.storage.get(f"{name}/zarr.json")
    stored = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for name in ("reflectance", "rgb_consistency", "overlap_disagreement"):
        said = stored[name].attrs["statistics"]
        values = np.atleast_3d(stored[name][:]) if name == "reflectance" else stored[name][:][None]
        for band, counts in enumerate(values):
            held = counts[counts != NODATA] * 1e-4
            assert said["valid_count"][band] == held.size
            for key, number in (("minimum", held.min()), ("maximum", held.max()), ("mean", held.mean()),
                                ("stddev", held.std())):  # fmt: skip
                assert said[key][band] == pytest.approx(number, rel=1e-9, abs=2e-8)
    flags = stored["quality"][:]
    assert stored["quality"].attrs["statistics"]["flag_counts"] == {
        name: int(np.count_nonzero(flags & bit)) for name, bit in FLAGS.items()
    }
    # The group's consolidated metadata say the same.
    root = json.loads(cube.storage.get("zarr.json"))["consolidated_metadata"]["metadata"]
    assert root["reflectance"]["attributes"]["statistics"] == stored["reflectance"].attrs["statistics"]


def test_layers_are_chosen_together():
    assert choose_quality(None) == DEFAULT
    assert choose_quality(()) == ()
    assert choose_quality(("overlap_disagreement", "sd", "quality")) == ("quality", "overlap_disagreement")
    assert choose_layers(("quality",), 1) == ()
    assert choose_layers(("sd", "quality"), 3) == ("sd",)
    with pytest.raises(UsageError, match="takes 2 samples"):
        choose_layers(("sd", "quality"), 1)
    with pytest.raises(UsageError, match="unknown layer 'certainty'"):
        choose_layers(("certainty",), 1)


def test_a_cube_that_sees_no_colour_has_no_consistency(write_scene, tmp_path):
    infrared = Positional(bands=Bands.evenly_spaced(900, 1000, 6))
    run(write_scene, tmp_path / "a.zarr", quality=("rgb_consistency",), predictor=infrared, shape=(64, 64))
    assert (zarr.open_group(tmp_path / "a.zarr", mode="r")["rgb_consistency"][:] == NODATA).all()


def test_bands_in_water_vapour_are_not_good():
    bands = Bands((550.0, 1340.0, 1400.0, 1446.0, 1900.0), (10.0,) * 5)
    assert good_bands(bands).tolist() == [True, False, False, True, False]
    assert good_bands(VNIR48).all()
    grid = Grid((30, 40), NORTH_UP, UTM)
    made = lay_out(Plan(grid, grid.window, Tiling(grid.shape), 512, len(bands)), bands)
    assert "good_wavelengths/c/0" in made


def test_the_default_is_of_the_blocks_own_size():
    plain = Plan(Grid((600, 700), NORTH_UP, UTM), Window(0, 0, 600, 700), Tiling((600, 700)), 512, 48)
    asked = replace(plain, quality=QUALITY)
    assert plain.digest != asked.digest
    sizes = [Workload(each, 3).estimate().output_bytes for each in (plain, asked)]
    assert sizes[1] - sizes[0] == 600 * 700 * 5
    assert isinstance(asked.blocks[0], Block)


def test_the_layer_of_pairs_is_refused_of_a_scene():
    with pytest.raises(UsageError, match=r"^hsi_consistency is a layer of fused pairs"):
        choose_quality(("quality", "hsi_consistency"))
    assert choose_quality(None, pair=True) == ("quality", "rgb_consistency", "hsi_consistency")
