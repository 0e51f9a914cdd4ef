"""Scenes and cubes in a notebook: open them, run a scene, and the accessor ``.spectile`` on xarray objects.

Importing it takes no time: xarray and torch wait until they are needed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from spectile.catalog.errors import BlockError, SpectileError
from spectile.catalog.files import write_bytes

if TYPE_CHECKING:
    import xarray as xr

    from spectile.catalog.bands import Bands
    from spectile.flows.run.state import Result
    from spectile.pipeline.comparison.comparison import Comparison

__all__ = ["SpectileError", "compare", "fuse", "open_cube", "open_scene", "run"]


def open_cube(cube: str | Path, *, overview: int = 1) -> xr.Dataset:
    """The cube as a lazy Dataset: float32 reflectance (wavelength, y, x), NaN where there is none, its CRS.

    Parameters
    ----------
    cube : a path, or a URL: s3://, gs:// or file://.
    overview : rows and columns of the cube along one of what is opened: 1 is the cube, 2, 4, … its overviews.

    Raises
    ------
    SpectileError : there is no cube or no such overview, it is not finished, or it cannot be read.
    """
    from spectile.pipeline.cube.record import open_cube as open_it

    return open_it(cube, overview=overview)


def open_scene(
    scene: str | Path,
    *,
    radiometry: str | None = None,
    nodata: Literal["all", "any"] = "all",
    sensor: str | None = None,
    bands: Sequence[int | str] | None = None,
) -> xr.DataArray:
    """The scene as the model sees it: linear reflectance (band, y, x) float32, lazy, NaN where masked.

    Parameters
    ----------
    scene : a path, or a URL: s3://, gs://, https:// or file://.
    radiometry, nodata, sensor, bands : as of ``run``; any number of bands.

    Raises
    ------
    SpectileError : it is missing, no raster, has no CRS, or does not say what its numbers mean.
    """
    from spectile.pipeline.scene.lazy import open_scene as open_it

    return open_it(scene, radiometry=radiometry, nodata_rule=nodata, sensor=sensor, bands=bands)


def run(scene: str | Path, out: str | Path, **settings: Any) -> xr.Dataset:
    """Process a scene as ``spectile run`` does, in this process; the finished cube, opened.

    Parameters
    ----------
    settings : the fields of ``SceneSettings``, which bear the names of the command's options.

    Raises
    ------
    SpectileError : the scene, the model or a setting cannot be used, or blocks failed. What was done stays,
        and ``resume=True`` goes on.
    """
    from spectile.flows.run.execute import run_scene
    from spectile.flows.run.settings import SceneSettings

    _, result = run_scene(SceneSettings(scene=str(scene), out=str(out), **settings))
    return _finished(result, out)


def fuse(hsi: str | Path, msi: str | Path, out: str | Path, **settings: Any) -> xr.Dataset:
    """Fuse two scenes as ``spectile fuse`` does, in this process; the finished cube, opened.

    Parameters
    ----------
    hsi, msi : the coarse hyperspectral and the sharp multispectral scene.
    settings : the fields of ``FuseSettings``, which bear the names of the command's options.

    Raises
    ------
    SpectileError : as of ``run``, or the two are no pair.
    """
    from spectile.flows.run.fusion import run_fusion
    from spectile.flows.run.settings import FuseSettings

    _, result = run_fusion(FuseSettings(hsi=str(hsi), msi=str(msi), out=str(out), **settings))
    return _finished(result, out)


def _finished(result: Result, out: str | Path) -> xr.Dataset:
    """The cube of a run, if nothing of it is missing."""
    if result.failures:
        raise BlockError(
            f"{result.blocks_failed} of {result.blocks_failed + result.blocks_done} blocks failed: "
            f"{result.failures[0]}",
            where=result.cube,
            remedy="repeat it with resume=True",
        )
    return open_cube(out)


def compare(
    cube: str | Path,
    reference: str | Path,
    *,
    radius: float | None = None,
    crs: str | None = None,
    scale: float | None = None,
    bands: Bands | None = None,
    picture: str | Path | None = None,
) -> Comparison:
    """A finished cube beside a measurement, as ``spectile compare`` has it.

    Parameters
    ----------
    reference : a hyperspectral GeoTIFF, ENVI file or Zarr store (also a cube), or a table of field spectra.
    radius, crs : of field spectra: metres to average the cube over, and the CRS of x and y.
    scale : reflectance of a stored 1 where the reference does not say it.
    bands : of a raster that does not say its wavelengths.
    picture : a PNG to write, with spectra, errors by band and a map of spectral angles.

    Raises
    ------
    SpectileError : one of them cannot be used, or they have no place or no band in common.
    """
    from spectile.pipeline.comparison.compare import compare as compare_it

    found = compare_it(cube, reference, radius=radius, crs=crs, scale=scale, bands=bands)
    if picture is not None:
        from spectile.pipeline.comparison.comparison_picture import draw_comparison

        write_bytes(Path(picture), draw_comparison(found))
    return found


class _WithXarray(MetaPathFinder):
    """Adds the accessor ``.spectile`` as soon as anybody imports xarray; the command line mostly does not."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "xarray":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_both(module: ModuleType) -> None:
                load(module)
                importlib.import_module("spectile.pipeline.product.accessor")

            spec.loader.exec_module = load_both  # type: ignore[method-assign]
        return spec


if "xarray" in sys.modules:
    importlib.import_module("spectile.pipeline.product.accessor")
else:
    sys.meta_path.insert(0, _WithXarray())
