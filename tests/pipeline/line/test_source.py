import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.stac.scenes import NamedScene
from spectile.pipeline.cube.write import create_cube
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.geometry.placing import to_map, transform_points
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.line.members import Member
from spectile.pipeline.line.source import open_line
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.run import process_run
from spectile.pipeline.stac.scenes import list_scenes
from spectile.pipeline.store.local import LocalStorage
from tests.pipeline.fakes import SIX, Positional

METRE = Affine(1, 0, 500_000, 0, -1, 4_000_000)


@pytest.fixture
def write(tmp_path):
    """Write reflectance (3, rows, cols) float32; the scene under its file's name. NaN is masked."""

    def write(values, name, transform=METRE, crs="EPSG:32633", **options) -> NamedScene:
        values = np.asarray(values)
        profile = {"driver": "GTiff", "count": 3, "height": values.shape[1], "width": values.shape[2],
                   "dtype": values.dtype, "crs": crs, "transform": transform, **options}  # fmt: skip
        with rasterio.open(tmp_path / name, "w", **profile) as dataset:
            dataset.write(values)
        return NamedScene(name, str(tmp_path / name))

    return write


def at(row: float, col: float, degrees: float = 0.0, pixel: float = 1.0) -> Affine:
    """METRE's grid with its first pixel at (row, col), turned and scaled there."""
    return METRE @ Affine.translation(col, row) @ Affine.rotation(degrees) @ Affine.scale(pixel)


def plane(transform: Affine, shape: tuple[int, int]) -> np.ndarray:
    """A reflectance that is linear on the map, different for each channel, (3, rows, cols) float32."""
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    x, y = transform @ (cols, rows)
    rise = (x - 500_000) * 5e-4 + (4_000_000 - y) * 3e-4
    return np.stack([0.1 + rise, 0.2 + 0.5 * rise, 0.3 - 0.2 * rise]).astype(np.float32)


def plane_on(grid, window=None) -> np.ndarray:
    window = window or grid.window
    return plane(grid[window].transform, window.shape)


def test_scenes_on_one_grid_are_read_as_they_are(write):
    values = np.random.default_rng(0).random((3, 40, 50), dtype=np.float32)
    line = open_line([write(values[:, :, :30], "a.tif"), write(values[:, :, 20:], "b.tif", at(0, 20))])
    assert line.grid.shape == (40, 50)
    assert line.grid.transform == METRE
    rgb, valid = line.read(line.grid.window)
    assert valid.all()
    np.testing.assert_array_equal(rgb[:, :, :20], values[:, :, :20])
    np.testing.assert_allclose(rgb, values, rtol=1e-6)


@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
@pytest.mark.parametrize(
    ("transform", "crs"),
    [(at(0.3, 0.4), "EPSG:32633"), (at(30, 10, 27), "EPSG:32633"), (at(5, 5, 3, 0.7), "EPSG:32633"),
     (at(5, 5, -8, 1.6), "EPSG:32633")],
)  # fmt: skip
def test_a_plane_stays_a_plane_wherever_its_scene_lies(write, transform, crs, resampling):
    line = open_line(
        [write(plane(transform, (90, 80)), "a.tif", transform, crs)], resolution=1.0, resampling=resampling
    )
    rgb, valid = line.read(line.grid.window)
    assert valid.any()
    from scipy.ndimage import binary_erosion

    inner = binary_erosion(valid, iterations=3)
    np.testing.assert_allclose(rgb[:, inner], plane_on(line.grid)[:, inner], atol=2e-6)
    # At the edge nothing is known beyond half a pixel.
    assert np.abs(rgb - plane_on(line.grid))[:, valid].max() < 2e-3


def test_a_scene_of_another_crs_lands_where_it_belongs(write):
    here = write(plane(METRE, (60, 60)), "a.tif")
    # The neighbouring zone; pixels of 1 m there, a plane on the map of the first.
    x, y = transform_points(np.array([500_020.0]), np.array([3_999_990.0]), "EPSG:32633", "EPSG:32634")
    there = Affine(1, 0, x[0], 0, -1, y[0])
    rows, cols = np.mgrid[:60, :60] + 0.5
    back = transform_points(*(there @ (cols, rows)), "EPSG:32634", "EPSG:32633")
    rise = (back[0] - 500_000) * 5e-4 + (4_000_000 - back[1]) * 3e-4
    values = np.stack([0.1 + rise, 0.2 + 0.5 * rise, 0.3 - 0.2 * rise]).astype(np.float32)
    other = write(values, "b.tif", there, "EPSG:32634")
    line = open_line([here, other], crs="EPSG:32633", resolution=1.0, combine="first")
    rgb, valid = line.read(line.grid.window)
    index = line.read_with_index(line.grid.window)[1]
    assert set(np.unique(index)) == {0, 1, 2}
    from scipy.ndimage import binary_erosion

    inner = binary_erosion(index == 2, iterations=2)
    np.testing.assert_allclose(rgb[:, inner], plane_on(line.grid)[:, inner], atol=5e-6)
    assert (valid == (index > 0)).all()


def test_a_coarse_line_averages_the_pixels_of_a_fine_scene(write):
    values = np.random.default_rng(1).random((3, 40, 60), dtype=np.float32)
    line = open_line([write(values, "a.tif")], resolution=4.0)
    rgb, _ = line.read(line.grid.window)
    means = values.reshape(3, 10, 4, 15, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(rgb, means, rtol=1e-5)


def test_feathering_leaves_no_step_where_a_scene_ends(write):
    shape, offset = (40, 120), 0.1
    first, second = at(0, 0), at(0, 60)
    scenes = [
        write(plane(first, shape), "a.tif", first),
        write(plane(second, shape) + np.float32(offset), "b.tif", second),
    ]
    line = open_line(scenes)
    rgb, _ = line.read(line.grid.window)
    extra = rgb - plane_on(line.grid)
    middle = extra[:, 20]
    np.testing.assert_allclose(middle[:, :60], 0, atol=1e-5)
    np.testing.assert_allclose(middle[:, 120:], offset, atol=1e-5)
    # 60 px of overlap: no neighbour differs by more than a few 60ths of what the scenes differ by.
    assert np.abs(np.diff(extra, axis=2)).max() < 4 * offset / 60
    assert (np.diff(middle, axis=1) > -1e-6).all()
    abrupt = open_line(scenes, combine="first").read(line.grid.window)[0] - plane_on(line.grid)
    assert np.abs(np.diff(abrupt, axis=2)).max() == pytest.approx(offset, rel=1e-3)


def test_feathering_goes_around_what_is_masked(write):
    shape, offset = (60, 60), 0.1
    first = plane(METRE, shape)
    first[:, 20:40, 20:40] = np.nan
    line = open_line([write(first, "a.tif"), write(plane(METRE, shape) + np.float32(offset), "b.tif")])
    rgb, valid = line.read(line.grid.window)
    extra = (rgb - plane_on(line.grid))[0]
    assert valid.all()
    np.testing.assert_allclose(extra[20:40, 20:40], offset, atol=1e-5)
    steps = np.abs(np.diff(extra, axis=1))
    assert steps[25:35, 19].max() < 0.15 * offset  # the edge of the hole
    assert (line.read_with_index(line.grid.window)[1][25:35, 25:35] == 2).all()


@pytest.fixture
def mixed(write):
    """Scenes that overlap: north up, turned and masked, of another resolution, of another CRS."""
    rng = np.random.default_rng(3)

    def noise(rows, cols):
        return rng.random((3, rows, cols), dtype=np.float32)

    holed = noise(70, 80)
    holed[:, 20:30, 30:60] = np.nan
    x, y = transform_points(np.array([500_040.0]), np.array([3_999_975.0]), "EPSG:32633", "EPSG:32634")
    return [
        write(noise(60, 90), "a.tif"),
        write(holed, "b.tif", at(10, 50, 20)),
        write(noise(50, 40), "c.tif", at(30, 10, pixel=1.5)),
        write(noise(60, 60), "d.tif", Affine(1, 0, x[0], 0, -1, y[0]), "EPSG:32634"),
    ]


@pytest.mark.parametrize("combine", ["feather", "first", "nadir"])
@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
def test_any_window_reads_the_same_values(mixed, combine, resampling):
    line = open_line(mixed, crs="EPSG:32633", resolution=1.0, combine=combine, resampling=resampling)
    whole, valid = line.read(line.grid.window)
    index = line.read_with_index(line.grid.window)[1]
    assert {1, 2, 3, 4} <= set(np.unique(index))
    rng = np.random.default_rng(0)
    for _ in range(12):
        row, col = (int(rng.integers(0, size - 5)) for size in line.grid.shape)
        window = Window(row, col, *(int(n) for n in rng.integers(1, 50, 2))).intersection(line.grid.window)
        rgb, held = line.read(window)
        np.testing.assert_array_equal(rgb, whole[(slice(None), *window.slices)])
        np.testing.assert_array_equal(held, valid[window.slices])
        np.testing.assert_array_equal(line.read_with_index(window)[1], index[window.slices])


def test_beyond_the_grid_the_line_is_mirrored(mixed):
    line = open_line(mixed[:3])
    whole, _ = line.read(line.grid.window)
    cols = line.grid.shape[1]
    rgb, _ = line.read(Window(-4, cols - 6, 10, 12))
    padded = np.pad(whole, ((0, 0), (4, 0), (0, 6)), mode="reflect")
    np.testing.assert_array_equal(rgb, padded[:, :10, cols - 6 : cols + 6])


def test_what_a_scene_touches_is_what_its_shares_say(mixed):
    from spectile.pipeline.geometry.tiling import Tiling
    from spectile.pipeline.plan.shares import cells

    line = open_line(mixed, crs="EPSG:32633", resolution=0.2, extent=(499_990, 3_999_890, 500_160, 4_000_020))
    tiling, window = Tiling(line.grid.shape, 96, 16), Window(128, 64, 500, 700)
    for number, share in enumerate(line.shares(tiling, window, identified=False)):
        alone = type(line)(line.grid, (line.members[number],))
        valid = alone.read(line.grid.window)[1]
        held = {
            (row, col)
            for row in range(-(-window.height // 512)) for col in range(-(-window.width // 512))
            if valid[Window(128 + row * 512, 64 + col * 512, 512, 512).intersection(window).slices].any()
        }  # fmt: skip
        shown = {(tile.row, tile.col) for tile in tiling.tiles() if alone.read(tile.window)[1].any()}
        assert held <= cells(share.shards)
        assert shown <= cells(share.tiles)
        # Only what the bounding boxes of its pixels add.
        assert len(cells(share.tiles) - shown) <= 0.1 * len(shown)


def test_the_index_names_the_scene_that_weighs_most(write):
    strip = np.ones((3, 20, 100), dtype=np.float32)
    scenes = [write(0.1 * strip, "a.tif"), write(0.2 * strip, "b.tif", at(10, 0))]
    for combine, border in (("feather", 15), ("nadir", 15), ("first", 20)):
        line = open_line(scenes, combine=combine)
        index = line.read_with_index(line.grid.window)[1][:, 50]
        assert (index[:border] == 1).all()
        assert (index[border:] == 2).all()


def test_nadir_goes_by_the_centre_line_of_a_strip_and_the_centre_of_a_frame(write):
    strip = np.full((3, 20, 200), 0.1, dtype=np.float32)
    frame = np.full((3, 40, 40), 0.2, dtype=np.float32)
    line = open_line([write(strip, "a.tif"), write(frame, "b.tif", at(0, 0))], combine="nadir")
    index = line.read_with_index(line.grid.window)[1]
    assert index[10, 12] == 1  # on the strip's line, 8 px from the frame's centre
    assert index[19, 20] == 2
    assert index[10, 190] == 1


def test_north_up_is_snapped_to_the_crs_origin(write):
    odd = at(0.3, 0.7, pixel=0.5)
    line = open_line([write(np.ones((3, 30, 30), np.float32), "a.tif", odd)])
    assert line.grid.transform == Affine(0.5, 0, 500_000.5, 0, -0.5, 4_000_000)
    assert line.grid.shape == (31, 31)
    wide = open_line([write(np.ones((3, 30, 30), np.float32), "a.tif", odd)], resolution=2.0,
                     extent=(499_999, 3_999_971, 500_033, 4_000_001))  # fmt: skip
    assert wide.grid.transform == Affine(2, 0, 499_998, 0, -2, 4_000_002)
    assert wide.grid.shape == (16, 18)


@pytest.mark.parametrize("degrees", [0, 30, -45, 88, 170])
def test_the_lines_own_frame_has_its_rows_along_the_line(write, degrees):
    # Two scenes of one turned strip: the frame must be the strip's own pixels.
    first, second = at(0, 0, degrees), at(0, 0, degrees) @ Affine.translation(0, 60)
    scenes = [write(plane(first, (90, 40)), "a.tif", first), write(plane(second, (90, 40)), "b.tif", second)]
    line = open_line(scenes, frame="line")
    assert line.grid.shape == (150, 40)
    transform = line.grid.transform
    assert transform.determinant == pytest.approx(-1)
    assert transform.e <= 1e-9  # the first row is the northernmost
    corners = {(0, 0), (40, 0), (0, 150), (40, 150)}
    ours = np.array(sorted(transform @ corner for corner in corners))
    strip = np.array(sorted(first @ corner for corner in corners))
    np.testing.assert_allclose(ours, strip, atol=1e-6)
    rgb, valid = line.read(line.grid.window)
    assert valid.all()
    np.testing.assert_allclose(rgb, plane_on(line.grid), atol=5e-6)


def test_a_turned_scene_is_no_finer_than_a_straight_one(write):
    scenes = [write(np.ones((3, 20, 20), np.float32), "a.tif")]
    for degrees in (10, 15, 33, 77):
        scenes.append(write(np.ones((3, 20, 20), np.float32), f"{degrees}.tif", at(5, 5, degrees)))
    transform = open_line(scenes).grid.transform
    assert (transform.a, transform.e) == (1, -1)


def test_a_masked_collar_does_not_widen_the_lines_frame(write):
    size = 200
    rows, cols = np.mgrid[:size, :size]
    values = plane(METRE, (size, size))
    values[:, np.abs(rows - cols) > 20] = np.nan
    line = open_line([write(values, "a.tif")], frame="line")
    assert line.grid.shape[0] == pytest.approx(size * 2**0.5, abs=32)
    assert line.grid.shape[1] == pytest.approx(41 / 2**0.5, abs=4)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    degrees=st.floats(-180, 180), row=st.floats(-50, 50), col=st.floats(-50, 50), pixel=st.floats(0.3, 2.5),
    frame=st.sampled_from(["north-up", "line"]),
)  # fmt: skip
def test_the_georeference_is_right_to_a_millionth_of_a_pixel(write, degrees, row, col, pixel, frame):
    # A plane says where each of its pixels is on the map.
    transform = at(row, col, degrees, pixel)
    rows, cols = np.mgrid[:40, :30] + 0.5
    x, y = transform @ (cols, rows)
    line = open_line([write(np.ones((3, 40, 30), np.float32), "a.tif", transform)], frame=frame)
    member = line.members[0]
    back = member.placement.to_line(rows, cols)
    np.testing.assert_allclose(to_map(line.grid, *back)[0], x, atol=1e-6 * pixel)
    np.testing.assert_allclose(to_map(line.grid, *back)[1], y, atol=1e-6 * pixel)
    assert line.grid.window.contains(member.extent)


def test_display_pictures_of_a_line_share_one_gain(write):
    dark = np.full((3, 30, 30), 60, dtype=np.uint8)
    bright = np.full((3, 30, 30), 120, dtype=np.uint8)
    line = open_line([write(dark, "a.tif"), write(bright, "b.tif", at(0, 20))])
    gains = {member.source.radiometry.gain for member in line.members}
    assert gains == {line.gain}
    assert open_line([write(dark, "a.tif")], gain=line.gain).gain == line.gain
    assert len(line.notices) == 1


def test_mixed_radiometry_must_be_declared_scene_by_scene(write):
    scenes = [
        write(np.full((3, 30, 30), 60, dtype=np.uint8), "a.tif"),
        write(np.full((3, 30, 30), 0.2, dtype=np.float32), "b.tif", at(0, 20)),
        write(np.full((3, 30, 30), 2000, dtype=np.uint16), "c.tif", at(0, 40)),
    ]
    with pytest.raises(SceneError, match=r"c\.tif.*dn:"):
        open_line(scenes)
    told = ["c.tif=dn:0,0.0001"]
    with pytest.raises(SceneError, match=r"a\.tif.*--radiometry a\.tif=display"):
        open_line(scenes, radiometry=told)
    line = open_line(scenes, radiometry=[*told, "a.tif=display:0.5"])
    assert [member.source.radiometry.kind for member in line.members] == ["display", "reflectance", "dn"]
    assert line.gain is None
    with pytest.raises(UsageError, match=r"no such scene.*z\.tif"):
        open_line(scenes, radiometry=["z.tif=display"])
    with pytest.raises(UsageError, match="unknown radiometry"):
        open_line(scenes, radiometry=["a.tif=sunny"])


def test_scenes_that_share_no_crs_go_to_the_utm_zone_of_their_middle(write):
    x, y = transform_points(np.array([500_040.0]), np.array([3_999_975.0]), "EPSG:32633", "EPSG:32634")
    other = write(np.ones((3, 20, 20), np.float32), "b.tif", Affine(1, 0, x[0], 0, -1, y[0]), "EPSG:32634")
    line = open_line([write(np.ones((3, 20, 20), np.float32), "a.tif"), other])
    assert rasterio.crs.CRS.from_wkt(line.grid.crs_wkt).to_epsg() == 32633


def test_scenes_on_both_sides_of_the_antimeridian_go_to_a_utm_zone_there(write):
    west, _ = transform_points(np.array([179.99]), np.array([51.0]), "OGC:CRS84", "EPSG:32660")
    east, _ = transform_points(np.array([-179.97]), np.array([51.0]), "OGC:CRS84", "EPSG:32601")
    ones = np.ones((3, 20, 20), np.float32)
    line = open_line([
        write(ones, "a.tif", Affine(1, 0, west[0], 0, -1, 5_650_000), "EPSG:32660"),
        write(ones, "b.tif", Affine(1, 0, east[0], 0, -1, 5_650_000), "EPSG:32601"),
    ])  # fmt: skip
    assert rasterio.crs.CRS.from_wkt(line.grid.crs_wkt).to_epsg() == 32601
    assert max(line.grid.shape) < 4000


class Told:
    """A watch that fails the test where a block fails."""

    def tiles(self, count):
        pass

    def done(self, block, marker, seconds):
        pass

    def failed(self, block, error):
        raise error


@dataclass(frozen=True)
class Noting:
    """A scene of a line that notes the windows of the line that it is read in."""

    scene: Member
    read_at: list[Window]

    def __getattr__(self, name):
        return getattr(self.scene, name)

    def read(self, at, combine, resampling):
        self.read_at.append(at)
        return self.scene.read(at, combine, resampling)


def test_a_block_reads_each_pixel_of_its_scenes_once(write, tmp_path):
    line = open_line([write(np.ones((3, 60, 80), np.float32), "a.tif")])
    noting = replace(line, members=(Noting(line.members[0], []),))
    tiling = Tiling(line.grid.shape, 64, 8)
    plan = Plan(
        line.grid, line.grid.window, tiling, 512, len(SIX), scenes=line.shares(tiling, line.grid.window)
    )
    cube = create_cube(LocalStorage(tmp_path / "cube.zarr"), plan, SIX)
    process_run(cube, plan.blocks, sources={"rgb": noting}, predictor=Positional(), watch=Told())
    assert sum(window.size for window in noting.members[0].read_at) == 60 * 80
    assert (zarr.open_group(tmp_path / "cube.zarr", mode="r")["source"][:] == 1).all()


def test_what_makes_no_line_is_refused(write):
    scene = write(np.ones((3, 30, 30), np.float32), "a.tif")
    with pytest.raises(UsageError, match=r"unknown CRS.*EPSG:999999"):
        open_line([scene], crs="EPSG:999999")
    with pytest.raises(UsageError, match="--resolution -1"):
        open_line([scene], resolution=-1)
    with pytest.raises(SceneError, match=r"a\.tif: the scene does not overlap the line's extent"):
        open_line([scene], extent=(400_000, 3_000_000, 400_100, 3_000_100))
    cut = open_line([scene], extent=(500_010, 3_999_980, 500_100, 4_000_000))
    assert cut.notices == ("cut at the line's extent: a.tif",)


def test_scenes_come_from_a_list_a_folder_or_a_collection(write, tmp_path):
    ones = np.ones((3, 5, 5), np.float32)
    for name in ("b.tif", "a.tif"):
        write(ones, name)
    (tmp_path / "notes.txt").write_text("not a scene")
    assert [each.name for each in list_scenes([str(tmp_path)])] == ["a.tif", "b.tif"]
    assert [each.name for each in list_scenes([f"{tmp_path}/b.tif", f"{tmp_path}/a.tif"])] == [
        "b.tif",
        "a.tif",
    ]
    with pytest.raises(UsageError, match=r"two scenes are called a\.tif"):
        list_scenes([str(tmp_path), f"{tmp_path}/a.tif"])
    (tmp_path / "empty").mkdir()
    for nothing in ([], [f"{tmp_path}/empty"]):
        with pytest.raises(UsageError, match="no scenes"):
            list_scenes(nothing)


def item(name: str, **assets) -> dict:
    return {"type": "Feature", "id": name, "assets": assets}


def collection(folder: Path, *items: dict) -> str:
    path = folder / "line.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(path)


def test_a_collection_names_its_items_and_their_rgb_asset(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "visual.tif").touch()
    path = collection(
        tmp_path,
        item("first", image={"href": "./one/visual.tif"}, meta={"href": "meta.xml"}),
        item("second", visual={"href": "https://example.com/x.tif"}, nir={"href": "nir.tif"}),
        item("third", data={"href": "x", "type": "image/tiff; application=geotiff"},
             thumbnail={"href": "t.tif", "roles": ["thumbnail"]}),
    )  # fmt: skip
    found = list_scenes([path])
    assert [scene.name for scene in found] == ["first", "second", "third"]
    assert found[0].place == str(tmp_path / "one" / "visual.tif")
    assert found[1].place == "https://example.com/x.tif"


@pytest.mark.parametrize(
    ("href", "told"),
    [("../secret.tif", "outside"), ("/etc/secret.tif", "outside"), ("file:///etc/secret.tif", "outside"),
     ("ftp://example.com/a.tif", "of this kind"), ("https://user:word@example.com/a.tif", "credentials"),
     ("link/a.tif", "outside")],
)  # fmt: skip
def test_a_collection_that_leads_out_of_its_folder_is_refused(tmp_path, href, told):
    inside = tmp_path / "line"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match=told):
        list_scenes([collection(inside, item("a", visual={"href": href}))])


def test_what_is_no_collection_is_refused(tmp_path):
    for text in (
        "nonsense",
        "[]",
        '{"type": "FeatureCollection"}',
        '{"type": "FeatureCollection", "features": [1]}',
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UsageError, match="not a STAC item"):
            list_scenes([f"{tmp_path}/x.json"])
    with pytest.raises(UsageError, match="which asset"):
        list_scenes([collection(tmp_path, item("a", one={"href": "1.tif"}, two={"href": "2.tif"}))])
    with pytest.raises(UsageError, match="no such file"):
        list_scenes([f"{tmp_path}/none.json"])


@pytest.mark.data
def test_two_real_scenes_become_one_without_a_step(data_dir):
    paths = [str(data_dir / "rgb_misc" / f"rio-tiler__mosaic_cog{n}.tif") for n in (1, 2)]
    line = open_line(list_scenes(paths), radiometry=["dn:0,0.0001"])
    rgb, valid = line.read(line.grid.window)
    index = line.read_with_index(line.grid.window)[1]
    assert set(np.unique(index)) == {0, 1, 2}
    assert np.isfinite(rgb[:, valid]).all()
    # Across the edge of each scene inside the other, neighbours differ as neighbours do anywhere.
    for member, other in zip(line.members, line.members[::-1], strict=True):
        ends = [type(line)(line.grid, (each,)).read(line.grid.window)[1] for each in (member, other)]
        edge = (ends[0][:, 1:] != ends[0][:, :-1]) & ends[1][:, 1:] & ends[1][:, :-1]
        steps = np.abs(np.diff(rgb[0], axis=1))
        both = ends[0][:, 1:] & ends[1][:, 1:] & valid[:, :-1]
        assert edge.sum() > 100
        assert np.median(steps[edge]) < 1.5 * np.median(steps[both])
