"""A cube, or a part of it, written as a file that other software opens.

The part is read square by square, and each square is written once, so memory does not grow with the scene.
Everything is made in a temporary folder beside the target and renamed when it is complete.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from spectile.catalog.bands import Bands
from spectile.catalog.errors import CubeError, StoreError, UsageError
from spectile.catalog.urls import locate, nested
from spectile.pipeline.cube.arrays import open_arrays, reading_metadata
from spectile.pipeline.cube.record import load_plan, read_status
from spectile.pipeline.files.opening import is_gdal_error
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.plan.arrays import block_arrays
from spectile.pipeline.plan.layers import ABUNDANCE
from spectile.pipeline.product.part import Format, Part
from spectile.pipeline.store.opening import open_storage

FORMATS: tuple[Format, ...] = get_args(Format)
Dtype = Literal["stored", "float32"]
Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max."""

_V2 = re.compile(r"\.z(group|attrs|array|metadata)|\d+(\.\d+)*")
"""The names of the files of a Zarr v2 store."""
_ENVI = (".img", ".dat", ".raw", ".bil", "")
"""Endings of ENVI data under which every reader finds them from the header."""
_FULL_BYTES = 1_000_000
"""With less free space the disk counts as full: GDAL and HDF5 do not say why they could not write."""


def export_cube(
    cube: str | Path,
    out: str | Path,
    *,
    to: Format,
    bands: str | None = None,
    region: Box | None = None,
    region_crs: str | None = None,
    layer: str = "reflectance",
    dtype: Dtype = "stored",
    replace: bool = False,
    allow_incomplete: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write a layer of a cube as another format; what was written, as plain values.

    Parameters
    ----------
    cube : a path or URL.
    out : the file to write, of ``zarr2`` the folder; of ``envi`` the data, its header ends in ``.hdr``.
    bands : as of ``Bands.choose``; None takes all.
    region : bounds in ``region_crs``; the smallest window that covers them is taken. None takes all.
    region_crs : x before y, e.g. "EPSG:4326" for longitude, latitude; None is the cube's own.
    layer : ``reflectance``, one of its layers (``sd``) or any array on the cube's grid (``valid``).
    dtype : "stored" keeps the counts with scale and nodata; "float32" is reflectance, NaN for none.
    replace : whether an export that is there is replaced.
    allow_incomplete : whether a cube that is not finished is exported; what is missing is nodata.
    progress : is told the squares that are done, and how many there are.

    Raises
    ------
    CubeError : there is no cube, it is not finished, or something is at ``out`` already.
    UsageError : ``out``, the layer, a band or the region cannot be used.
    BlockError, StoreError : the cube cannot be read, or the export not be written; nothing is left of it.
    """
    from spectile.pipeline.product.formats import WRITERS

    part = _select(str(cube), bands, region, region_crs, layer, dtype, allow_incomplete)
    target = _target(out, str(cube))
    _check_free(target, to, replace)
    with _folder_beside(target) as folder:
        WRITERS[to](part, folder / target.name, _counted(part, progress))
        made = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in made)
        _check_free(target, to, replace)
        _publish(folder, target)
    return {
        "out": str(target), "format": to, "layer": part.layer, "shape": list(part.shape),
        "dtype": str(part.dtype), "bounds": list(part.grid.bounds), "bytes": size,
    }  # fmt: skip


def _select(
    cube: str, bands: str | None, region: Box | None, region_crs: str | None, layer: str, dtype: Dtype,
    allow_incomplete: bool,
) -> Part:  # fmt: skip
    storage = open_storage(cube)
    status = read_status(storage)
    if status["status"] != "complete" and not allow_incomplete:
        raise CubeError(
            "the cube is not finished", where=str(storage), got=status["status"],
            remedy="run again with --resume, or use --allow-incomplete",
        )  # fmt: skip
    plan = load_plan(storage)
    group = open_arrays(storage, plan, consolidated=False)
    with reading_metadata(storage):
        CRS.from_wkt(plan.grid.crs_wkt)
    known = {name.removeprefix("reflectance_"): name for name in block_arrays(plan)}
    name = known.get(layer.removeprefix("reflectance_"))
    if name is None:
        raise UsageError("the cube has no such layer", got=layer, expected=", ".join(sorted(known)))
    array, everything = group[name], Bands.from_arrays(group["wavelength"][:], group["fwhm"][:])
    spectral, mixed = block_arrays(plan)[name].is_spectral, name == ABUNDANCE
    if bands is not None and not spectral:
        raise UsageError("the layer has no bands to choose", got=f"--bands {bands}", where=layer)
    chosen = everything.choose(bands) if bands is not None else tuple(range(len(everything)))
    window = _window(plan.cube_grid, region, region_crs)
    stored = dtype == "stored"
    scale, nodata = array.attrs.get("scale_factor"), array.attrs.get("_FillValue")
    return Part(
        group, name, window, plan.cube_grid[window],
        tuple(range(len(plan.endmembers))) if mixed else chosen if spectral else None,
        everything.subset(chosen) if spectral else None,
        array.dtype if stored else np.dtype(np.float32),
        scale if stored else None,
        nodata if stored else math.nan,
        {
            "title": str(group.attrs["title"]), "comment": str(group.attrs["comment"]),
            "source": f"spectile {status['version']}, {storage.name}", "spectile_digest": plan.digest,
        },
        plan.endmembers if mixed else (),
    )  # fmt: skip


def _window(grid: Grid, region: Box | None, crs: str | None) -> Window:
    if region is None:
        return grid.window
    try:
        bounds = region
        if crs is not None:
            bounds = Transformer.from_crs(crs, grid.crs_wkt, always_xy=True).transform_bounds(*region)
    except ProjError as err:
        raise UsageError(
            "the region has no place in the cube's CRS", got=f"{region} in {crs}", expected="e.g. EPSG:4326"
        ) from err
    window = grid.window_of(bounds) if all(map(math.isfinite, bounds)) else Window(0, 0, 0, 0)
    if not window.size:
        raise UsageError(
            "the region does not overlap the cube", got=",".join(f"{side:.10g}" for side in bounds),
            expected="bounds within " + ",".join(f"{side:.10g}" for side in grid.bounds),
            remedy="give its CRS with --region-crs if it is not the cube's",
        )  # fmt: skip
    return window


def _counted(part: Part, progress: Callable[[int, int], None]) -> Callable[[Window], NDArray[Any]]:
    """``part.read``, that tells how many squares were read."""
    done, total = itertools.count(1), len(part.windows())

    def read(square: Window) -> NDArray[Any]:
        values = part.read(square)
        progress(next(done), total)
        return values

    return read


def _target(out: str | Path, cube: str) -> Path:
    place = locate(out)
    if not isinstance(place, Path):
        raise UsageError("exports are written to this machine", got=str(out), expected="a path")
    target = place.absolute()
    if nested(target, locate(cube)):
        raise UsageError("the export would overwrite the cube", got=f"--out {out}", remedy="choose another")
    if not target.parent.is_dir():
        raise UsageError("cannot write there", got=f"--out {out}", expected="a place in a folder that exists")
    return target


def _check_free(target: Path, to: Format, replace: bool) -> None:
    """Refuse an existing target without ``replace``, and always one that is no export of this format."""
    header = target.with_suffix(".hdr")
    if to == "envi" and target.suffix not in (*_ENVI, *map(str.upper, _ENVI)):
        ending = target.suffix if target.suffix == ".hdr" else ""
        raise UsageError(
            "Spectral Python would not find the data beside its header", got=f"--out {target.name}",
            expected=f"a name that ends in {', '.join(_ENVI[:-1])}, or in none",
            remedy=f"name the data {target.name.removesuffix(ending)}.img",
        )  # fmt: skip
    taken = [path for path in {target, header if to == "envi" else target} if path.exists()]
    if not taken:
        return
    if not replace:
        raise CubeError("the output exists", where=str(taken[0]), remedy="use --replace, or another --out")
    ours = _is_export(target) if to == "zarr2" else all(path.is_file() for path in taken)
    if not ours:
        raise CubeError("not an export of this format", where=str(taken[0]), remedy="use another --out")


def _is_export(folder: Path) -> bool:
    """Whether a folder is a Zarr v2 store that was exported from a cube, with nothing else in it."""
    try:
        attributes = json.loads((folder / ".zattrs").read_bytes())
    except (OSError, ValueError):
        return False
    files = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return "spectile_digest" in attributes and all(_V2.fullmatch(path.name) for path in files)


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, removed afterwards; failures in it become our errors."""
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".partial", dir=target.parent, ignore_cleanup_errors=True
        ) as folder:
            try:
                yield Path(folder)
            except Exception as err:
                if not (isinstance(err, OSError | RuntimeError | SystemError) or is_gdal_error(err)):
                    raise
                # Asked while the unfinished file is still there.
                full = shutil.disk_usage(folder).free < _FULL_BYTES or (
                    isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT)
                )
                raise _not_written(target, err, full=full) from err
    except OSError as err:
        raise _not_written(target, err, full=False) from err


def _not_written(target: Path, err: BaseException, *, full: bool) -> StoreError:
    return StoreError(
        "no space left on the device" if full else "the export cannot be written", where=str(target),
        got=None if full else (getattr(err, "strerror", None) or str(err)),
        remedy="free some space" if full else "check the place",
    )  # fmt: skip


def _publish(folder: Path, target: Path) -> None:
    """Rename what was made: files beside the target first, the target itself last."""
    made = sorted(folder.iterdir(), key=lambda path: path.name == target.name)
    if target.is_dir():
        # A folder cannot be renamed over one; the old one goes with ours.
        target.rename(folder / f"{target.name}.replaced")
    for name in (f"{target.name}.aux.xml", f"{target.name}.ovr"):
        (target.parent / name).unlink(missing_ok=True)  # of what was replaced
    for path in made:
        os.replace(path, target.parent / path.name)
