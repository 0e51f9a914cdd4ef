"""What people look at: levels, pieces, spectra of places."""

from __future__ import annotations

import csv
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from affine import Affine

from spectile.catalog.counts import NODATA, SCALE
from spectile.catalog.errors import CubeError, UsageError
from spectile.catalog.indices import INDICES
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.product.view import Subject, View, open_view, picture, to_csv
from spectile.pipeline.store.local import LocalStorage
from tests.pipeline.cubes import BANDS, ROTATED, content, make
from tests.pipeline.fakes import NORTH_UP

SHAPE = (600, 1100)


def without_overviews(cube: Cube) -> Cube:
    """The cube as one that names no overviews."""
    said = json.loads(cube.storage.get("zarr.json") or b"{}")
    del said["attributes"]["multiscales"]
    cube.storage.put("zarr.json", json.dumps(said).encode())
    return cube


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cube]:
    """A cube with overviews, one without, and one that is not finished."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("whole", "bare", "broken")}
    made = {
        "whole": make(folders["whole"], samples=4, layers=("sd", "q05", "q95")),
        "bare": without_overviews(make(folders["bare"], samples=3, layers=("sd",))),
        "broken": make(folders["broken"], finished=False),
    }
    return made


def view(cube: Cube) -> View:
    return open_view(str(cube.storage))


def test_the_level_fits_the_screen_and_never_more_than_is_read_at_once(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["whole"])
    assert [level.factor for level in seen.levels] == [1, 2, 4]
    whole = seen.grid.window
    factors = [seen.level_for(whole, side).factor for side in (200, 300, 400, 600, 1100, 4000)]
    assert factors == [4, 4, 2, 2, 1, 1]
    assert seen.level_for(Window(0, 0, 100, 150), 900).factor == 1
    assert seen.level_for(Window(0, 0, 2000, 2000), 9000).factor == 2  # 1 would be more than LARGEST_SIDE


def test_a_cube_without_overviews_gets_one_level_of_every_nth_pixel(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["bare"])
    coarse = seen.levels[-1]
    assert [(level.factor, level.path) for level in seen.levels] == [(1, ""), (3, None)]
    assert coarse.grid.shape == (200, 367)
    assert coarse.grid.bounds[0] == seen.grid.bounds[0]
    for subject in (seen.subject("band", 700), seen.subject("true", 0)):
        every = seen.read(subject, seen.levels[0])[:, ::3, ::3]
        np.testing.assert_array_equal(seen.read(subject, coarse), every)
        part = Window(10, 20, 30, 40)
        np.testing.assert_array_equal(seen.read(subject, coarse, part), every[(slice(None), *part.slices)])


def test_a_piece_is_what_the_cube_holds_there(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["whole"])
    window = Window(500, 30, 40, 50)  # across two shards
    found = seen.read(Subject("", "reflectance", (4, 0, 2)), seen.levels[0], window)
    expected = content(window, 4).samples.mean(axis=0)[[4, 0, 2]]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.51e-4)
    corner = seen.read(seen.subject("band", 400), seen.levels[0], Window(0, 0, 30, 30))[0]
    np.testing.assert_array_equal(np.isnan(corner), ~content(Window(0, 0, 30, 30)).valid)


def test_a_coarse_level_holds_means(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["whole"])
    subject = seen.subject("band", 500)
    fine = seen.read(subject, seen.levels[0], Window(400, 400, 4, 4))
    coarse = seen.read(subject, seen.levels[2], Window(100, 100, 1, 1))
    assert coarse[0, 0, 0] == pytest.approx(fine.mean(), abs=1e-4)


def test_flags_show_the_last_that_is_set_and_flat_layers_their_values(tmp_path: Path) -> None:
    cube = make(tmp_path, shape=(20, 30), finished=False, quality=("quality", "rgb_consistency"))
    group: Any = zarr.open_group(cube.storage.zarr(), mode="r+", use_consolidated=False)
    group["quality"][0, :5] = [0, 2, 8, 10, 1]
    group["rgb_consistency"][0, :5] = [0, 1, 250, 10_000, NODATA]
    seen = view(cube)
    assert seen.subjects["rgb_consistency"].startswith("Difference of the cube, seen through")
    flags = seen.subject("quality", 0)
    np.testing.assert_array_equal(seen.read(flags, seen.levels[0])[0, 0, :6], [0, 2, 4, 4, np.nan, np.nan])
    values = seen.read(seen.subject("rgb_consistency", 0), seen.levels[0])
    np.testing.assert_allclose(values[0, 0, :5], [0, 0.0001, 0.025, 1.0, np.nan], rtol=1e-6)


def test_an_unfinished_cube_shows_what_is_there_and_trusts_no_overviews(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["broken"])
    assert not seen.complete
    assert np.isnan(seen.read(seen.subject("true", 0), seen.levels[-1])).all()
    with pytest.raises(UsageError, match="no spectrum here"):
        seen.spectrum(300, 300)


def test_subjects_are_those_that_the_bands_reach(cubes: dict[str, Cube]) -> None:
    # Six bands, 100 nm apart: 865 and 665 nm are 900 and 700; ndre's 790 and 720 are 800 and 700.
    found = view(cubes["whole"]).subjects
    assert {"true", "infrared", "band", "ndvi", "ndre", "sd"} <= found.keys()
    assert not {"ndwi_gao", "nbr", "mcari", "quality"} & found.keys()  # beyond 900 nm; one band for two
    with pytest.raises(UsageError, match="cannot show this"):
        view(cubes["whole"]).subject("nbr", 0)


def test_an_index_is_its_formula_of_the_nearest_bands(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["whole"])
    window = Window(300, 300, 5, 6)
    spectra = content(window, 4).samples.mean(axis=0)
    expected = INDICES["ndvi"].of(spectra[5], spectra[3])
    found = seen.read(seen.subject("ndvi", 0), seen.levels[0], window)
    np.testing.assert_allclose(found[0], expected, atol=1e-3)


def test_a_pixel_has_its_spectrum_with_layers(cubes: dict[str, Cube]) -> None:
    samples = content(Window(123, 456, 1, 1), 4).samples[:, :, 0, 0]
    found = view(cubes["whole"]).spectrum(123, 456)
    np.testing.assert_allclose(found.reflectance, samples.mean(axis=0), atol=0.51e-4)
    np.testing.assert_allclose(found.layers["sd"], samples.std(axis=0, ddof=1), atol=0.51e-4)
    assert found.interval == (found.layers["q05"], found.layers["q95"])
    assert (found.pixels, found.factor) == (1, 1)


def test_without_quantiles_the_interval_is_one_standard_deviation(cubes: dict[str, Cube]) -> None:
    found = view(cubes["bare"]).spectrum(300, 300)
    assert found.interval is not None
    low, high = found.interval
    np.testing.assert_allclose(high - low, 2 * found.layers["sd"], rtol=1e-5)


@pytest.mark.parametrize("place", [(0, 0), (-1, 5), (600, 0), (5, 1100)])
def test_a_masked_pixel_and_one_outside_have_no_spectrum(
    cubes: dict[str, Cube], place: tuple[int, int]
) -> None:
    with pytest.raises(UsageError):
        view(cubes["whole"]).spectrum(*place)


def test_an_area_has_mean_and_sd_of_its_valid_pixels(cubes: dict[str, Cube]) -> None:
    ring = [(0.0, 0.0), (0.0, 60.0), (60.0, 60.0), (60.0, 0.0)]  # with the masked corner
    found = view(cubes["whole"]).area(ring)
    expected = content(Window(0, 0, 60, 60), 4)
    values = expected.samples.mean(axis=0)[:, expected.valid]
    np.testing.assert_allclose(found.reflectance, values.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(found.layers["sd"], values.std(axis=1, ddof=1), atol=1e-4)
    assert (found.pixels, found.factor) == (int(expected.valid.sum()), 1)


@pytest.mark.parametrize(("name", "factor"), [("whole", 2), ("bare", 3)])
def test_a_large_area_is_read_from_a_coarser_level(cubes: dict[str, Cube], name: str, factor: int) -> None:
    seen = view(cubes[name])
    found = seen.area([(0, 0), (0, 1100), (600, 1100), (600, 0)])
    assert found.factor == factor
    level = next(level for level in seen.levels if level.factor == factor)
    assert found.pixels <= level.grid.window.size
    values = seen.read(Subject("", "reflectance", tuple(range(6))), level)
    np.testing.assert_allclose(found.reflectance, np.nanmean(values, axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize(
    "ring", [[(0, 0), (9, 9)], [(700, 0), (700, 9), (800, 9)], [(1, 1), (1, 9), (9, 1)], [(50, 50)] * 3]
)
def test_a_polygon_without_a_spectrum_is_refused(
    cubes: dict[str, Cube], ring: list[tuple[float, float]]
) -> None:
    with pytest.raises(UsageError):
        view(cubes["whole"]).area(ring)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_places_have_the_coordinates_of_the_grid(tmp_path: Path, transform: Affine) -> None:
    seen = view(make(tmp_path, shape=(20, 30), transform=transform, finished=False))
    x, y, lon, lat = seen.place(7.5, 11.5)
    assert (x, y) == pytest.approx(transform @ (11.5, 7.5))
    assert (lon, lat) == pytest.approx((-71.25, 44.06), abs=0.05)
    assert seen.pixel_m == pytest.approx((0.5, 0.5))


def test_what_is_no_cube_is_told(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="no cube of spectile here"):
        open_view(LocalStorage(tmp_path / "nothing.zarr"))


def test_a_picture_is_transparent_where_nothing_is_known() -> None:
    palette = np.array([[1, 2, 3], [250, 251, 252]], dtype=np.uint8)
    values = np.array([[[0.0, 0.4, 0.6, 9.0, np.nan]]], dtype=np.float32)
    found = picture(values, (0.0, 1.0), palette).view(np.uint8).reshape(5, 4)
    assert found.tolist()[:4] == [[1, 2, 3, 255]] * 2 + [[250, 251, 252, 255]] * 2
    assert found[4, 3] == 0
    colours = np.array([[[0.0, 1.0]], [[0.5, 1.0]], [[1.0, np.nan]]], dtype=np.float32)
    shown = picture(colours, (0.0, 1.0), palette).view(np.uint8).reshape(2, 4)
    assert shown[0].tolist() == [0, 188, 255, 255]  # half the light is 188 in sRGB
    assert shown[1, 3] == 0


def test_counts_are_scaled_as_they_are_stored(cubes: dict[str, Cube]) -> None:
    group: Any = zarr.open_group(cubes["bare"].storage.zarr(read_only=True), mode="r")
    stored = group["reflectance_sd"][2, 300, 300] * SCALE
    seen = view(cubes["bare"])
    assert seen.read(seen.subject("sd", 600), seen.levels[0])[0, 300, 300] == pytest.approx(stored)


def test_a_table_of_spectra_has_a_row_for_each_band(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["whole"])
    point, area = seen.spectrum(123, 456), seen.area([(50, 50), (50, 80), (80, 80)])
    nowhere = (1.0, 2.0, float("nan"), float("nan"))
    text = to_csv([("1", seen.place(123.5, 456.5), point), ("a, b", nowhere, area)], seen.bands)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 2 * len(BANDS)
    assert float(rows[3]["reflectance"]) == pytest.approx(point.reflectance[3], abs=1e-6)
    assert float(rows[3]["q95"]) == pytest.approx(point.layers["q95"][3], abs=1e-6)
    assert (float(rows[3]["x"]), float(rows[3]["y"])) == pytest.approx(seen.place(123.5, 456.5)[:2])
    assert [rows[at]["wavelength_nm"] for at in (0, 5)] == ["400", "900"]
    assert (rows[-1]["name"], rows[-1]["lon"], rows[-1]["q05"]) == ("a, b", "", "")
    assert rows[-1]["pixels"] == str(area.pixels)


def test_a_level_that_is_being_read_holds_up_no_other(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["bare"])
    level, first, begun = seen.levels[-1], threading.Event(), threading.Event()
    reads: list[str] = []

    class Slow(dict[str, Any]):
        """A store whose array ``valid`` comes late."""

        def __getitem__(self, name: str) -> Any:
            if name == "valid" and not first.is_set():
                begun.set()
                assert first.wait(10), "the other array is read meanwhile"
            reads.append(name)
            return group[name]

    group, seen.group = seen.group, Slow()
    with ThreadPoolExecutor(2) as pool:
        late = [pool.submit(seen._decimated, "valid", 0, level.factor) for _ in range(2)]
        assert begun.wait(10)
        seen._decimated("reflectance", 0, level.factor)
        first.set()
        both = [each.result() for each in late]
    assert both[0] is both[1]
    assert sorted(reads) == ["reflectance", "valid"]


def test_a_level_that_could_not_be_read_is_tried_again(cubes: dict[str, Cube]) -> None:
    seen = view(cubes["bare"])
    group, seen.group = seen.group, {}
    with pytest.raises(KeyError):
        seen._decimated("valid", 0, seen.levels[-1].factor)
    seen.group = group
    assert seen._decimated("valid", 0, seen.levels[-1].factor).any()
