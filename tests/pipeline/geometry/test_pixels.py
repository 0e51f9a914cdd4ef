import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry import mapping

from spectile.catalog.errors import UsageError
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.pixels import pixel_at, pixels_in
from spectile.pipeline.geometry.placing import transform_points

UTM = CRS.from_epsg(32619).to_wkt()
ROTATED = Affine.translation(320_000, 4_881_000) @ Affine.rotation(20) @ Affine.scale(0.5, -0.5)
GRID = Grid((40, 50), ROTATED, UTM)


def square(row: float, col: float, side: float) -> shapely.Polygon:
    """A square of pixels, on the map."""
    corners = [(col, row), (col + side, row), (col + side, row + side), (col, row + side)]
    return shapely.Polygon([ROTATED @ corner for corner in corners])


def test_a_point_is_in_the_pixel_that_holds_it_on_a_rotated_map():
    assert pixel_at(GRID, *(ROTATED @ (7.9, 3.1))) == (3, 7)
    for outside in ((-0.1, 3), (50.1, 3), (3, 40.1)):
        with pytest.raises(UsageError, match="the point lies outside the cube"):
            pixel_at(GRID, *(ROTATED @ outside))
    with pytest.raises(UsageError, match="outside"):
        pixel_at(GRID, float("nan"), 4_881_000)


def test_a_polygon_holds_the_pixels_whose_centres_it_holds():
    window, inside = pixels_in(GRID, square(4.4, 5.4, 3))
    rows, cols = np.nonzero(inside)
    assert {(window.row + row, window.col + col) for row, col in zip(rows, cols, strict=True)} == {
        (row, col) for row in (4, 5, 6) for col in (5, 6, 7)
    }
    _, touched = pixels_in(GRID, square(4.4, 5.4, 3), all_touched=True)
    assert touched.sum() == 16


def test_a_polygon_is_cut_off_at_the_border():
    window, inside = pixels_in(GRID, {"type": "Feature", "geometry": mapping(square(-5.2, -5.2, 10))})
    assert window == Window(0, 0, 5, 5)
    assert inside.all()


def test_a_polygon_in_degrees_means_the_same_pixels():
    degrees = shapely.transform(
        square(4, 5, 3),
        lambda points: np.column_stack(transform_points(points[:, 0], points[:, 1], UTM, "EPSG:4326")),
    )
    window, inside = pixels_in(GRID, degrees, crs="EPSG:4326")
    assert inside.sum() == 9
    assert window.contains(Window(4, 5, 3, 3))


@pytest.mark.parametrize(
    ("polygon", "crs", "message"),
    [
        (shapely.Point(0, 0), None, "not a polygon"),
        ({"type": "Polygon", "coordinates": [[1]]}, None, "damaged"),
        (shapely.Polygon(), None, "empty"),
        (square(1.1, 1.1, 0.1), None, "all_touched=True"),
        (square(90, 90, 3), None, "lies outside"),
        (square(4, 5, 3), "EPSG:0", "not a CRS"),
    ],
)
def test_what_means_no_pixel_is_refused(polygon, crs, message):
    with pytest.raises(UsageError, match=message):
        pixels_in(GRID, polygon, crs=crs)
