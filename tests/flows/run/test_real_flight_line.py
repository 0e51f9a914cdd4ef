"""A real orthophoto, flown again as six strips: as a line it must give the cube of the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform
from scipy.ndimage import map_coordinates

from spectile.catalog.counts import SCALE
from spectile.catalog.inputs import Batch
from spectile.flows.run.execute import run_scene
from spectile.flows.run.line import prepare_line, run_line
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import LineSettings, SceneSettings
from spectile.pipeline.block.predict import BandsRepeat
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.geometry.grid import Window

BART = "neon/2019_BART_5_320000_4881000_image_crop.tif"
CROP = Window(400, 320, 300, 480)
AROUND = Window(250, 170, 600, 780)
"""What strips may show of the scene."""
GAINS = (0.90, 1.06, 0.95, 1.10, 0.98, 1.03)
"""Of the strips: their numbers are reflectance · gain · 1e4."""
DEGREES = (0.0, 7.0, -5.0, 2.5, -9.0, 4.0)
WIDTH, STEP, BORDER = 160, 80, 15
CRS = "EPSG:32619"
IN_OTHER_ZONE = 2
"""The strip that is in the next UTM zone."""
BORDERED = 4
"""The strip with a border of nodata."""

LEFT_IN = ["dn:0,0.0001"]
"""The radiometry that takes the strips' numbers as they are."""
ROUNDING = 1.5 * SCALE
"""Half a count in each of two cubes, and float32."""

Rgb = NDArray[np.float32]


@dataclass(frozen=True)
class Strip:
    """Numbers of the scene between its pixels, on a grid of the strip's own."""

    path: str
    valid: NDArray[np.bool_]
    """(h, w) on the crop's grid, whether the strip's pixel that holds the centre is there."""
    seen: Rgb
    """(3, h, w) reflectance on the crop's grid, interpolated in the strip; its gain is undone."""


@dataclass(frozen=True)
class Flown:
    """The crop, and the strips that lie over it."""

    whole: SceneSettings
    """Of the crop as a part of the orthophoto."""
    rgb: Rgb
    """(3, h, w) its reflectance."""
    strips: list[Strip]

    def line(self, **given: object) -> LineSettings:
        """The strips as a line on the crop's grid."""
        resolution = rasterio.open(self.whole.scene).res[0]
        said = {"block": 512, "crs": CRS, "resolution": resolution, "extent": self.whole.region, **given}
        paths = [strip.path for strip in self.strips]
        return LineSettings(scenes=paths, **{"out": "none.zarr", "model": "bands-repeat", **said})

    def declared(self) -> list[str]:
        """The radiometry with the gains, which are undone when strips are read."""
        return [f"{number}.tif=dn:0,{1e-4 / gain!r}" for number, gain in enumerate(GAINS)]


@pytest.fixture(scope="module")
def flown(data_dir, tmp_path_factory) -> Flown:
    folder = tmp_path_factory.mktemp("flown")
    settings = SceneSettings(scene=str(data_dir / BART), out=str(folder / "whole.zarr"), model="bands-repeat",
                             radiometry="display:0.5", block=512)  # fmt: skip
    source = prepare(settings).source
    place, crop = (source.grid.transform @ Affine.translation(each.col, each.row) for each in (AROUND, CROP))
    rgb = source.read(AROUND)[0]
    strips = [_fly(rgb, place, crop, number, folder) for number in range(len(GAINS))]
    (left, top), (right, bottom) = crop @ (0, 0), crop @ (CROP.width, CROP.height)
    return Flown(
        replace(settings, region=(left, bottom, right, top)), rgb[:, *CROP.relative_to(AROUND).slices], strips
    )


def _fly(rgb: Rgb, place: Affine, crop: Affine, number: int, folder: Path) -> Strip:
    """A strip over the crop, turned about its middle, half a pixel off the scene's pixels."""
    shape = CROP.height + 150, WIDTH
    crs = "EPSG:32618" if number == IN_OTHER_ZONE else CRS
    middle = crop @ (WIDTH // 4 + STEP * number + 0.5, CROP.height // 2 + 0.5)
    (x,), (y,) = transform(CRS, crs, *([each] for each in middle))
    grid = Affine.translation(x, y) @ Affine.scale(place.a, place.e) @ Affine.rotation(DEGREES[number])
    grid @= Affine.translation(-shape[1] / 2, -shape[0] / 2)
    values = _between(rgb, place, CRS, shape, grid, crs, order=3)
    numbers = np.clip(np.rint(values * (1e4 * GAINS[number])), 1, 65535).astype(np.uint16)
    there = np.ones(shape, dtype=bool)
    if number == BORDERED:
        there[:BORDER], there[-BORDER:], there[:, :BORDER], there[:, -BORDER:] = [False] * 4
        numbers *= there
    path = folder / f"{number}.tif"
    with rasterio.open(path, "w", driver="GTiff", count=3, height=shape[0], width=shape[1], dtype="uint16",
                       nodata=0 if number == BORDERED else None, crs=crs, transform=grid,
                       photometric="RGB") as dataset:  # fmt: skip
        dataset.write(numbers)
    back = {"grid": crop, "crs": CRS, "shape": CROP.shape}
    share = _between(there[None], grid, crs, order=1, **back)
    with np.errstate(invalid="ignore"):
        seen = _between(numbers * there, grid, crs, order=1, **back) / share * (1e-4 / GAINS[number])
    return Strip(str(path), _between(there[None], grid, crs, order=0, **back)[0] > 0, seen.astype(np.float32))


def _between(
    values: NDArray[np.generic], place: Affine, crs_there: str,
    shape: tuple[int, int], grid: Affine, crs: str, order: int,
) -> NDArray[np.float64]:  # fmt: skip
    """Splines through the pixels of ``values``, at the pixels of another grid; 0 beyond."""
    rows, cols = np.indices(shape)
    x, y = grid @ (cols.ravel() + 0.5, rows.ravel() + 0.5)
    x, y = map(np.asarray, transform(crs, crs_there, x, y)) if crs != crs_there else (x, y)
    col, row = ~place @ (x, y)
    at = [row - 0.5, col - 0.5]
    found = [map_coordinates(band.astype(float), at, order=order, mode="grid-constant") for band in values]
    return np.stack(found).reshape(-1, *shape)


@dataclass(frozen=True)
class Cubes:
    """Reflectance (48, h, w) on the crop's grid."""

    whole: Rgb
    """Of the orthophoto itself."""
    declared: Rgb
    """Of the line whose gains are declared."""
    left_in: Rgb
    """Of the line whose gains are not."""


@pytest.fixture(scope="module")
def cubes(flown, tmp_path_factory) -> Cubes:
    folder = tmp_path_factory.mktemp("cubes")
    whole, declared, left_in = (str(folder / f"{name}.zarr") for name in ("whole", "declared", "left_in"))
    run_scene(replace(flown.whole, out=whole))
    run_line(flown.line(out=declared, radiometry=flown.declared()))
    run_line(flown.line(out=left_in, radiometry=LEFT_IN))
    opened = [open_cube(path).reflectance for path in (whole, declared, left_in)]
    for cube in opened[1:]:
        assert np.allclose(cube.rio.transform(), opened[0].rio.transform(), rtol=0, atol=1e-6)
    return Cubes(*(cube.values for cube in opened))


def tell(what: str, values: Rgb) -> None:
    """Figures for docs/flight-lines.md, with ``pytest -s``."""
    median, most = np.quantile(values, (0.5, 0.95))
    print(f"\n{what}: median {median:.4f}, 95 % {most:.4f}, max {values.max():.4f}")


def bands(rgb: Rgb) -> Rgb:
    """What the model makes of (3, h, w) colours; a band mixes them with weights that sum to 1."""
    return next(BandsRepeat().predict(Batch.of_colours(rgb[None]), range(1)))[0]


@pytest.mark.data
def test_the_line_differs_from_the_whole_by_no_more_than_resampling(flown, cubes):
    """A weighted mean of strips differs no more than that strip which differs most."""
    bound = np.max([np.where(strip.valid, abs(strip.seen - flown.rgb), 0) for strip in flown.strips], axis=0)
    difference = cubes.declared - cubes.whole
    tell("bound", bands(bound))
    tell("gains declared, difference from the whole", abs(difference))
    assert (abs(difference) <= bands(bound) + ROUNDING).all()
    # Resampling takes from the texture alone: it leaves averages.
    blocks = difference.reshape(48, CROP.height // 10, 10, CROP.width // 10, 10).mean(axis=(2, 4))
    tell("the same of squares of 10 px", abs(blocks))
    assert np.sqrt((blocks**2).mean()) < 0.1 * np.sqrt((difference**2).mean())


@pytest.mark.data
def test_gains_that_are_not_declared_stay_between_those_of_the_strips(flown, cubes):
    raw = [gain * strip.seen for strip, gain in zip(flown.strips, GAINS, strict=True)]
    low = np.min(
        [np.where(strip.valid, seen, np.inf) for strip, seen in zip(flown.strips, raw, strict=True)], axis=0
    )
    high = np.max(
        [np.where(strip.valid, seen, 0) for strip, seen in zip(flown.strips, raw, strict=True)], axis=0
    )
    tell("gains left in, difference from the whole", abs(cubes.left_in - cubes.whole))
    assert (cubes.left_in >= bands(low) - ROUNDING).all()
    assert (cubes.left_in <= bands(high) + ROUNDING).all()


@pytest.mark.data
def test_no_strip_ends_in_a_seam(flown, cubes):
    ends = np.any([strip.valid[:, 1:] != strip.valid[:, :-1] for strip in flown.strips], axis=0)
    assert ends.sum() > 2000

    def seam(values: Rgb) -> float:
        """The sd of gradients across the ends of strips ÷ elsewhere, by that in the whole."""
        found = [np.diff(each, axis=2) for each in (values, cubes.whole)]
        line, whole = (each[:, ends].std() / each[:, ~ends].std() for each in found)
        return float(line / whole)

    first = prepare_line(flown.line(radiometry=LEFT_IN, combine="first")).source
    cut = seam(bands(first.read(first.grid.window)[0]))
    found = {"declared": seam(cubes.declared), "left in": seam(cubes.left_in), "left in, first": cut}
    print(f"\ngradients across the ends of strips: {found}")
    assert abs(found["declared"] - 1) < 0.06
    # The gains add little to what resampling does, where strips that are cut show their steps.
    assert abs(found["left in"] - found["declared"]) < 0.03
    assert cut - found["declared"] > 0.1


@pytest.mark.data
def test_the_line_lies_where_the_whole_does(cubes):
    side, green = 100, 15
    shifts = [
        shift(cubes.whole[green, row : row + side, col : col + side],
              cubes.left_in[green, row : row + side, col : col + side])
        for row in range(0, CROP.height - side + 1, side) for col in range(0, CROP.width - side + 1, side)
    ]  # fmt: skip
    print(f"\nshift of {len(shifts)} squares of {side} px: {np.abs(shifts).max():.3f} px at most")
    assert np.abs(shifts).max() < 0.5


def shift(one: Rgb, two: Rgb) -> tuple[float, float]:
    """Rows and columns by which ``two`` lies farther than ``one``, by phase correlation, px."""
    taper = np.outer(*(np.hanning(side) for side in one.shape))
    a, b = (np.fft.fft2((each - each.mean()) * taper) for each in (one, two))
    cross = b * a.conj()
    peaks = np.fft.ifft2(cross / np.maximum(np.abs(cross), 1e-12)).real
    at = np.unravel_index(peaks.argmax(), peaks.shape)
    found = []
    for axis in (0, 1):
        before, here, after = (np.roll(peaks, -step, axis)[at] for step in (-1, 0, 1))
        off = at[axis] + (before - after) / (2 * (before - 2 * here + after))
        found.append(float((off + one.shape[axis] / 2) % one.shape[axis] - one.shape[axis] / 2))
    return found[0], found[1]


def test_the_measure_finds_a_shift():
    scene = np.random.default_rng(0).random((140, 140)).cumsum(axis=0)
    assert shift(scene[20:120, 20:120], scene[17:117, 25:125]) == pytest.approx((3, -5), abs=0.2)
