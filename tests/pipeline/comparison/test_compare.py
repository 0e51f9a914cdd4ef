"""A cube beside a measurement: against whole arrays, on other grids, in other bands, at points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds

import spectile
from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.errors import SpectileError
from spectile.model.measure import metrics
from spectile.pipeline.block.mosaic import Mosaic
from spectile.pipeline.comparison import reference as references
from spectile.pipeline.comparison.comparison_picture import draw_comparison
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.write import create_cube, write_block
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.store.opening import open_storage

SHAPE = (300, 280)
HERE = Affine(0.5, 0, 320_000, 0, -0.5, 4_881_000)
UTM = CRS.from_epsg(32619)
BANDS = Bands.evenly_spaced(450, 850, 9)
DARK_ROWS = slice(20, 24)


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Path:
    """A cube with an interval of ± 0.02; its first rows are masked, some are dark, one pixel is zero."""
    path = tmp_path_factory.mktemp("compare") / "cube.zarr"
    grid = Grid(SHAPE, HERE, UTM.to_wkt())
    plan = Plan(grid, grid.window, Tiling(SHAPE, 256, 32), 512, len(BANDS), 4, ("q05", "q95"))
    made = create_cube(open_storage(path), plan, BANDS)
    rng = np.random.default_rng(3)
    mean = np.repeat(np.repeat(rng.uniform(0.1, 0.5, (9, 30, 28)), 10, axis=1), 10, axis=2)
    mean[:, DARK_ROWS] = 0.005
    mean[:, 50, 50] = 0
    mean = mean.astype(np.float32)
    around = np.array([-0.02, -0.02, 0.02, 0.02], np.float32)[:, None, None, None]
    valid = np.ones(SHAPE, dtype=bool)
    valid[:5] = False
    write_block(made, plan.blocks[0], Mosaic(mean + around * (mean > 0), valid, 1, 0))
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["spectile"]["status"] = "complete"
    (path / "zarr.json").write_text(json.dumps(root))
    return path


@pytest.fixture(scope="module")
def spectra(cube) -> np.ndarray:
    return open_cube(cube).reflectance.values


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a reference (B, rows, cols) with its bands."""

    def write(values, transform=HERE, *, bands=BANDS, crs=UTM, name="reference.tif", **more) -> Path:
        values = np.asarray(values, dtype=more.pop("dtype", np.float32))
        profile = {
            "driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2],
            "dtype": values.dtype, "crs": crs, "transform": transform, "nodata": np.nan, **more,
        }  # fmt: skip
        with rasterio.open(tmp_path / name, "w", **profile) as dataset:
            dataset.write(values)
            for at, (nm, width) in enumerate(zip(bands.centre_nm, bands.fwhm_nm, strict=True), 1):
                dataset.update_tags(at, wavelength=nm, fwhm=width, wavelength_units="nm")
        return tmp_path / name

    return write


def test_the_numbers_are_those_of_the_whole_arrays(cube, spectra, write, tmp_path, monkeypatch):
    truth = spectra + np.random.default_rng(0).normal(0, 0.02, spectra.shape).astype(np.float32)
    truth[:, 100:140, 30:60] = np.nan
    truth[:, DARK_ROWS] = 0.006
    found = spectile.compare(cube, write(truth), scale=1, picture=tmp_path / "p.png")
    known = np.isfinite(truth[0]) & np.isfinite(spectra[0])
    dark = known & (np.nan_to_num(truth).mean(axis=0) < 0.02)
    ours, theirs = torch.from_numpy(spectra), torch.from_numpy(truth)
    assert (found.way, found.bands_of, found.bands) == ("same grid", "cube", BANDS)
    assert (found.pixels, found.pixels_zero) == (known.sum(), 1)
    assert found.rmse == pytest.approx(metrics.rmse(theirs, ours, known), rel=1e-6)
    np.testing.assert_allclose(found.rmse_by_band, metrics.rmse_by_band(theirs, ours, known), rtol=1e-6)
    for angle, where in ((found.angle, known & ~dark), (found.angle_dark, dark)):
        assert angle == pytest.approx(metrics.spectral_angle(theirs, ours, where).radians, rel=1e-6)
    assert found.pixels_dark == dark.sum() == 4 * 280 + 1
    np.testing.assert_allclose(found.bias_by_band, (spectra - truth)[:, known].mean(axis=1), atol=1e-7)
    opened = open_cube(cube)
    low, high = (opened[f"reflectance_{name}"].values[:, known] for name in ("q05", "q95"))
    inside = (truth[:, known] >= low) & (truth[:, known] <= high)
    assert found.intervals.cover == pytest.approx(inside.mean(), abs=1e-9)
    np.testing.assert_allclose(
        found.intervals.width_by_band, (high - low).mean(axis=1, dtype=float), rtol=1e-5
    )
    assert np.isfinite(found.angle_map).sum() == known.sum() - 1
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["bands"][0].keys() >= {"nm", "rmse", "bias", "cover", "width"}
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    # However finely a reference is read, and with a map that is averaged down.
    monkeypatch.setattr(references, "SOURCE_BYTES", 60_000)
    monkeypatch.setattr("spectile.pipeline.comparison.comparison.MAP_SIDE", 100)
    again = spectile.compare(cube, write(truth), scale=1)
    assert again.rmse == pytest.approx(found.rmse, rel=1e-12)
    assert max(again.angle_map.shape) <= 100
    assert np.nanmean(again.angle_map) == pytest.approx(np.nanmean(found.angle_map), rel=0.05)


def test_finer_pixels_are_averaged_and_coarser_ones_are_nearest(cube, spectra, write):
    rng = np.random.default_rng(1)
    third = HERE @ Affine.scale(1 / 3)
    fine = np.repeat(np.repeat(spectra, 3, axis=1), 3, axis=2)
    noise = rng.normal(0, 0.05, fine.shape).astype(np.float32)
    found = spectile.compare(cube, write(fine + noise, third), scale=1)
    blocks = noise.reshape(9, 300, 3, 280, 3).mean(axis=(2, 4))[:, np.isfinite(spectra[0])]
    assert found.way == "area average"
    assert found.rmse == pytest.approx(np.sqrt(np.mean(blocks**2)), rel=1e-4)
    # Two pixels of the reference along five of the cube's, off its lattice: a plane stays a plane.
    uneven = HERE @ Affine.translation(10.3, 7.7) @ Affine.scale(0.4)
    rows, cols = np.indices((200, 220))
    plane = (uneven @ (cols + 0.5, rows + 0.5))[0] * 0.001 - 319.9
    found = spectile.compare(cube, write(np.stack([plane] * 9), uneven), scale=1)
    # Columns 10 to 97, rows 8 to 87: of those at an edge 0.7 px are covered, of the corner 0.49.
    middle = (80 * np.sum([10.67, *(np.arange(11, 98) + 0.5)]) - 10.67) / (80 * 88 - 1)
    assert found.mean_reference == pytest.approx((320_000 + 0.5 * middle) * 0.001 - 319.9, abs=1e-7)
    assert found.pixels == 88 * 80 - 1
    coarse = spectra[:, 5::10, 5::10]
    found = spectile.compare(cube, write(coarse, HERE @ Affine.scale(10)), scale=1)
    inside = np.isfinite(spectra[0]).copy()
    inside[20:30] = inside[50, 50] = False
    nearest = np.repeat(np.repeat(coarse, 10, axis=1), 10, axis=2)
    error = (spectra - nearest)[:, np.isfinite(spectra[0]) & np.isfinite(nearest[0])]
    assert (found.way, found.notes[0][:38]) == ("nearest", "a pixel of the reference covers 100 of")
    assert found.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert not (spectra - nearest)[:, inside].any(), "nothing is shifted"


def test_another_crs_and_a_part_of_the_cube(cube, spectra, write):
    west, south, east, north = transform_bounds(UTM, "EPSG:4326", 320_040, 4_880_900, 320_100, 4_880_960)
    there = Affine((east - west) / 300, 0, west, 0, (south - north) / 300, north)
    found = spectile.compare(cube, write(np.full((9, 300, 300), 0.25), there, crs="EPSG:4326"), scale=1)
    assert found.way == "area average"
    assert found.mean_reference == pytest.approx(0.25, abs=1e-6)
    rows, cols = np.indices(SHAPE)
    lon, lat = map(np.array, transform(UTM, "EPSG:4326", *(HERE @ (cols.ravel() + 0.5, rows.ravel() + 0.5))))
    inside = (lon > west) & (lon < east) & (lat > south) & (lat < north)
    assert found.pixels == pytest.approx(inside.sum(), rel=0.01)
    assert found.angle_map.shape[0] < 140, "the map shows what they share"
    turned = HERE @ Affine.translation(100, 100) @ Affine.rotation(30) @ Affine.scale(0.5)
    found = spectile.compare(cube, write(np.full((9, 100, 100), 0.25), turned), scale=1)
    assert found.mean_reference == pytest.approx(0.25, abs=1e-6)
    assert found.pixels == pytest.approx(50 * 50, rel=0.02)


def test_cubes_and_envi_files_are_references_too(cube, spectra, tmp_path):
    same = spectile.compare(cube, cube)
    assert (same.way, same.intervals.cover) == ("same grid", 1)
    assert same.rmse == pytest.approx(0, abs=1e-7)
    assert same.angle == pytest.approx(0, abs=1e-7)
    stored = np.nan_to_num(spectra * 1e4, nan=-9999).astype(np.int16)
    profile = {"driver": "ENVI", "count": 9, "height": 300, "width": 280, "dtype": "int16",
               "crs": UTM, "transform": HERE, "nodata": -9999}  # fmt: skip
    with rasterio.open(tmp_path / "r.img", "w", **profile) as dataset:
        dataset.write(stored)
    with (tmp_path / "r.hdr").open("a") as header:
        header.write(f"wavelength = {{{', '.join(f'{nm / 1000:g}' for nm in BANDS.centre_nm)}}}\n")
        header.write("wavelength units = Micrometers\nreflectance scale factor = 10000\n")
        header.write(f"bbl = {{{', '.join('110111111')}}}\n")
    found = spectile.compare(cube, tmp_path / "r.img")
    # In place of the bad band its neighbours are interpolated.
    assert (found.rmse_by_band < 1e-4).tolist() == [True, True, False] + [True] * 6
    assert found.pixels == np.isfinite(spectra[0]).sum() - 1, "what is zero in all bands is padding"


def test_bands_are_matched_and_those_that_are_not_covered_are_named(cube, spectra, write):
    fine = Bands.evenly_spaced(480, 1000, 105)
    flat = np.full((105, 300, 280), 0.3)
    found = spectile.compare(cube, write(flat, bands=fine), scale=1)
    assert (found.bands_of, found.cube_left_out_nm) == ("cube", (450,))
    assert found.bands.centre_nm == BANDS.centre_nm[1:]
    assert found.mean_reference == pytest.approx(0.3, abs=1e-6)
    assert found.reference_left_out_nm[0] > 900
    assert found.reference_left_out_nm[-1] == 1000
    wide = Bands((560.0, 665.0, 833.0, 1600.0), (110.0, 110.0, 110.0, 90.0))
    matrix, supported = resampling_matrix(BANDS, wide)
    assert supported.tolist() == [True, True, True, False]
    seen = np.tensordot(matrix[:3].astype(np.float32), spectra, axes=1)
    found = spectile.compare(cube, write(np.concatenate([seen, seen[:1]]), bands=wide), scale=1)
    assert (found.bands_of, found.reference_left_out_nm, found.intervals) == ("reference", (1600,), None)
    assert found.rmse == pytest.approx(0, abs=1e-6)
    assert "intervals" in found.notes[0]


TABLE = "name,x,y,450,500 nm,550,600,650,700,750,800,850,900\n"


def place(row: float, col: float) -> str:
    x, y = HERE @ (col, row)
    return f"{x},{y}"


def test_spectra_of_the_field(cube, spectra, tmp_path, write):
    table = tmp_path / "field.csv"
    values = ",".join(f"{value:.7f}" for value in [*spectra[:, 100, 200], 0.9])
    gap = ",".join(["", *(f"{value:.7f}" for value in [*spectra[1:, 12, 34], 0.9])])
    rows = [f"same,{place(100.5, 200.5)},{values}", f"gap,{place(12.2, 34.9)},{gap}",
            f"outside,{place(-3, 4)},{values}", f"masked,{place(2, 4)},{values}"]  # fmt: skip
    table.write_text(TABLE + "\n".join(rows) + "\n")
    found = spectile.compare(cube, table)
    same, other = found.points
    assert (found.way, found.pixels, found.points_left_out) == ("field spectra", 2, ("outside", "masked"))
    assert (same.name, same.row, same.col, same.pixels) == ("same", 100, 200, 1)
    assert (other.row, other.col) == (12, 34)
    assert same.rmse == pytest.approx(0, abs=1e-6)
    assert np.isnan(other.reference).tolist() == [True] + [False] * 8
    assert found.reference_left_out_nm == (900,)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))["points"][1]
    assert (told["name"], told["reference"][0], len(told["cube"])) == ("gap", None, 9)
    assert found.intervals.cover_by_band.shape == (9,)
    assert draw_comparison(found).startswith(b"\x89PNG")

    percent = tmp_path / "percent.csv"
    flat = ",".join(["30"] * 10)
    (lon,), (lat,) = transform(UTM, "EPSG:4326", *([side] for side in HERE @ (200.5, 100.5)))
    percent.write_text(TABLE.replace("x,y", "lon,lat") + f"roof,{lon:.9f},{lat:.9f},{flat}\n")
    with pytest.raises(SpectileError, match=r"not in reflectance \(got values up to 30.*--scale 0\.01"):
        spectile.compare(cube, percent)
    found = spectile.compare(cube, percent, scale=0.01, radius=3.2)
    (point,) = found.points
    assert (point.row, point.col, found.intervals) == (100, 200, None)
    rows, cols = np.indices(SHAPE)
    near = np.hypot(rows - 100, cols - 200) * 0.5 <= 3.2
    assert point.pixels == near.sum()
    np.testing.assert_allclose(point.cube, spectra[:, near].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(point.reference, 0.3, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "a table of field spectra has a line of headers"),
        ("x,y,500\n", "a table of field spectra has a line of headers"),
        ("x;y;500\n1;2;0.1\n", "separate columns by commas"),
        ("x,500,600\n1,2,3\n", "lacks coordinates or wavelengths"),
        ("x,y,0.5,0.6\n1,2,.1,.1\n", "not plausible"),
        ("x,y,red,500\n1,2,.1,.1\n", "unknown column"),
        ("x,y,500,500\n1,2,.1,.1\n", "a wavelength twice"),
        ("x,y,500\n1,2,.1\n", "one band alone needs its width"),
        ("x,y,500,600\n1,2,.1\n", "field.csv line 2: a line has another number of columns"),
        ("x,y,500,600\n1,2,a,.1\n", "what is no number"),
        ("x,y,500,600\nnan,2,.1,.1\n", "a place that is no number"),
        ("x,y,500,600\n1,2,,\n", "no spectrum of the table lies on a valid pixel"),
        ("x,y,500,600\n320001,1e400,.1,.1\n", "a place that is no number"),
        ("x,y,1500,1600\n320001,4880990,.1,.1\n", "no band in common"),
        ("\x00\n\x00\n", "lacks coordinates"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_in_one_line(cube, tmp_path, text, line):
    table = tmp_path / "field.csv"
    table.write_text(text)
    with pytest.raises(SpectileError) as refused:
        spectile.compare(cube, table)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_compared_is_refused_in_one_line(cube, spectra, write, tmp_path):
    def refused(match: str, reference: object, **options: object) -> None:
        with pytest.raises(SpectileError, match=match):
            spectile.compare(cube, str(reference), **options)  # type: ignore[arg-type]

    away = HERE @ Affine.translation(5000, 0)
    refused(r"no valid pixel on the cube \(got bounds .* in EPSG:32619, expected an overlap with",
            write(spectra, away), scale=1)  # fmt: skip
    refused("no valid pixel on the cube", write(np.full_like(spectra, np.nan)), scale=1)
    refused("does not say its scale", write(spectra))
    refused("no band in common", write(spectra, bands=Bands.evenly_spaced(1500, 1900, 9)), scale=1)
    refused("has no CRS", write(spectra, crs=None, name="b.tif"), scale=1)
    refused("the scale must be positive", write(spectra), scale=-1)
    refused("an option for tables", write(spectra), scale=1, radius=2.0)
    with rasterio.open(tmp_path / "bare.tif", "w", driver="GTiff", count=9, height=4, width=4,
                       dtype="float32", crs=UTM, transform=HERE) as dataset:  # fmt: skip
        dataset.write(np.full((9, 4, 4), 0.1, np.float32))
    refused("does not say its wavelengths", tmp_path / "bare.tif", scale=1)
    refused("wavelengths and bands do not match", tmp_path / "bare.tif", scale=1, bands=BANDS.subset([0, 1]))
    refused("no such file", tmp_path / "none.tif")
    refused("cannot be read", tmp_path / "none.zarr")
    refused("a folder is no reference", tmp_path)
    table = tmp_path / "field.csv"
    table.write_text(f"lon,lat,500,600\n{place(9, 9)},.1,.1\n")
    refused("lon and lat are on WGS 84", table, crs="EPSG:32619")
    refused("lies on a valid pixel", table)
    table.write_text(f"x,y,500,600\n{place(9, 9)},.1,.1\n")
    refused("the radius is too large", table, radius=1e6)
    refused("not a CRS that can be used", table, crs="EPSG:1")
    with pytest.raises(SpectileError, match="no cube of spectile here"):
        spectile.compare(tmp_path / "none", table)
