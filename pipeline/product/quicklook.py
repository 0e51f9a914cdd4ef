"""Pictures of a cube: a PNG to look at, with spectra, and a true-colour COG for any GIS."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import zarr
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from spectile.catalog.bands import Bands
from spectile.catalog.colour import (
    COLOUR_INFRARED_NM,
    Composite,
    colour_infrared,
    picture_gain,
    srgb_bytes,
    true_colour,
)
from spectile.pipeline.cube.record import load_plan
from spectile.pipeline.cube.shards import read_bands
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.plan.counts import decode
from spectile.pipeline.product.colour import (
    ONE_SAMPLE,
    is_one_sample,
    read_composite,
    response_of,
    scene_white,
)
from spectile.pipeline.product.points import choose_points, finest_level
from spectile.pipeline.store.base import Storage, stem

COG_SIDE = 2048
"""Rows and columns of the COG at most; larger cubes are averaged down."""
PNG_SIDE = 1536
"""The same of each picture in the PNG, which shows them on up to 700 pixels: a halved one has more."""


def quicklook_names(name: str) -> tuple[str, str]:
    """The names of the PNG and the COG that stand beside the cube of this name."""
    return f"{stem(name)}.quicklook.png", f"{stem(name)}.quicklook.tif"


def write_quicklook(storage: Storage) -> str:
    """Write both pictures beside the cube; the PNG's place.

    They are drawn from an overview, which must be there, so that the cube's size does not matter.

    Raises
    ------
    OSError, StoreError : the pictures cannot be written.
    """
    # Any: zarr types an item of a group as everything that it could be.
    group: Any = zarr.open_group(storage.zarr(read_only=True), mode="r", use_consolidated=False)
    wavelength = np.asarray(group["wavelength"][:])
    bands, plan = Bands.from_arrays(wavelength, group["fwhm"][:]), load_plan(storage)
    natural, white = true_colour(bands, response_of(plan.settings)), scene_white(plan)
    png, cog = quicklook_names(storage.name)
    beside = storage.parent
    step, level = finest_level(group, COG_SIDE)
    valid = level["valid"][:].astype(bool)
    colours = _picture(level, natural, valid, white)
    beside.put(cog, _cog(colours, valid, _grid(group, step, valid.shape)))
    if max(valid.shape) > PNG_SIDE:
        step, level = finest_level(group, PNG_SIDE)
        valid = level["valid"][:].astype(bool)
        colours = _picture(level, natural, valid, white)
    note = f"; {ONE_SAMPLE}" if is_one_sample(plan) else ""
    infrared = _picture(level, colour_infrared(bands), valid, None)
    beside.put(png, _png(colours, infrared, valid, _spectra(group, step), wavelength, note))
    return beside.at(png)


def _picture(
    level: Any, composite: Composite, valid: NDArray[np.bool_], white: float | None
) -> NDArray[np.uint8]:
    """SRGB bytes (3, h, w) of a level, black where it is not valid."""
    rows, cols = valid.shape
    read = partial(read_bands, level["reflectance"])
    light = read_composite(read, composite, (slice(0, rows), slice(0, cols)))
    light[:, ~valid] = 0
    return srgb_bytes(light * np.float32(1 / white if white else picture_gain(light[:, valid])))


def _grid(group: Any, step: int, shape: tuple[int, int]) -> Grid:
    from affine import Affine

    attributes = group.attrs
    transform = Affine(*attributes["spatial:transform"]) @ Affine.scale(step)
    return Grid(shape, transform, str(attributes["proj:wkt2"]))


def _cog(picture: NDArray[np.uint8], valid: NDArray[np.bool_], grid: Grid) -> bytes:
    profile = {
        "driver": "GTiff", "count": 3, "dtype": "uint8", "height": grid.shape[0], "width": grid.shape[1],
        "crs": grid.crs_wkt, "transform": grid.transform, "photometric": "RGB",
    }  # fmt: skip
    with MemoryFile() as memory, MemoryFile(ext=".tif") as cog:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), memory.open(**profile) as plain:
            plain.write(picture)
            plain.write_mask(valid)
        with memory.open() as plain:
            rasterio.shutil.copy(
                plain,
                cog.name,
                driver="COG",
                compress="DEFLATE",
                overview_resampling="average",
                num_threads="ALL_CPUS",
            )
        return bytes(cog.getbuffer())


def _spectra(group: Any, step: int) -> list[tuple[float, float, NDArray[np.float32]]]:
    """The numbered pixels and their spectra, as (row, col, (B,)) in pixels of the picture."""
    cube = group["reflectance"]
    return [(row / step, col / step, decode(cube[:, row, col])) for row, col in choose_points(group)]


def _png(
    colours: NDArray[np.uint8],
    infrared: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    spectra: list[tuple[float, float, NDArray[np.float32]]],
    wavelength: NDArray[np.float64],
    note: str,
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, cols = valid.shape
    height = float(np.clip(6.5 * rows / cols, 1.5, 7.0))
    figure = Figure(figsize=(15, 4.2 + height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    subfigures: Any = figure.subfigures(2, 1, height_ratios=[height, 4.2])
    top, bottom = subfigures
    panels = top.subplots(1, 2)
    titles = (
        "true colour, as the camera sees the cube",
        "colour infrared ({:.0f}, {:.0f}, {:.0f} nm)".format(*COLOUR_INFRARED_NM) + note,
    )
    for axes, picture, title in zip(panels, (colours, infrared), titles, strict=True):
        alpha = np.where(valid, 255, 0).astype(np.uint8)
        axes.imshow(np.dstack([*picture, alpha]), interpolation="antialiased")
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    plot = bottom.subplots()
    for number, (row, col, spectrum) in enumerate(spectra, 1):
        (line,) = plot.plot(wavelength, spectrum, linewidth=1.8, label=f"{number}")
        for axes in panels:
            axes.plot(col, row, "o", markersize=7, markerfacecolor=line.get_color(), markeredgecolor="white")
            axes.annotate(str(number), (col, row), xytext=(6, 6), textcoords="offset points", color="white",
                          fontsize=11, fontweight="bold")  # fmt: skip
    plot.set_xlabel("wavelength (nm)")
    plot.set_ylabel("estimated reflectance")
    plot.set_ylim(bottom=0)
    plot.grid(alpha=0.3)
    if spectra:
        plot.legend(title="point", ncols=6, fontsize=9)
    file = BytesIO()
    # Pictures are as noisy as photographs: trying harder takes three times as long and gains nothing.
    figure.savefig(file, format="png", pil_kwargs={"compress_level": 3})
    return file.getvalue()
