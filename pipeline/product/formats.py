"""How each format is written: the part of a cube comes square by square and is never held whole."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterWindow

from spectile.pipeline.plan.plan import CHUNK, SHARD
from spectile.pipeline.product.part import Format, Part, Pieces

_RASTER: dict[str, Any] = {
    "GDAL_CACHEMAX": 32 * 2**20,  # bytes; rasterio does not take megabytes as GDAL does
    # Raw files are written where the pixels belong; the cache would read and write whole lines each time.
    "GDAL_ONE_BIG_READ": "YES",
}


def write_geotiff(part: Part, path: Path, pieces: Pieces) -> None:
    """A tiled GeoTIFF, band by band, so that one band is read without the others."""
    with rasterio.Env(**_RASTER):
        _write_raster(
            part, path, pieces, "GTiff", tiled=True, blockxsize=CHUNK, blockysize=CHUNK, interleave="band",
            **_tiff(part),
        )  # fmt: skip


def write_cog(part: Part, path: Path, pieces: Pieces) -> None:
    """A cloud-optimised GeoTIFF with overviews, averaged over pixels that are not nodata.

    GDAL makes it of a raster that is there, so that a plain one stands on the disk meanwhile. Its overviews
    are made there, band by band: GDAL's COG driver would take all bands at once.
    """
    side = max(part.grid.shape)
    factors = [2**level for level in range(1, 32) if side > 2 ** (level - 1) * SHARD]
    plain = path.with_name(f".{path.name}.plain")
    with rasterio.Env(**_RASTER):
        write_geotiff(part, plain, pieces)
        with rasterio.open(plain, "r+") as dataset:
            dataset.build_overviews(factors, Resampling.average)
        rasterio.shutil.copy(plain, path, driver="COG", blocksize=CHUNK, **_tiff(part))
        rasterio.shutil.delete(plain)


def write_envi(part: Part, path: Path, pieces: Pieces) -> None:
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
        _write_raster(part, path, pieces, "ENVI", header, interleave="bil")
    # GDAL describes the data by their path, whatever it is given.
    written = path.with_suffix(".hdr")
    described = f"description = {{{part.facts['title']}}}".encode()
    written.write_bytes(
        re.sub(rb"description = \{\n.*\}", lambda _: described, written.read_bytes(), count=1)
    )


def _write_raster(
    part: Part, path: Path, pieces: Pieces, driver: str, header: Mapping[str, str] | None = None,
    **options: Any,
) -> None:  # fmt: skip
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
        if part.bands is None:
            dataset.set_band_description(1, part.layer)
        else:
            for band, (centre, width) in enumerate(
                zip(part.bands.centre_nm, part.bands.fwhm_nm, strict=True), 1
            ):
                dataset.set_band_description(band, f"{centre:.6g} nm")
                dataset.update_tags(
                    band, ns="IMAGERY",
                    CENTRAL_WAVELENGTH_UM=f"{centre / 1000:.8g}", FWHM_UM=f"{width / 1000:.8g}",
                )  # fmt: skip
        for square, values in pieces:
            dataset.write(values, window=RasterWindow(square.col, square.row, square.width, square.height))


def _tiff(part: Part) -> dict[str, Any]:
    """How TIFFs are compressed, the predictor being that of integers or floats."""
    return {"compress": "DEFLATE", "predictor": 3 if part.dtype.kind == "f" else 2, "BIGTIFF": "IF_SAFER"}


def _braces(numbers: tuple[float, ...]) -> str:
    return "{" + ", ".join(f"{number:.8g}" for number in numbers) + "}"


class _KeepsItsError(io.FileIO):
    """A file that keeps what fails for ``check``: HDF5 crashes the process at its end if a write raises."""

    error: OSError | None = None
    """The first error."""

    def write(self, data: Any) -> int:
        """Write all of it, or nothing more once the disk has refused."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.error is None:
            try:
                left = left[super().write(left) :]
            except OSError as err:
                self.error = err
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the length, unless the disk has refused."""
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


def write_netcdf(part: Part, path: Path, pieces: Pieces) -> None:
    """NetCDF-4 by the CF conventions, compressed by chunks."""
    import h5netcdf

    dimensions, lines = _dimensions(part), _lines(part)
    with _KeepsItsError(path, "w+") as disk:
        with h5netcdf.File(disk, "w") as file:
            file.attrs.update({"Conventions": "CF-1.11", **part.facts})
            file.dimensions = dict(zip(dimensions, part.shape[-len(dimensions) :], strict=True))
            for name, (dimension, numbers, attributes) in lines.items():
                line = file.create_variable(name, (dimension,), numbers.dtype, data=numbers)
                line.attrs.update(_plain(attributes))
            mapping = file.create_variable("spatial_ref", (), "i4", data=0)
            mapping.attrs.update(_plain(_mapping(part)))
            array = file.create_variable(
                part.layer, dimensions, part.dtype, chunks=_chunks(part), compression="gzip",
                compression_opts=4, shuffle=True, fillvalue=_fill(part),
            )  # fmt: skip
            array.attrs.update(_plain(_attributes(part), part.dtype))
            for square, values in pieces:
                array[(..., *square.slices)] = values if part.bands is not None else values[0]
                disk.check()
        disk.check()  # of what was written on closing


def write_zarr2(part: Part, path: Path, pieces: Pieces) -> None:
    """A Zarr v2 group without shards, which GDAL reads from 3.4 on, and xarray."""
    import zarr
    from numcodecs import Blosc

    group = zarr.create_group(path, zarr_format=2, attributes={"Conventions": "CF-1.11", **part.facts})
    dimensions, fill = _dimensions(part), _fill(part)
    for name, (dimension, numbers, attributes) in _lines(part).items():
        line = group.create_array(
            name, shape=numbers.shape, chunks=numbers.shape, dtype=numbers.dtype, fill_value=None,
            attributes={**attributes, "_ARRAY_DIMENSIONS": [dimension]},
        )  # fmt: skip
        line[:] = numbers
    group.create_array(
        "spatial_ref",
        shape=(),
        dtype="i4",
        fill_value=0,
        attributes={**_mapping(part), "_ARRAY_DIMENSIONS": []},
    )
    array = group.create_array(
        part.layer, shape=part.shape[-len(dimensions) :], chunks=_chunks(part), dtype=part.dtype,
        fill_value=fill, compressors=Blosc(cname="zstd", clevel=3, shuffle=Blosc.BITSHUFFLE),
        attributes={
            **_attributes(part),
            **({} if fill is None or part.dtype.kind == "f" else {"_FillValue": fill}),
            "_ARRAY_DIMENSIONS": list(dimensions),
            "_CRS": {"wkt": part.grid.crs_wkt},  # where GDAL looks
        },
    )  # fmt: skip
    for square, values in pieces:
        array[(..., *square.slices)] = values if part.bands is not None else values[0]
    zarr.consolidate_metadata(path, zarr_format=2)


def _dimensions(part: Part) -> tuple[str, ...]:
    return ("y", "x") if part.bands is None else ("wavelength", "y", "x")


def _chunks(part: Part) -> tuple[int, ...]:
    """The cube's own, no larger than the part."""
    return tuple(
        min(chunk, size)
        for chunk, size in zip(part.array.chunks, part.shape[-part.array.ndim :], strict=True)
    )


def _fill(part: Part) -> Any:
    return None if part.nodata is None else part.dtype.type(part.nodata).item()


def _lines(part: Part) -> dict[str, tuple[str, NDArray[Any], dict[str, Any]]]:
    """Coordinates: the dimension, values and attributes of each; y and x where the cube has them."""
    kept: dict[str, tuple[str, Any]] = {}
    if part.chosen is not None:
        kept = {name: ("wavelength", list(part.chosen)) for name in ("wavelength", "fwhm")}
    kept |= dict(zip("yx", zip("yx", part.window.slices, strict=True), strict=True))
    return {
        name: (dimension, part.source[name][:][index], dict(part.source[name].attrs))
        for name, (dimension, index) in kept.items()
        if name in part.source
    }


def _mapping(part: Part) -> dict[str, Any]:
    """The CF grid mapping: the cube's, at the part's corner."""
    corner = " ".join(repr(float(number)) for number in part.grid.transform.to_gdal())
    return {**part.source["spatial_ref"].attrs, "GeoTransform": corner}


def _attributes(part: Part) -> dict[str, Any]:
    """What the cube says of the layer, with how the values are stored here."""
    told = {"ancillary_variables", "scale_factor", "_FillValue", "valid_range", "coordinates", "statistics"}
    kept = {name: value for name, value in part.array.attrs.items() if name not in told}
    if part.scale is not None:
        kept |= {"scale_factor": part.scale, "add_offset": 0.0}
        kept |= {name: part.array.attrs[name] for name in ("valid_range",) if name in part.array.attrs}
    if part.bands is not None:
        kept["coordinates"] = "fwhm"
    return kept


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


WRITERS: dict[Format, Callable[[Part, Path, Pieces], None]] = {
    "cog": write_cog,
    "geotiff": write_geotiff,
    "envi": write_envi,
    "netcdf": write_netcdf,
    "zarr2": write_zarr2,
}
"""Each writes a part at a path that is free, in a folder that holds nothing else."""
