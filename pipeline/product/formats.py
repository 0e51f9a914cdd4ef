"""How each format is written, square by square; a part of a cube is never in memory as a whole."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterWindow

from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.plan.layers import ENDMEMBER
from spectile.pipeline.plan.plan import CHUNK, SHARD
from spectile.pipeline.product.part import Format, Part

Read = Callable[[Window], NDArray[Any]]
"""The values of one of a part's ``windows``, (bands, h, w)."""

_RASTER: dict[str, Any] = {
    "GDAL_CACHEMAX": 32 * 2**20,  # bytes; rasterio does not take megabytes as GDAL does
    # Raw files are written where the pixels belong; the cache would read and write whole lines each time.
    "GDAL_ONE_BIG_READ": "YES",
}


def write_geotiff(part: Part, path: Path, read: Read) -> None:
    """A tiled GeoTIFF, band by band, so that one band is read without the others."""
    with rasterio.Env(**_RASTER):
        _write_raster(
            part, path, read, "GTiff", tiled=True, blockxsize=CHUNK, blockysize=CHUNK, interleave="band",
            **_tiff(part),
        )  # fmt: skip


def write_cog(part: Part, path: Path, read: Read) -> None:
    """A cloud-optimised GeoTIFF with overviews, averaged over pixels that are not nodata.

    GDAL makes it of a raster that is there, so that a plain one stands on the disk meanwhile. Its overviews
    are made there, band by band: GDAL's COG driver would take all bands at once.
    """
    side = max(part.grid.shape)
    factors = [2**level for level in range(1, 32) if side > 2 ** (level - 1) * SHARD]
    plain = path.with_name(f".{path.name}.plain")
    with rasterio.Env(**_RASTER):
        write_geotiff(part, plain, read)
        with rasterio.open(plain, "r+") as dataset:
            dataset.build_overviews(factors, Resampling.average)
        # Small rasters have none yet, which the driver then makes itself, cubic unless it is told.
        rasterio.shutil.copy(
            plain, path, driver="COG", blocksize=CHUNK, overview_resampling="average", **_tiff(part)
        )
        rasterio.shutil.delete(plain)


def write_envi(part: Part, path: Path, read: Read) -> None:
    """Raw numbers, interleaved by line, and the header beside them."""
    header: dict[str, str] = {}
    if part.bands is not None:
        header |= {
            "wavelength_units": "Nanometers",
            "wavelength": _braces(part.bands.centre_nm),
            "fwhm": _braces(part.bands.fwhm_nm),
        }
        if part.scale is not None:
            header["reflectance_scale_factor"] = f"{1 / part.scale:.10g}"  # divides, unlike the others'
    with rasterio.Env(**_RASTER):
        _write_raster(part, path, read, "ENVI", header, interleave="bil")
    # GDAL always describes the data by their path.
    written = path.with_suffix(".hdr")
    described = f"description = {{{part.facts['title']}}}".encode()
    written.write_bytes(
        re.sub(rb"description = \{\n.*\}", lambda _: described, written.read_bytes(), count=1)
    )


def _write_raster(
    part: Part, path: Path, read: Read, driver: str, header: Mapping[str, str] | None = None,
    **options: Any,
) -> None:  # fmt: skip
    # rioxarray's to_raster was tried. It writes no tags of bands: the file must be opened again for them,
    # which breaks the layout of a COG and saves no line for the others. With dask it took 415 to 448 MB
    # where this takes 302, growing with the scene; without, 319 MB and a third more time.
    count, rows, cols = part.shape
    with rasterio.open(
        path, "w", driver=driver, count=count, height=rows, width=cols, dtype=part.dtype,
        crs=part.grid.crs_wkt, transform=part.grid.transform, nodata=part.nodata, **options,
    ) as dataset:  # fmt: skip
        dataset.update_tags(**{name.upper(): value for name, value in part.facts.items()})
        if header is not None:
            dataset.update_tags(ns="ENVI", **header)
        if part.scale is not None:
            dataset.scales, dataset.offsets = (part.scale,) * count, (0.0,) * count
        for band, name in enumerate(part.names, 1):
            dataset.set_band_description(band, name)
        if part.bands is not None:
            for band, (centre, width) in enumerate(
                zip(part.bands.centre_nm, part.bands.fwhm_nm, strict=True), 1
            ):
                dataset.update_tags(
                    band, ns="IMAGERY",
                    CENTRAL_WAVELENGTH_UM=f"{centre / 1000:.8g}", FWHM_UM=f"{width / 1000:.8g}",
                )  # fmt: skip
        for square in part.windows():
            at = RasterWindow(square.col, square.row, square.width, square.height)
            dataset.write(read(square), window=at)


def _tiff(part: Part) -> dict[str, Any]:
    """How TIFFs are compressed, the predictor being that of integers or floats."""
    return {"compress": "DEFLATE", "predictor": 3 if part.dtype.kind == "f" else 2, "BIGTIFF": "IF_SAFER"}


def _braces(numbers: tuple[float, ...]) -> str:
    return "{" + ", ".join(f"{number:.8g}" for number in numbers) + "}"


class _KeepsItsError(io.FileIO):
    """A file that keeps errors for ``check``: HDF5 crashes the process at its end if a write raises."""

    error: OSError | None = None
    """The first error."""

    def write(self, data: Any) -> int:
        """Write all of it; write nothing more after a failure."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.error is None:
            try:
                left = left[super().write(left) :]
            except OSError as err:
                self.error = err
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the length, unless a write has failed."""
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as err:
                self.error = err
        return size or 0

    def check(self) -> None:
        """Raise the error that was kept."""
        if self.error is not None:
            raise self.error


def write_netcdf(part: Part, path: Path, read: Read) -> None:
    """NetCDF-4 by the CF conventions, compressed by chunks."""
    with _KeepsItsError(path, "w+") as disk:

        def read_on(square: Window) -> NDArray[Any]:
            disk.check()
            return read(square)

        dataset = _dataset(part, read_on)
        for name, array in dataset.variables.items():
            array.attrs = _plain(array.attrs, part.dtype if name == part.layer else None)
        dataset[part.layer].encoding = {
            "chunksizes": _chunks(part), "zlib": True, "complevel": 4, "shuffle": True,
        }  # fmt: skip
        with dask.config.set(scheduler="synchronous"):
            dataset.to_netcdf(disk, engine="h5netcdf")
        disk.check()  # of what was written on closing


def write_zarr2(part: Part, path: Path, read: Read) -> None:
    """A Zarr v2 group without shards, which GDAL reads from 3.4 on, and xarray."""
    from numcodecs import Blosc

    dataset = _dataset(part, read)
    dataset[part.layer].attrs["_CRS"] = {"wkt": part.grid.crs_wkt}  # where GDAL looks
    dataset[part.layer].encoding = {
        "chunks": _chunks(part), "compressors": Blosc(cname="zstd", clevel=3, shuffle=Blosc.BITSHUFFLE),
    }  # fmt: skip
    with dask.config.set(scheduler="synchronous"):
        dataset.to_zarr(path, zarr_format=2, consolidated=True)


def _dataset(part: Part, read: Read) -> xr.Dataset:
    """The part as xarray has it; whoever writes it on one thread reads a square at a time."""
    deep = part.axis is not None

    def block(block_info: Any) -> NDArray[Any]:
        (row, row_stop), (col, col_stop) = block_info[None]["array-location"][-2:]
        values = read(Window(row, col, row_stop - row, col_stop - col))
        return values if deep else values[0]

    squares = part.windows()
    sides = [
        tuple(at.height for at in squares if at.col == 0),
        tuple(at.width for at in squares if at.row == 0),
    ]
    dimensions = ("y", "x") if part.axis is None else (part.axis, "y", "x")
    values = dask.array.map_blocks(  # type: ignore[no-untyped-call]
        block, chunks=((part.shape[0],), *sides)[-len(dimensions) :], dtype=part.dtype,
        meta=np.empty((0,) * len(dimensions), part.dtype),
    )  # fmt: skip
    fill = {} if part.nodata is None else {"_FillValue": part.dtype.type(part.nodata)}
    corner = " ".join(repr(float(number)) for number in part.grid.transform.to_gdal())
    mapping = {**part.source["spatial_ref"].attrs, "GeoTransform": corner}
    index: dict[str, Any] = dict(zip("yx", part.window.slices, strict=True))
    lines = {"y": "y", "x": "x"}
    if part.bands is not None:
        index["wavelength"] = list(part.chosen or ())
        lines |= {"wavelength": "wavelength", "fwhm": "wavelength"}
    layer = (dimensions, values, _attributes(part) | fill)
    return xr.Dataset(
        {part.layer: layer, "spatial_ref": ((), np.int32(0), mapping)},
        {
            name: (
                dimension, part.source[name][:][index[dimension]], dict(part.source[name].attrs),
                {"_FillValue": None},
            )
            for name, dimension in lines.items()
            if name in part.source
        }
        | ({ENDMEMBER: (ENDMEMBER, np.array(part.endmembers))} if part.endmembers else {}),
        {"Conventions": "CF-1.11", **part.facts},
    )  # fmt: skip


def _chunks(part: Part) -> tuple[int, ...]:
    """The cube's own, no larger than the part."""
    return tuple(
        min(chunk, size)
        for chunk, size in zip(part.array.chunks, part.shape[-part.array.ndim :], strict=True)
    )


def _attributes(part: Part) -> dict[str, Any]:
    """What the cube says of the layer, with how the values are stored here."""
    untrue = {"ancillary_variables", "_FillValue", "coordinates", "statistics"}
    if part.scale is None:
        untrue |= {"scale_factor", "valid_range"}
    kept = {name: value for name, value in part.array.attrs.items() if name not in untrue}
    return kept if part.scale is None else {**kept, "add_offset": 0.0}


def _plain(attributes: Mapping[str, Any], dtype: np.dtype[Any] | None = None) -> dict[str, Any]:
    """Attributes as NetCDF has them: text, numbers and rows of numbers; those about values in their type."""
    plain: dict[str, Any] = {}
    for name, value in attributes.items():
        if dtype is not None and name in ("valid_range", "flag_values", "flag_masks"):
            plain[name] = np.asarray(value, dtype)
        elif isinstance(value, list):
            plain[name] = (
                " ".join(value) if all(isinstance(each, str) for each in value) else np.asarray(value)
            )
        else:
            plain[name] = int(value) if isinstance(value, bool) else value
    return plain


WRITERS: dict[Format, Callable[[Part, Path, Read], None]] = {
    "cog": write_cog,
    "geotiff": write_geotiff,
    "envi": write_envi,
    "netcdf": write_netcdf,
    "zarr2": write_zarr2,
}
"""The writers by format; each writes to a free path in an empty folder."""
