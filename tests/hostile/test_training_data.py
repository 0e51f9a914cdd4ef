"""Files that others give to train on: one line before the first step, no other file, bounded memory."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
from scipy.io import savemat

from benchmarks.fuzz_inputs import change, spoil
from spectile.catalog.errors import SceneError, SpectileError, UsageError
from spectile.flows.evaluation.protocols import read_counts
from spectile.flows.training.data import build_scenes
from spectile.flows.training.recipe import Recipe, read_recipe
from spectile.flows.training.sources import LibrarySource, SceneSource
from spectile.pipeline.comparison.reference import open_reference
from spectile.pipeline.spectra.formats import Layout
from spectile.pipeline.spectra.hyperspectral import read_bands, read_hyperspectral
from spectile.pipeline.spectra.libraries import read_field_spectra, read_responses, read_spectral_library
from tests.hostile.servers import listening
from tests.hostile.test_scene_formats import _vrt_of, _web_service, secret  # noqa: F401

NM = np.arange(400.0, 1000.0, 50.0)
CUBE = np.random.default_rng(0).integers(100, 5000, (6, 5, len(NM))).astype(np.int16)
HUGE = 10**6


def _tif(folder: Path) -> Path:
    path = folder / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=len(NM), height=6, width=5, dtype="int16", crs="EPSG:32618",
        transform=rasterio.Affine(1, 0, 500_000, 0, -1, 5_000_000),
    ) as file:  # fmt: skip
        file.write(np.moveaxis(CUBE, -1, 0))
        for band, nm in enumerate(NM, 1):
            file.update_tags(band, wavelength=str(nm), wavelength_units="Nanometers")
    return path


def _envi(folder: Path) -> Path:
    np.ascontiguousarray(np.moveaxis(CUBE, -1, 0)).tofile(folder / "a.img")
    (folder / "a.hdr").write_text(
        f"ENVI\nsamples = 5\nlines = 6\nbands = {len(NM)}\ndata type = 2\ninterleave = bsq\nbyte order = 0\n"
        f"wavelength units = Nanometers\nwavelength = {{{', '.join(map(str, NM))}}}\n"
    )
    return folder / "a.img"


def _mat(folder: Path) -> Path:
    savemat(folder / "a.mat", {"cube": CUBE, "wavelengths": NM, "more": {"a": [1, "x"]}}, do_compression=True)
    return folder / "a.mat"


def _h5(folder: Path, name: str = "a.h5") -> Path:
    with h5py.File(folder / name, "w") as file:
        file.create_dataset("cube", data=CUBE, chunks=(6, 5, 2), compression="gzip")
        file.create_dataset("nm", data=NM)
    return folder / name


def _zarr(folder: Path, version: int = 3) -> Path:
    array = xr.DataArray(
        np.moveaxis(CUBE, -1, 0), dims=("wavelength", "y", "x"), coords={"wavelength": NM}, name="cube"
    )
    array.to_dataset().to_zarr(folder / "a.zarr", consolidated=False, zarr_format=version)
    return folder / "a.zarr"


def _sli(folder: Path) -> Path:
    np.full((5, len(NM)), 0.3, dtype="<f4").tofile(folder / "a.sli")
    (folder / "a.hdr").write_text(
        f"ENVI\nsamples = {len(NM)}\nlines = 5\ndata type = 4\nwavelength units = Nanometers\n"
        f"wavelength = {{{', '.join(map(str, NM))}}}\nspectra names = {{a 1, b 2, c 3, d 4, e 5}}\n"
    )
    return folder / "a.sli"


def _csv(folder: Path) -> Path:
    rows = [f"{nm},10,{number}" for number, nm in enumerate(NM)]
    (folder / "a.csv").write_text("wavelength,fwhm,c\n" + "\n".join(rows))
    return folder / "a.csv"


def _rows(folder: Path) -> Path:
    rows = [",".join(["oak", *(f"{number / 10}" for _ in NM)]) for number in range(5)]
    (folder / "a.csv").write_text("\n".join([",".join(["tree", *map(str, NM)]), *rows]))
    return folder / "a.csv"


NAMED = Layout(dataset="cube", wavelengths="nm")
FILES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "GeoTIFF": (_tif, lambda path: read_hyperspectral(path, scale=1e-4)),
    "ENVI": (_envi, lambda path: read_hyperspectral(path, scale=1e-4)),
    "MATLAB": (_mat, lambda path: read_hyperspectral(path, scale=1e-4)),
    "HDF5": (_h5, lambda path: read_hyperspectral(path, layout=NAMED, scale=1e-4)),
    "Zarr v3": (_zarr, lambda path: read_hyperspectral(path, scale=1e-4)),
    "Zarr v2": (lambda folder: _zarr(folder, 2), lambda path: read_hyperspectral(path, scale=1e-4)),
    "library": (_sli, read_spectral_library),
    "raster as library": (_envi, read_spectral_library),
    "table of spectra": (_rows, read_spectral_library),
    "table of bands": (_csv, read_bands),
    "table of curves": (_csv, lambda path: read_responses(path, (1, 2, 1))),
    "protocol": (_mat, lambda path: read_counts(path, len(NM))),
}


def refused(read: Callable[[Path], object], path: Path, said: str = "") -> str:
    with pytest.raises(SceneError, match=said) as caught:
        read(path)
    assert len(str(caught.value)) < 1500
    assert str(caught.value).isprintable()
    return str(caught.value)


# zarr warns of folders without metadata; rasterio cannot show a message of GDAL that quotes odd bytes.
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    make, read = FILES[kind]
    made = make(tmp_path)
    read(made)
    files = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    lines = []
    for seed in range(25):
        chance = random.Random(f"{kind} {seed}")
        path, whole = chance.choice(list(files.items()))
        as_json = whole.startswith(b"{") and chance.random() < 0.8
        path.write_bytes(
            json.dumps(change(json.loads(whole), chance)).encode() if as_json else spoil(whole, chance)
        )
        try:
            read(made)
        except SpectileError as err:
            lines.append(str(err))
        path.write_bytes(whole)
    assert lines
    assert all(line.isprintable() and len(line) < 1500 for line in lines)


def test_another_format_under_the_name_of_a_raster_is_not_opened(tmp_path: Path, secret: Path) -> None:  # noqa: F811
    with listening() as server:
        for name, text in (("a.tif", _vrt_of(secret)), ("b.tif", _web_service(server.url))):
            (tmp_path / name).write_text(text)
            for read in (lambda path: read_hyperspectral(path, scale=1.0), lambda path: read_counts(path, 3)):
                refused(read, tmp_path / name, "not a raster that can be opened")
        (tmp_path / "c.img").write_text(_vrt_of(secret))
        (tmp_path / "c.hdr").write_text("samples = 9")
        refused(read_hyperspectral, tmp_path / "c.img", "not a raster that can be opened")
        assert server.requests == []


def test_hdf5_arrays_in_other_files_are_not_read(tmp_path: Path, secret: Path) -> None:  # noqa: F811
    other = _h5(tmp_path, "other.h5")

    def link(file: h5py.File) -> None:
        file["cube"] = h5py.ExternalLink(str(other), "cube")

    def group(file: h5py.File) -> None:
        file["cube"] = h5py.SoftLink("there/cube")
        file["there"] = h5py.ExternalLink(str(other), "/")

    def storage(file: h5py.File) -> None:
        file.create_dataset("cube", (6, 5, len(NM)), "i2", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(CUBE.shape, "i2")
        layout[:] = h5py.VirtualSource(str(other), "cube", CUBE.shape)
        file.create_virtual_dataset("cube", layout)

    for name, read in (
        ("a.h5", lambda path: read_hyperspectral(path, layout=Layout(dataset="cube"), scale=1.0)),
        ("a.mat", lambda path: read_hyperspectral(path, layout=Layout(dataset="cube"), scale=1.0)),
        ("a.mat", lambda path: read_counts(path, len(NM))),
    ):
        for lead in (link, group, storage, virtual):
            with h5py.File(tmp_path / name, "w") as file:
                lead(file)
            if (lead, name) != (group, "a.mat"):  # of which only arrays at the top are listed
                refused(read, tmp_path / name, "refers to other files")


def test_a_file_that_claims_more_than_its_bytes_can_be_is_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("cube", (HUGE, HUGE, 6), "f4", chunks=(64, 64, 6))
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file.create_dataset("cube", (6, HUGE, HUGE), "f4", chunks=(6, 64, 64))
    layout = Layout(dataset="cube")
    refused(lambda path: read_hyperspectral(path, layout=layout, scale=1.0), tmp_path / "a.h5", "too few")
    refused(lambda path: read_hyperspectral(path, layout=layout, scale=1.0), tmp_path / "a.mat", "too few")
    refused(lambda path: read_counts(path, 6), tmp_path / "a.mat", "too few")
    sparse = tmp_path / "a.tif"
    with rasterio.open(
        sparse, "w", driver="GTiff", count=3, height=30_000, width=30_000, dtype="int16", crs="EPSG:32618",
        transform=rasterio.Affine(1, 0, 500_000, 0, -1, 5_000_000), tiled=True, sparse_ok=True,
    ):  # fmt: skip
        pass
    refused(lambda path: read_hyperspectral(path, scale=1.0), sparse, "too few")
    refused(lambda path: read_counts(path, 3), sparse, "too few")
    path = _zarr(tmp_path)
    for key, value in (("shape", [12, HUGE, HUGE]), ("chunk_grid", {"name": "regular", "configuration": {
        "chunk_shape": [12, HUGE, HUGE]}})):  # fmt: skip
        metadata = path / "cube/zarr.json"
        before = metadata.read_text()
        metadata.write_text(json.dumps({**json.loads(before), key: value}))
        refused(lambda path: read_hyperspectral(path, scale=1.0), path, "too few")
        metadata.write_text(before)
    library = _sli(tmp_path)
    header = library.with_suffix(".hdr")
    for lines in (HUGE**2, -1, 0):
        header.write_text(header.read_text().replace("lines = 5", f"lines = {lines}"))
        refused(read_spectral_library, library, "not in the file")
        header.write_text(header.read_text().replace(f"lines = {lines}", "lines = 5"))


def test_objects_of_python_and_links_in_a_store_are_left_alone(tmp_path: Path) -> None:
    path = _zarr(tmp_path, 2)
    (path / "fwhm").mkdir()
    told = {
        "zarr_format": 2, "shape": [12], "chunks": [12], "dtype": "|O", "compressor": None, "fill_value": "",
        "filters": [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}], "order": "C",
    }  # fmt: skip
    (path / "fwhm/.zarray").write_text(json.dumps(told))
    (path / "fwhm/.zattrs").write_text('{"_ARRAY_DIMENSIONS": ["wavelength"]}')
    (path / "fwhm/0").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    assert read_hyperspectral(path, scale=1e-4).valid.all()
    # With what a comparison takes: the same store has no place on the map.
    with pytest.raises(SceneError, match="no CRS"), open_reference(path, scale=1e-4):
        pass
    assert not (tmp_path / "ran").exists()
    chunk = path / "cube/0.0.0"
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    refused(lambda path: read_hyperspectral(path, scale=1e-4), path, "a link leads out of the store")


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.tif", "a.h5", "a.mat", "a.csv", "a.sli", "a.hdr", "a.toml"):
        os.mkfifo(tmp_path / name)
    for name in ("a.tif", "a.h5", "a.mat"):
        refused(read_hyperspectral, tmp_path / name, "not a file")
    refused(read_field_spectra, tmp_path / "a.csv", "not a file")
    refused(lambda path: read_counts(path, 3), tmp_path / "a.mat", "not a file")
    refused(read_bands, tmp_path / "a.csv", "not a file")
    refused(lambda path: read_responses(path, (1, 2, 3)), tmp_path / "a.csv", "not a file")
    refused(read_spectral_library, tmp_path / "a.sli", "no ENVI header")
    with pytest.raises(UsageError, match="not a file"):
        read_recipe(tmp_path / "a.toml")


def test_a_header_of_many_lines_takes_no_time(tmp_path: Path) -> None:
    library = _sli(tmp_path)
    for text in ("\n" * HUGE, " " * HUGE, "a = {\n" * (HUGE // 6), "a" * HUGE):
        library.with_suffix(".hdr").write_text(text)
        refused(read_spectral_library, library, "does not describe the library")
    with library.with_suffix(".hdr").open("wb") as file:
        file.truncate(10**9)
    refused(read_spectral_library, library, "too large")


def test_values_that_training_cannot_hold_are_refused(tmp_path: Path) -> None:
    for value, said in (
        (np.nan, "no pixel is valid"),
        (np.inf, "no pixel is valid"),
        (1e9, "is no reflectance"),
    ):
        cube = np.full((*CUBE.shape[:2], len(NM)), 0.3, np.float32)
        cube[..., 3] = value
        if np.isfinite(value):
            cube[1:, :, 3] = 0.3
        savemat(tmp_path / "a.mat", {"cube": cube, "wavelengths": NM})
        source = SceneSource(path="a.mat", name="a", licence="a", scale=1.0)
        recipe = Recipe(name="a", scenes=(source,))
        with pytest.raises(SceneError, match=said) as caught:
            build_scenes(recipe, recipe.config(), tmp_path)
        assert "\n" not in str(caught.value)
    np.full((5, len(NM)), np.nan, dtype="<f4").tofile(_sli(tmp_path))
    library = LibrarySource(path="a.sli", name="a", licence="a")
    with pytest.raises(UsageError, match="no spectrum is left"):
        build_scenes(replace(recipe, scenes=(), libraries=(library,)), recipe.config(), tmp_path)


SIMULATOR, SCENE = "[simulator]\n", '[[scenes]]\npath = "a"\nname = "a"\nlicence = "a"\n'
LIBRARY = SCENE.replace("scenes", "libraries")


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        (SIMULATOR, ("scenes = 0", "scenes = 1000000000", "validation = -1", "size = 100000", "size = 0",
                     "pixel_sizes_m = []", "pixel_sizes_m = [0.0]", "pixel_sizes_m = [nan]",
                     "sun_elevations_deg = []", "sun_elevations_deg = [-5.0]", "weight = nan",
                     "weight = -1")),
        (SCENE, ("scale = nan", "scale = 0", "scale = -1e-4", "zoom = 0", "zoom = -2", "zoom = 1000000",
                 "held_out_columns = -1", "gap_columns = -9", "weight = inf", "despike = 0",
                 "good_nm = [nan, 1.0]", "bad_nm = [[1.0]]")),
        (LIBRARY, ("scenes = 0", "size = -1", "cell = 0", "cell = 500", "held_out = 2.0", "held_out = nan",
                   "weight = 0")),
        ("", ("samples = 0", "crops = -1", "sensor = {first_nm = 400, last_nm = 900, count = 1000000000}",
              "sensor = {first_nm = nan, last_nm = 900, count = 9}", "scenes = 7", 'scenes = "a"',
              "responses = [{nearest_nm = [nan, 1.0, 2.0]}]", "training = []")),
        ("[training]\n", tuple(f"augmentation = {value}" for value in ("7", "true", "nan", '"x"', "[]"))),
    ],
)  # fmt: skip
def test_a_number_of_a_recipe_that_cannot_be_is_refused(
    tmp_path: Path, table: str, lines: tuple[str, ...]
) -> None:
    for line in lines:
        (tmp_path / "a.toml").write_text(f'name = "a"\n{table}{line}\n')
        with pytest.raises(UsageError) as caught:
            read_recipe(tmp_path / "a.toml")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for glob in ("", "/etc/*", "**a"):
        source = SceneSource(path="folder", name="a", licence="a", glob=glob)
        recipe = Recipe(name="a", scenes=(source,))
        with pytest.raises(SceneError):
            build_scenes(recipe, recipe.config(), tmp_path)
