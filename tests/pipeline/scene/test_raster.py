import copy
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio._env import get_gdal_config
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling

from spectile.catalog.errors import BlockError, SceneError, UsageError
from spectile.pipeline.files.remote import reading
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.scene.lazy import open_scene, tiles
from spectile.pipeline.scene.source import open_source
from tests.pipeline.fakes import NORTH_UP

ROTATED = Affine.translation(320_000, 4_881_000) @ Affine.rotation(25) @ Affine.scale(0.5, -0.5)
RGBA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]


def rows_of(valid: np.ndarray) -> list[int]:
    return np.nonzero(~valid.all(axis=1))[0].tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.integers(-300, 160), st.integers(-300, 220), st.integers(1, 200), st.integers(1, 200))
def test_any_window_equals_the_padded_scene(write_scene, picture, row, col, height, width):
    source = open_source(write_scene(picture))
    whole, _ = source.read(source.grid.window)
    pad = 500
    padded = np.pad(whole, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    part, valid = source.read(Window(row, col, height, width))
    np.testing.assert_array_equal(
        part, padded[:, row + pad : row + pad + height, col + pad : col + pad + width]
    )
    assert valid.all()


@pytest.mark.parametrize("shape", [(3, 150, 210), (3, 20, 1), (3, 1, 300), (3, 257, 193)])
@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, Affine(0.5, 0, 0, 0, 0.25, 0)])
def test_the_lazy_scene_and_the_hot_path_read_the_same_tiles(write_scene, shape, transform):
    array = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)
    array[:, :3, :4] = 0
    path = write_scene(array, transform=transform, nodata=0)
    scene, source = open_scene(path, chunk=64), open_source(path)
    assert scene.chunks is not None
    assert scene.rio.transform() == source.grid.transform
    assert scene.rio.crs.to_epsg() == 32619
    assert ("x" in scene.coords) == source.grid.is_axis_aligned
    seen = 0
    for tile, lazy in tiles(scene, tile=128, halo=16):
        assert lazy.shape == (3, 128, 128)
        np.testing.assert_array_equal(lazy.values, source.read(tile.window)[0])
        seen += 1
    assert seen == -(-shape[1] // 96) * -(-shape[2] // 96)


def test_alpha_masks_and_is_never_input(write_scene, picture):
    alpha = np.full((1, 150, 210), 255, np.uint8)
    alpha[0, 10:12] = 0
    source = open_source(write_scene(np.concatenate([picture, alpha]), colorinterp=RGBA))
    rgb, valid = source.read(source.grid.window)
    assert rgb.shape[0] == 3
    assert rows_of(valid) == [10, 11]
    assert np.isnan(rgb[:, ~valid]).all()


@pytest.mark.parametrize("bands", [1, 3])
def test_alpha_masks_in_files_of_any_number_of_bands(write_scene, picture, bands):
    infrared = np.full((bands, 150, 210), 90, np.uint8)
    alpha = np.full((1, 150, 210), 255, np.uint8)
    alpha[0, 10:12] = 0
    colours = [*RGBA[:3], *[ColorInterp.undefined] * bands, ColorInterp.alpha]
    source = open_source(write_scene(np.concatenate([picture, infrared, alpha]), colorinterp=colours))
    assert rows_of(source.read(source.grid.window)[1]) == [10, 11]
    assert rows_of(source.read_valid(source.grid.window)) == [10, 11]
    assert rows_of(source.survey()[1]) == [10, 11]


def test_a_pixel_is_valid_where_alpha_and_the_nodata_value_both_say_so(write_scene, picture):
    picture[:, 5] = 0
    alpha = np.full((1, 150, 210), 255, np.uint8)
    alpha[0, 10:12] = 0
    source = open_source(write_scene(np.concatenate([picture, alpha]), colorinterp=RGBA, nodata=0))
    assert rows_of(source.read(source.grid.window)[1]) == [5, 10, 11]
    assert rows_of(source.read_valid(source.grid.window)) == [5, 10, 11]


def test_the_files_own_mask_comes_before_its_nodata_value(write_scene, picture):
    picture[:, 5] = 0
    mask = np.full((150, 210), 255, np.uint8)
    mask[20] = 0
    source = open_source(write_scene(picture, mask=mask))
    assert rows_of(source.read(source.grid.window)[1]) == [20]


def test_nodata_in_all_or_in_any_channel(write_scene, picture):
    picture[:, 5] = 0
    picture[1, 9] = 0
    path = write_scene(picture, nodata=0)
    for rule, rows in (("all", [5]), ("any", [5, 9])):
        source = open_source(path, nodata_rule=rule)
        assert rows_of(source.read(source.grid.window)[1]) == rows


def test_true_zeros_stay_valid_where_no_nodata_is_declared(write_scene, picture):
    picture[:, 5] = 0
    source = open_source(write_scene(picture))
    assert source.read(source.grid.window)[1].all()


def test_a_single_nan_masks_its_pixel_alone(write_scene):
    array = np.full((3, 40, 40), 0.2, np.float32)
    array[1, 7, 8] = np.nan
    source = open_source(write_scene(array))
    valid = source.read(source.grid.window)[1]
    assert np.argwhere(~valid).tolist() == [[7, 8]]


def test_floats_above_one_and_a_half_are_refused(write_scene):
    path = write_scene(np.full((3, 40, 40), 180.0, np.float32))
    with pytest.raises(SceneError, match="--radiometry"):
        open_source(path)
    source = open_source(path, radiometry="dn:0,0.001")
    np.testing.assert_allclose(source.read(Window(0, 0, 1, 1))[0], 0.18, rtol=1e-6)


def test_the_gain_does_not_change_with_the_window(write_scene, picture):
    picture[:, :75] //= 4
    path = write_scene(picture)
    source = open_source(path)
    whole, _ = source.read(source.grid.window)
    part, _ = source.read(Window(0, 0, 75, 210))
    np.testing.assert_array_equal(part, whole[:, :75])
    assert open_source(path).radiometry == source.radiometry


def test_channels_follow_the_colour_interpretation(write_scene, picture):
    colours = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    path = write_scene(picture, colorinterp=colours)
    assert open_source(path).channels == (3, 2, 1)
    assert open_source(path, bands=(1, 2, 3)).channels == (1, 2, 3)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_wrong_number_of_bands_is_refused(write_scene, count):
    path = write_scene(np.ones((count, 20, 20), np.uint8), photometric="MINISBLACK")
    with pytest.raises(SceneError, match=rf"model needs, red \(605 nm\) \(got {count} band"):
        open_source(path)


def test_named_channels_open_a_scene_of_five_bands(write_scene):
    path = write_scene(np.ones((5, 20, 20), np.uint8), photometric="MINISBLACK")
    assert open_source(path, bands=(3, 2, 1)).channels == (3, 2, 1)
    with pytest.raises(SceneError, match="no such band"):
        open_source(path, bands=(3, 2, 6))


def test_scenes_without_a_place_are_refused(write_scene, picture, tmp_path):
    with pytest.raises(SceneError, match="no CRS"):
        open_source(write_scene(picture, "a.tif", crs=None))
    points = [GroundControlPoint(r, c, c, -r) for r, c in ((0, 0), (0, 20), (20, 0), (20, 20))]
    with rasterio.open(
        tmp_path / "g.tif", "w", driver="GTiff", count=3, height=20, width=20, dtype="uint8",
        gcps=points, crs="EPSG:4326",
    ) as dataset:  # fmt: skip
        dataset.write(np.ones((3, 20, 20), np.uint8))
    with pytest.raises(SceneError, match="ground control points"):
        open_source(tmp_path / "g.tif")
    with pytest.raises(SceneError, match="no such file"):
        open_source(tmp_path / "missing.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(SceneError, match="not a raster"):
        open_source(tmp_path / "text.tif")


def test_a_scene_that_is_masked_all_over_is_refused(write_scene):
    with pytest.raises(SceneError, match="no valid pixel"):
        open_source(write_scene(np.zeros((3, 20, 20), np.uint8), nodata=0))


def test_damage_fails_the_rows_it_lies_in_by_name_and_no_others(write_scene):
    array = np.random.default_rng(3).integers(0, 255, (3, 512, 512), dtype=np.uint8)
    path = write_scene(array, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    whole = open_source(path, radiometry="display:1").read(Window(0, 0, 128, 512))[0]
    with path.open("r+b") as stream:
        stream.seek(int(path.stat().st_size * 0.9))
        stream.write(b"\0" * 4096)
    source = open_source(path, radiometry="display:1")
    with pytest.raises(BlockError, match=r"rows 384–511"):
        source.read(Window(384, 0, 128, 512))
    np.testing.assert_array_equal(source.read(Window(0, 0, 128, 512))[0], whole)


def test_a_source_travels_to_threads_and_processes(write_scene, picture):
    source = copy.deepcopy(open_source(write_scene(picture)))
    whole, _ = source.read(source.grid.window)
    windows = [Window(r, c, 30, 30) for r in range(0, 120, 30) for c in range(0, 180, 30)] * 4
    with ThreadPoolExecutor(8) as pool:
        for window, (part, _) in zip(windows, pool.map(source.read, windows), strict=True):
            np.testing.assert_array_equal(part, whole[(slice(None), *window.slices)])


@pytest.mark.parametrize("kind", ["plain", "nodata", "mask", "floats"])
def test_validity_alone_is_the_validity_that_is_read(write_scene, picture, kind):
    if kind == "floats":
        picture = (picture / 255).astype(np.float32)
        picture[1, 40, 60] = np.nan
    picture[:, 30:50, 70:90] = 0
    mask = (picture[0] > 100) if kind == "mask" else None
    source = open_source(write_scene(picture, nodata=0 if kind == "nodata" else None, mask=mask))
    window = Window(20, 50, 60, 70)
    np.testing.assert_array_equal(source.read_valid(window), source.read(window)[1])


def test_the_fingerprint_follows_the_bytes(write_scene, picture):
    first = open_source(write_scene(picture)).fingerprint()
    picture[0, 0, 0] ^= 1
    assert open_source(write_scene(picture)).fingerprint() != first


@pytest.mark.parametrize("scale", [0.0, math.inf, math.nan])
def test_a_scale_that_gives_no_reflectance_is_refused(write_scene, picture, scale):
    path = write_scene(picture, scales=(scale,) * 3, offsets=(1.0,) * 3)
    with pytest.raises(SceneError, match="scale cannot be used"):
        open_source(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # as the file is written
@pytest.mark.parametrize("value", ["nan", "inf", "1e308"])
@pytest.mark.parametrize("told", ["tfw", "pam"])
def test_a_geotransform_that_is_not_finite_is_refused(write_scene, picture, value, told):
    path = write_scene(picture, transform=None)
    six = ["320000", "0.5", "0", "4881000", "0", "-0.5"]
    six[1] = value
    if told == "tfw":
        world = [six[1], "0", "0", "-0.5", six[0], six[3]]
        path.with_suffix(".tfw").write_text("\n".join(world))
    else:
        pam = f"<PAMDataset><GeoTransform>{', '.join(six)}</GeoTransform></PAMDataset>"
        Path(f"{path}.aux.xml").write_text(pam)
    with pytest.raises(SceneError, match="geotransform"):
        open_source(path)


def test_more_scenes_than_a_process_may_have_files_are_read(write_scene, picture, tmp_path):
    program = """
import resource, sys
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.scene.source import open_source
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
sources = [open_source(path) for path in sys.argv[1:]]
for _ in range(2):
    for source in sources:
        source.read(Window(0, 0, 8, 8))
"""
    first = write_scene(picture[:, :20, :20], "0.tif")
    paths = [first, *(tmp_path / f"{i}.tif" for i in range(1, 120))]
    for path in paths[1:]:
        path.write_bytes(first.read_bytes())
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_gis_programs_write_beside_a_scene_leaves_it_the_scene_that_it_was(write_scene):
    array = np.random.default_rng(2).integers(1, 255, (3, 1500, 1500), dtype=np.uint8)
    path = write_scene(array, tiled=True)
    before = open_source(path)
    told = before.identity()
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    Path(f"{path}.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MAXIMUM">254</MDI></Metadata>'
        "</PAMRasterBand></PAMDataset>"
    )
    assert Path(f"{path}.ovr").exists()
    after = open_source(path)
    assert after.identity() == told
    assert after.radiometry == before.radiometry


def test_a_mask_or_a_nodata_value_beside_a_scene_makes_it_another(write_scene, picture):
    path = write_scene(picture)
    plain = open_source(path)
    beside = Path(f"{path}.aux.xml")
    beside.write_text(
        "<PAMDataset>"
        + "".join(
            f'<PAMRasterBand band="{band}"><NoDataValue>7</NoDataValue></PAMRasterBand>' for band in (1, 2, 3)
        )
        + "</PAMDataset>"
    )
    assert open_source(path).mask_facts != plain.mask_facts
    beside.unlink()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.arange(150)[:, None] * np.ones((1, 210)) > 9)
    assert Path(f"{path}.msk").exists()
    masked = open_source(path)
    assert rows_of(masked.read(masked.grid.window)[1]) == list(range(10))
    assert rows_of(masked.survey()[1]) == list(range(10))
    assert masked.identity() != plain.identity()


def test_a_file_that_is_broken_at_both_ends_is_refused_before_a_plan(write_scene):
    array = np.random.default_rng(3).integers(0, 255, (3, 512, 512), dtype=np.uint8)
    path = write_scene(array, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    start = path.read_bytes()[:4096]
    path.write_bytes(start + b"\0" * (path.stat().st_size - 4096))
    with pytest.raises(SceneError, match="the scene cannot be read"):
        open_source(path, measure=False)


def test_large_blocks_count_as_memory(write_scene):
    path = write_scene(np.ones((3, 1024, 1024), np.uint8), blockysize=1024, compress="deflate")
    assert open_source(path).memory() == 2 * 3 * 1024 * 1024
    with pytest.raises(SceneError, match="do not fit the memory"):
        open_source(path, memory=6_000_000)


def test_a_halo_too_large_for_the_tile_is_refused(write_scene, picture):
    with pytest.raises(UsageError, match="too large"):
        next(tiles(open_scene(write_scene(picture)), tile=64, halo=20))


@pytest.mark.data
def test_real_scenes_open_or_say_what_to_set(data_dir):
    refused = []
    for path in sorted((data_dir / "rgb_misc").glob("*.tif")):
        try:
            source = open_source(path)
        except SceneError as err:
            refused.append(str(err))
            source = open_source(path, radiometry="dn:0,0.0001")
        rgb, valid = source.read(Window(100, 100, 64, 64))
        assert np.isfinite(rgb[:, valid]).all()
    assert len(refused) == 2
    assert all("--radiometry" in line for line in refused)


def test_gdal_may_keep_a_row_of_decoded_blocks_of_a_large_scene(write_scene, picture):
    path = write_scene(picture)
    with reading(path):
        # In bytes. With less, every line of a window decodes all blocks that it crosses again.
        assert get_gdal_config("GDAL_CACHEMAX") >= 40_000 * 256 * 3
