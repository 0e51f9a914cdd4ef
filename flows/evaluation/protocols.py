"""The evaluation protocols on scenes in sensor counts: which pixels are fitted, watched and tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from spectile.catalog.errors import SceneError
from spectile.pipeline.files.opening import open_raster
from spectile.pipeline.files.untrusted import check_decoded, reading_file
from spectile.pipeline.spectra.formats import h5_values

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Split:
    """A scene cut into parts that share no pixel; counts as float32."""

    training: Floats
    """(B, h, w) to fit on."""
    validation: Floats
    """(B, h, w') to choose by, of the same height."""
    tests: tuple[Floats, ...]
    """(B, …) images, opened once."""


@dataclass(frozen=True)
class Protocol:
    """How models are compared on one scene."""

    name: str
    """As on the command line."""
    bands: int
    """Of the scene."""
    rgb_bands: tuple[int, int, int]
    """Input bands R, G, B, numbered from 1."""
    peaks: tuple[float, ...]
    """Of the MPSNR, counts; the first is also the range of the MSSIM."""
    full_scale: float
    """Counts that models see as one."""
    mpsnr_without_input: bool
    """Whether the headline MPSNR leaves the input bands out, which a predictor can simply hand back."""
    cut: Callable[[Floats], Split]
    """(B, H, W) counts → parts."""
    split: str
    """The cut in words."""
    paper: Mapping[str, float] | None = None
    """What the paper reports, where the split is the paper's or stands in for it."""
    paper_of: str = "SCDM"
    """Which model's paper."""
    remarks: str = ""
    """What a reader of the table must know."""

    @property
    def input_bands(self) -> tuple[int, ...]:
        """Positions of the input bands, from 0."""
        return tuple(number - 1 for number in self.rgb_bands)


def _cut_houston_crop(cube: Floats) -> Split:
    _require_shape(cube, rows=128, cols=128, exact=True)
    return Split(cube[:, :, :72], cube[:, :, 72:96], (cube[:, :, 96:128],))


def _cut_pavia(cube: Floats) -> Split:
    """PC-40/8: 128² patches at columns 0, 128, 256, 384, 512 and 587 of rows 0 to 1023."""
    _require_shape(cube, rows=1024, cols=715)
    scene = cube[:, :1024, :715]
    tests = tuple(scene[:, row : row + 128, :128] for row in range(0, 1024, 128))
    return Split(scene[:, :, 128:587], scene[:, :, 587:], tests)


def _cut_houston(cube: Floats) -> Split:
    """27 patches of 512²: nine along the longer side, three across; the first three are the test."""
    if cube.shape[1] > cube.shape[2]:
        cube = cube.transpose(0, 2, 1)
    _require_shape(cube, rows=512, cols=2048)
    starts = sorted({0, (cube.shape[1] - 512) // 2, cube.shape[1] - 512})
    tests = tuple(cube[:, row : row + 512, :512] for row in starts)
    return Split(cube[:, :, 512:-512], cube[:, :, -512:], tests)


def _cut_houston_hyperldm(cube: Floats) -> Split:
    """HyperLDM's 12 test tiles of 256² in the first 512 rows.

    They are columns 512 to 1023, 1536 to 2047 and 2560 to 3071. To fit on and to choose by are the rows
    below, which share no pixel with them.
    """
    _require_shape(cube, rows=1024, cols=3584)
    tests = tuple(
        cube[:, row : row + 256, col : col + 256]
        for first in (512, 1536, 2560)
        for row in (0, 256)
        for col in (first, first + 256)
    )
    return Split(cube[:, 512:, :-512], cube[:, 512:, -512:], tests)


def _require_shape(cube: Floats, *, rows: int, cols: int, exact: bool = False) -> None:
    height, width = cube.shape[1:]
    fits = (height, width) == (rows, cols) if exact else height >= rows and width >= cols
    if not fits:
        expected = f"{'' if exact else 'at least '}{rows}×{cols} px"
        raise SceneError("not the protocol's scene", got=f"{height}×{width} px", expected=expected)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="houston-crop",
            bands=48,
            rgb_bands=(23, 12, 5),
            peaks=(65535.0,),
            full_scale=16000.0,
            mpsnr_without_input=True,
            cut=_cut_houston_crop,
            split="fitted on columns 0-71, chosen on 72-95, fitted again on 0-95, tested on 96-127",
            remarks="figures of a first trial were looked at on the test columns before this table was made",
        ),
        Protocol(
            name="pavia-pc40-8",
            bands=102,
            rgb_bands=(60, 30, 10),
            peaks=(8000.0, 10000.0),
            full_scale=8000.0,
            mpsnr_without_input=False,
            cut=_cut_pavia,
            split="rows 0-1023; fitted on columns 128-586, chosen on 587-714, fitted again on 128-714, "
            "tested on the eight 128-px patches of columns 0-127",
            paper={"rmse": 172.42, "sam": 0.1042, "mssim": 0.9509, "mpsnr": 36.496},
            remarks="the paper does not state its peak nor which eight patches it tests on",
        ),
        Protocol(
            name="houston-2018",
            bands=48,
            rgb_bands=(23, 12, 5),
            peaks=(65535.0,),
            full_scale=16000.0,
            mpsnr_without_input=False,
            cut=_cut_houston,
            split="along the longer side: tested on three 512-px patches at its start, chosen on its last "
            "512 px, fitted on what lies between, then on both",
            paper={"rmse": 359.48, "sam": 0.0672, "mssim": 0.9887, "mpsnr": 47.207},
            remarks="the paper does not state which three patches it tests on; ours overlap each other where "
            "the scene is narrower than 1536 px, and share no pixel with the others",
        ),
        Protocol(
            name="houston-2018-hyperldm",
            bands=48,
            rgb_bands=(23, 12, 5),
            peaks=(65535.0,),
            full_scale=16000.0,
            mpsnr_without_input=False,
            cut=_cut_houston_hyperldm,
            split="tested on 12 tiles of 256 px, columns 512-1023, 1536-2047 and 2560-3071 of rows 0-511; "
            "fitted on the rows from 512 but for the last 512 columns, chosen on those, then fitted on both",
            paper={"rmse": 515.99, "sam": 0.0724, "mssim": 0.9797, "mpsnr": 44.736},
            paper_of="HyperLDM",
            remarks="the tiles' places are the paper's own; it trained on the rest of rows 0-511 too, "
            "which is left out here",
        ),
    )
}
"""The protocols in counts by name."""


def read_counts(path: Path, *bands: int) -> Floats:
    """The (B, H, W) counts in a MATLAB file (any version) or a raster that GDAL opens.

    Parameters
    ----------
    path : ``.mat``, or any raster.
    bands : which of a MATLAB file's arrays is meant, by its number of bands; one of these.

    Raises
    ------
    SceneError
        Where the file cannot be read or holds not one array with so many bands.
    """
    if not path.exists():
        raise SceneError("no such file", where=str(path))
    with reading_file(path):
        cubes = _matlab_cubes(path) if path.suffix.lower() == ".mat" else [_raster(path)]
    fitting = [cube for cube in cubes if cube.shape[0] in bands]
    if len(fitting) != 1:
        shapes = ", ".join("×".join(map(str, cube.shape)) for cube in cubes) or "no array of three axes"
        raise SceneError(
            "not the protocol's scene", where=path.name, got=shapes,
            expected=f"one of {' or '.join(map(str, bands))} bands",
        )  # fmt: skip
    counts: Floats = fitting[0].astype(np.float32)
    if not np.isfinite(counts).all():
        raise SceneError("the scene holds NaN or infinity", where=path.name)
    return counts


def _matlab_cubes(path: Path) -> list[NDArray[np.generic]]:
    """Every array of three axes as (B, H, W); MATLAB has bands last."""
    if h5py.is_hdf5(path):
        # Version 7.3 is HDF5, which lists MATLAB's axes the other way round: bands, columns, rows.
        with h5py.File(path) as file:
            arrays = [
                h5_values(file, item) for item in list(file.values())
                if isinstance(item, h5py.Dataset) and item.ndim == 3
            ]  # fmt: skip
        return [array.transpose(0, 2, 1) for array in arrays]
    arrays = [value for value in loadmat(path).values() if isinstance(value, np.ndarray) and value.ndim == 3]
    return [np.moveaxis(array, -1, 0) for array in arrays]


def _raster(path: Path) -> NDArray[np.generic]:
    with open_raster(str(path)) as source:
        check_decoded(path, (source.count, *source.shape), source.dtypes[0])
        counts: NDArray[np.generic] = source.read()
    return counts
