"""Opening one file as a scene: its grid, its bands, its mask, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags

from spectile.catalog.choices import NodataRule
from spectile.catalog.errors import SceneError
from spectile.catalog.redaction import redact_url
from spectile.catalog.urls import Location, locate
from spectile.pipeline.files.addresses import resolve
from spectile.pipeline.files.opening import block_bytes, check_listed, gdal_errors, open_raster
from spectile.pipeline.files.remote import RemoteFile, ask, reading
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.places import check_place
from spectile.pipeline.scene.bands import Chosen, FileBand, describe_bands
from spectile.pipeline.scene.radiometry import Stated, declare, display_gain
from spectile.pipeline.scene.raster import SceneSource


def open_file(
    path: str | Path,
    choose: Callable[[tuple[FileBand, ...]], Chosen],
    *,
    pictures: bool = True,
    stated: Sequence[Stated] = (),
    radiometry: str | None = None,
    nodata_rule: NodataRule = "all",
    allow_vrt: bool = False,
    listed: bool = False,
    allow_private: bool = False,
) -> SceneSource:
    """The source of one file; no pixel is read.

    Parameters
    ----------
    choose : the bands to read, from those that the file has.
    pictures : whether display pictures can be used: the channels are red, green and blue.
    stated : what is said of each channel elsewhere, if anything is.

    Other parameters are as in ``open_source``.

    Raises
    ------
    SceneError : missing, not a raster, no CRS or geotransform, wrong bands, or undeclared radiometry.
    """
    name, where = str(path), locate(path)
    remote: RemoteFile | None = None
    if isinstance(where, Location):
        final = resolve(where, listed=listed, allow_private=allow_private)
        remote, name = ask(final), name if final == where else final.url
    elif listed:
        check_listed(where)
    shown = redact_url(name)
    # rasterio reports faults in a mask's directory late, as a bare GDAL error.
    told = gdal_errors(name, "the scene's metadata cannot be read", "run again")
    with told, reading(name), open_raster(name, allow_vrt=allow_vrt) as dataset:
        grid = grid_of(dataset, name)
        elsewhere = check_place(grid, shown)
        chosen = choose(describe_bands(dataset))
        channels = tuple(band.number for band in chosen.bands)
        if max(channels) > dataset.count:
            raise SceneError(
                "the file lacks a band that its description has", where=name, got=f"{dataset.count} band(s)",
                expected=f"band {max(channels)}",
            )  # fmt: skip
        dtype = _dtype(dataset, name, channels)
        offsets, scales = _of(dataset.offsets, channels), _of(dataset.scales, channels)
        # The word of a catalogue stands in for the file's, and the user's for the catalogue's.
        known = [each.scale for each in stated if each.scale is not None]
        if radiometry in (None, "reflectance") and known and len(known) == len(channels):
            offsets, scales = tuple(each.offset for each in stated), tuple(known)
        declared, notice = declare(radiometry, where=shown, dtype=dtype, offsets=offsets, scales=scales)
        nodata = tuple(dataset.nodatavals[band - 1] for band in channels)
        mask = _mask(dataset, channels)
        if mask in ("none", "nodata") and any(each.nodata is not None for each in stated):
            own = zip(stated, nodata, strict=True)
            mask, nodata = (
                "nodata",
                tuple(value if said.nodata is None else said.nodata for said, value in own),
            )
        alpha = _alpha(dataset) if mask == "alpha" else None
        block = block_bytes(dataset)
    if declared.kind == "display" and not pictures:
        raise SceneError(
            "a picture made for the eye gives red, green and blue only: the curve of its other bands is not "
            "known", where=shown, got=f"{dtype} as display", expected="reflectance in every band",
            remedy="state what its numbers mean, e.g. --radiometry dn:0,0.004",
        )  # fmt: skip
    notices = tuple(said for said in (notice, elsewhere, *chosen.notices) if said)
    return SceneSource(
        name, grid, channels, declared, mask, nodata, nodata_rule, notices, remote, alpha, block, allow_vrt,
        chosen.feeds,
    )  # fmt: skip


def measured(source: SceneSource, *, declared_by_user: bool) -> SceneSource:
    """The source with what one decimated read of its file tells: the display gain.

    Raises
    ------
    SceneError : no pixel is valid, or floats are no reflectance and nobody says what they are.
    """
    numbers, valid = source.survey()
    if not valid.any():
        raise SceneError("the scene has no valid pixel", where=source.path, remedy="check its nodata value")
    radiometry = source.radiometry
    if radiometry.kind == "display" and radiometry.gain is None:
        return replace(source, radiometry=replace(radiometry, gain=display_gain(numbers, valid, radiometry)))
    bare = radiometry.kind == "reflectance" and set(radiometry.scale) == {1.0} and not any(radiometry.offset)
    bare_floats = bare and np.issubdtype(numbers.dtype, np.floating)
    if bare_floats and not declared_by_user:
        top = float(numbers[:, valid].max())
        if top > 1.5:
            raise SceneError(
                "the file does not say what its numbers mean",
                where=source.path,
                got=f"floats up to {top:g} without a scale",
                expected="reflectance up to 1.5",
                remedy="use --radiometry dn:OFFSET,SCALE for reflectance = (DN − OFFSET)·SCALE, "
                f"display/{255 if top <= 255 else 65535} for a picture made for the eye, "
                "or reflectance where they are",
            )
    return source


def grid_of(dataset: rasterio.DatasetReader, name: str) -> Grid:
    """The grid of a file.

    Raises
    ------
    SceneError : it has no CRS, or no geotransform that can be used.
    """
    if dataset.crs is None:
        gcps, _ = dataset.gcps
        raise SceneError(
            "the scene has ground control points but no grid" if gcps else "the scene has no CRS",
            where=name,
            expected="a CRS and a geotransform",
            remedy="warp it first, e.g. rio warp --dst-crs EPSG:…"
            if gcps
            else "assign it, e.g. rio edit-info --crs EPSG:…",
        )
    if dataset.transform.is_identity or dataset.transform.is_degenerate:
        raise SceneError(
            "the scene has no geotransform", where=name, remedy="assign it, e.g. rio edit-info --transform …"
        )
    grid = Grid((dataset.height, dataset.width), dataset.transform, dataset.crs.to_wkt())
    if not np.isfinite([*dataset.transform, *grid.bounds]).all():
        raise SceneError(
            "the scene's geotransform is not finite",
            where=name,
            got=", ".join(f"{value:g}" for value in tuple(dataset.transform)[:6]),
            remedy="assign it, e.g. rio edit-info --transform …",
        )
    return grid


def _dtype(dataset: rasterio.DatasetReader, name: str, channels: tuple[int, ...]) -> str:
    """The data type that the channels share."""
    types = {dataset.dtypes[band - 1] for band in channels}
    if len(types) > 1 or "complex" in next(iter(types)):
        raise SceneError(
            "the channels differ in type or are complex", where=name, got=", ".join(sorted(types))
        )
    return str(types.pop())


def _mask(
    dataset: rasterio.DatasetReader, channels: tuple[int, ...]
) -> Literal["alpha", "dataset", "nodata", "none"]:
    flags = {flag for band in channels for flag in dataset.mask_flag_enums[band - 1]}
    if _alpha(dataset) is not None:
        return "alpha"
    if MaskFlags.per_dataset in flags and MaskFlags.nodata not in flags:
        return "dataset"
    return "nodata" if any(dataset.nodatavals[band - 1] is not None for band in channels) else "none"


def _alpha(dataset: rasterio.DatasetReader) -> int | None:
    """The 1-based band that holds alpha."""
    colours = dataset.colorinterp
    return colours.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colours else None


def _of(values: tuple[float, ...], channels: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(float(values[band - 1]) for band in channels)
