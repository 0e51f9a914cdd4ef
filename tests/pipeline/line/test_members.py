import numpy as np
import pytest
from affine import Affine

from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.stac.scenes import NamedScene
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.line.feather import take_footprint
from spectile.pipeline.line.members import open_scenes, place_scene
from spectile.pipeline.scene.source import open_source


@pytest.fixture
def source(make_scene):
    return open_source(make_scene((40, 60), dtype="float32", nodata=-1))


def moved(grid: Grid, *, scale: float = 1, rows: float = 0, cols: float = 0) -> Grid:
    """A grid of a line that begins so many pixels before the scene's."""
    transform = grid.transform @ Affine.translation(-cols, -rows) @ Affine.scale(scale)
    return Grid((100, 100), transform, grid.crs_wkt)


def test_on_its_own_pixels_a_scene_is_read_as_it_is(source):
    member = place_scene("a", source, take_footprint(source), moved(source.grid, rows=10, cols=20))
    assert member.extent == Window(10, 20, 40, 60)
    rgb, weight = member.read(Window(12, 25, 8, 8), "first", "bilinear")
    expected, valid = source.read(Window(2, 5, 8, 8))
    np.testing.assert_array_equal(weight > 0, valid)
    np.testing.assert_allclose(rgb, np.where(valid, expected, 0), atol=1e-6)
    assert member.read(Window(0, 0, 5, 5), "first", "bilinear") is None


def test_on_a_coarser_line_whole_pixels_are_averaged(source):
    member = place_scene("a", source, take_footprint(source), moved(source.grid, scale=4))
    assert member.factor == 4
    rgb, weight = member.read(Window(3, 3, 2, 2), "first", "bilinear")
    expected = source.read(Window(12, 12, 8, 8))[0].reshape(3, 2, 4, 2, 4).mean(axis=(2, 4))
    assert (weight == 1).all()
    np.testing.assert_allclose(rgb, expected, rtol=1e-5)


@pytest.mark.parametrize("combine", ["feather", "nadir"])
def test_a_scene_weighs_more_towards_its_middle(source, combine):
    member = place_scene("a", source, take_footprint(source), moved(source.grid))
    _, weight = member.read(Window(0, 10, 40, 40), combine, "bilinear")
    assert weight[20, 20] > weight[6, 20] > weight[0, 20] > 0


def test_a_scene_beside_the_line_is_refused_by_name(source):
    with pytest.raises(SceneError, match=r"a\.tif: the scene does not overlap the line's extent"):
        place_scene("a.tif", source, take_footprint(source), moved(source.grid, cols=500))


@pytest.mark.parametrize(
    ("radiometry", "why"),
    [
        (["display", "reflectance"], "two radiometries for all scenes"),
        (["b.tif=display"], "no such scene"),
        (["b.tif=nonsense"], "nonsense"),
    ],
)
def test_what_is_declared_of_no_scene_is_refused_before_a_file_is_opened(radiometry, why):
    with pytest.raises(UsageError, match=why):
        open_scenes([NamedScene("a.tif", "missing.tif")], radiometry=radiometry)


def test_display_pictures_share_one_gain(make_scene, write_scene):
    dark = np.full((3, 20, 20), 60, np.uint8)
    places = [str(write_scene(dark * part, f"{part}.tif", photometric="RGB")) for part in (1, 3)]
    scenes = [NamedScene(place, place) for place in places]
    sources, gain = open_scenes(scenes, radiometry=["display"])
    assert gain is not None
    assert {source.radiometry.gain for source in sources} == {gain}
    fixed, _ = open_scenes(scenes, radiometry=["display"], gain=0.25)
    assert {source.radiometry.gain for source in fixed} == {0.25}
