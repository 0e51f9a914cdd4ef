"""``.spectile`` on xarray objects that hold spectra: bands, pictures, indices, spectra of places.

Importing this module registers it. Everything is lazy: nothing is read before a result is used. Results are
float32 (pictures uint8) and keep coordinates and grid mapping, so that ``.rio`` still works.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from spectile.catalog.bands import RGB_CAMERA, SENSORS, WATER_VAPOUR_NM, Bands, resampling_matrix
from spectile.catalog.choices import Layer
from spectile.catalog.colour import (
    Composite,
    colour_infrared,
    linear_to_srgb,
    true_colour,
)
from spectile.catalog.errors import UsageError
from spectile.catalog.indices import INDICES
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.plan.layers import array_name
from spectile.pipeline.product.colour import response_of

if TYPE_CHECKING:
    from spectile.pipeline.geometry.pixels import Shape


_SIZES = ("wavelength", "y", "x")


@xr.register_dataarray_accessor("spectile")  # type: ignore[no-untyped-call]
class SpectraAccessor:
    """Of a DataArray of reflectance with the dimension ``wavelength``, nm; for places also y and x."""

    def __init__(self, spectra: xr.DataArray) -> None:
        self._object: xr.DataArray | xr.Dataset = spectra

    @property
    def _spectra(self) -> xr.DataArray:
        """The reflectance, checked."""
        spectra = self._object
        if isinstance(spectra, xr.Dataset):
            if "reflectance" not in spectra:
                raise UsageError("no reflectance here", got=", ".join(map(str, spectra)) or "no arrays")
            spectra = spectra["reflectance"]
        if "wavelength" not in spectra.dims or "wavelength" not in spectra.coords:
            raise UsageError(
                "no spectra here", got=f"dimensions {', '.join(map(str, spectra.dims))}",
                expected="a dimension wavelength with its coordinate",
            )  # fmt: skip
        unit = spectra["wavelength"].attrs.get("units")
        if unit not in ("nm", "nanometer", "nanometers", "nanometre", "nanometres"):
            raise UsageError(
                "the unit of the wavelengths is not nm", got=unit,
                remedy='say so in the coordinate\'s attrs["units"]',
            )  # fmt: skip
        return spectra

    @property
    def bands(self) -> Bands:
        """The bands; widths are the coordinate ``fwhm``, or the spacing where there is none.

        Raises
        ------
        UsageError : there are no spectra, or the wavelengths are not in nm.
        """
        coords = self._spectra.coords
        return Bands.from_arrays(
            coords["wavelength"].values, coords["fwhm"].values if "fwhm" in coords else None
        )

    @property
    def good_wavelengths(self) -> xr.DataArray:
        """(B,) bool, False for bands that hold no signal; for ``isel(wavelength=…)``.

        The cube's own ``good_wavelengths`` where it has one, else all but those in ``WATER_VAPOUR_NM``.
        """
        if "good_wavelengths" in self._object.coords or (
            isinstance(self._object, xr.Dataset) and "good_wavelengths" in self._object
        ):
            return self._object["good_wavelengths"].astype(bool)
        centre = self._spectra["wavelength"]
        bad = [(centre >= first) & (centre <= last) for first, last in WATER_VAPOUR_NM]
        return (~(bad[0] | bad[1])).rename("good_wavelengths")

    def band(self, wavelength_nm: float) -> xr.DataArray:
        """The nearest band, (y, x), with its own wavelength and width as coordinates.

        Raises
        ------
        UsageError : its centre is more than ``TOLERANCE_NM`` and more than half its width away.
        """
        return self._placed(self._spectra.isel(wavelength=self.bands.at(wavelength_nm)))

    def rgb(self, *, white: float = 0.4) -> xr.DataArray:
        """True colour for the eye, (band, y, x) uint8: as the camera of the cube's scene sees it.

        Of a Dataset that is a cube it is the camera that the cube was made for, else ``RGB_CAMERA``.

        A level is 1 + 254 · sRGB(reflectance / white), rounded: one gain for the three bands and for every
        cube, so that colours are true and pictures can be compared. 0 is nodata.

        Parameters
        ----------
        white : the reflectance that is shown as white; what is brighter is white too.
        """
        return self._picture("true colour", true_colour(self.bands, self._response), white)

    def false_colour(self, *, white: float = 0.6) -> xr.DataArray:
        """Colour infrared, (band, y, x) uint8: 860, 650, 550 nm as red, green, blue, as in ``rgb``."""
        return self._picture("colour infrared", colour_infrared(self.bands), white)

    def index(self, name: str) -> xr.DataArray:
        """A spectral index, (y, x) float32, by its name; docs/indices.md lists them.

        NaN where a band is, and where the formula divides by zero. ``attrs["bands_nm"]`` are the centres of
        the bands that were taken.

        Raises
        ------
        UsageError : there is no such index, or the bands do not reach one of its wavelengths, or do not tell
            two of them apart.
        """
        if name not in INDICES:
            raise UsageError("unknown index", got=name, expected=", ".join(INDICES))
        index, spectra = INDICES[name], self._spectra
        bands = [self.bands.at(nm, wanted_by=name) for nm in index.wavelength_nm]
        centres = [self.bands.centre_nm[at] for at in bands]
        if len(set(bands)) < len(bands):
            raise UsageError(
                f"{name}: the bands are too wide to tell its wavelengths apart",
                got="{} nm for {} nm".format(*(", ".join(f"{nm:g}" for nm in row) for row in
                                               (centres, index.wavelength_nm))),
            )  # fmt: skip
        value: xr.DataArray = xr.apply_ufunc(
            index.of, *(spectra.isel(wavelength=at, drop=True) for at in bands), dask="parallelized",
            output_dtypes=[np.float32],
        )  # fmt: skip
        value.attrs = {
            "long_name": index.title, "units": "1", "formula": index.formula, "references": index.reference,
            "bands_nm": [round(nm, 3) for nm in centres],
        }  # fmt: skip
        return self._placed(value.rename(name))

    def to_sensor(self, sensor: str | Bands) -> xr.DataArray:
        """Reflectance as another sensor sees it, (T, y, x) float32, with its wavelengths and widths.

        ``catalog.bands.resampling_matrix`` weighs the bands. Only sensor bands that lie within the cube's
        from half maximum to half maximum are made; a warning and ``attrs["not_covered_nm"]`` name the others.
        A pixel that lacks one band is NaN in all.

        Parameters
        ----------
        sensor : a name in ``spectile.catalog.bands.SENSORS``, or bands.

        Raises
        ------
        UsageError : there is no such sensor, or none of its bands is covered.
        """
        if isinstance(sensor, str) and sensor not in SENSORS:
            raise UsageError("unknown sensor", got=sensor, expected=", ".join(SENSORS))
        target = SENSORS[sensor] if isinstance(sensor, str) else sensor
        spectra, bands = self._spectra, self.bands
        matrix, supported = resampling_matrix(bands, target)
        low, high = _edges(target)
        first, last = _edges(bands)
        covered = supported & (low >= first.min()) & (high <= last.max())
        centre, width = np.asarray(target.centre_nm), np.asarray(target.fwhm_nm)
        missing = [round(float(nm), 3) for nm in centre[~covered]]
        if not covered.any():
            raise UsageError(
                "the cube covers no band of the sensor", got=f"{first.min():.0f} to {last.max():.0f} nm",
                expected=f"{low.min():.0f} to {high.max():.0f} nm",
            )  # fmt: skip
        if missing:
            named = ", ".join(f"{nm:g}" for nm in missing)
            warnings.warn(f"the cube does not cover the sensor's bands at {named} nm", stacklevel=2)
        weights = xr.DataArray(matrix[covered].astype(np.float32), dims=("sensor_band", "wavelength"))
        seen = xr.dot(weights, spectra, dim="wavelength").rename(sensor_band="wavelength")
        seen = seen.assign_coords(
            wavelength=("wavelength", centre[covered], spectra["wavelength"].attrs),
            fwhm=("wavelength", width[covered], {"units": "nm", "long_name": "full width at half maximum"}),
        )
        seen.attrs = _described(spectra) | {"not_covered_nm": missing}
        if isinstance(sensor, str):
            seen.attrs["sensor"] = sensor
        return self._placed(seen.transpose(*spectra.dims).rename(spectra.name))

    @overload
    def spectrum(self, x: float, y: float, *, crs: Any = None) -> xr.DataArray: ...
    @overload
    def spectrum(
        self, x: Shape | Mapping[str, Any], *, crs: Any = None, all_touched: bool = False
    ) -> xr.Dataset: ...
    def spectrum(
        self, x: Any, y: float | None = None, *, crs: Any = None, all_touched: bool = False
    ) -> xr.DataArray | xr.Dataset:
        """The spectrum of the pixel at (x, y), or the statistics of the pixels in a polygon.

        Parameters
        ----------
        x : easting or longitude; or a polygon, alone: a Polygon or MultiPolygon of shapely or as GeoJSON.
        y : northing or latitude.
        crs : of the place, always x before y, e.g. "EPSG:4326" for longitude, latitude; None is the cube's.
        all_touched : take every pixel that the polygon touches, not only those whose centre lies inside.

        Returns
        -------
        At a point (B,) float32. Of a polygon ``mean`` and ``sd`` (B,) float32, over the pixels that are not
        masked and with one degree of freedom less, and their number ``pixels`` (B,). A polygon that reaches
        beyond the cube is cut off there.

        Raises
        ------
        UsageError : the place lies outside the cube, is no polygon or holds no pixel, or there is no CRS.
        """
        from spectile.pipeline.geometry.pixels import pixel_at, pixels_in

        spectra, grid = self._spectra, self._grid()
        if y is not None:
            if all_touched:
                raise UsageError("all_touched is for polygons; a point has one pixel")
            row, col = pixel_at(grid, x, y, crs=crs)
            return spectra.isel(y=row, x=col)
        window, inside = pixels_in(grid, x, crs=crs, all_touched=all_touched)
        rows, cols = window.slices
        area = spectra.isel(y=rows, x=cols).where(xr.DataArray(inside, dims=("y", "x"))).astype(np.float64)
        pixels = area.count(("y", "x"))
        mean = area.sum(("y", "x")) / pixels.where(pixels > 0)
        squares = ((area - mean) ** 2).sum(("y", "x"))
        sd: xr.DataArray = (squares / (pixels - 1).where(pixels > 1)) ** 0.5
        result = xr.Dataset({"mean": mean.astype(np.float32), "sd": sd.astype(np.float32), "pixels": pixels})
        result["mean"].attrs = _described(spectra) | {"cell_methods": "area: mean"}
        result["sd"].attrs = _described(spectra) | {"cell_methods": "area: standard_deviation"}
        result["pixels"].attrs = {"long_name": "pixels that are not masked", "units": "1"}
        return result.drop_vars("spatial_ref", errors="ignore")

    @property
    def _response(self) -> Bands:
        """The camera that the cube was made for."""
        facts = self._object.attrs.get("spectile")
        if not isinstance(facts, Mapping):  # no cube, or one that went through a format without nested values
            return RGB_CAMERA
        try:
            return response_of(facts["plan"]["settings"])
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise UsageError(
                "the attribute spectile does not tell the cube's camera", got=repr(err)[:80]
            ) from err

    def _picture(self, title: str, composite: Composite, white: float) -> xr.DataArray:
        if not white > 0:
            raise UsageError("white is a reflectance above zero", got=white)
        if not composite.covered:
            raise UsageError(f"the cube does not reach the bands of {title}", got=str(self.bands))
        taken = self._spectra.isel(wavelength=list(composite.bands))
        weights = xr.DataArray(np.array(composite.weights, np.float32), dims=("band", "wavelength"))
        light = xr.dot(weights, taken, dim="wavelength")
        picture: xr.DataArray = xr.apply_ufunc(
            _levels, light, kwargs={"white": white}, dask="parallelized", output_dtypes=[np.uint8]
        )
        picture.attrs = {"long_name": title, "white": white, "_FillValue": 0}
        picture = picture.assign_coords(band=["red", "green", "blue"])
        return self._placed(picture.rename(title.replace(" ", "_")))

    def _grid(self) -> Grid:
        import rioxarray  # noqa: F401  (adds the .rio accessor)

        spectra = self._spectra
        if not {"y", "x"} <= set(spectra.dims):
            raise UsageError("no map here", got=f"dimensions {', '.join(map(str, spectra.dims))}",
                             expected=", ".join(_SIZES))  # fmt: skip
        if spectra.rio.crs is None:
            raise UsageError("the spectra have no CRS", remedy="give them one with .rio.write_crs(…)")
        shape = spectra.sizes["y"], spectra.sizes["x"]
        return Grid(shape, spectra.rio.transform(), spectra.rio.crs.to_wkt())

    def _placed(self, result: xr.DataArray) -> xr.DataArray:
        """The result with the grid mapping of its source, also for files written from it."""
        return _with_mapping(result, self._spectra)


@xr.register_dataset_accessor("spectile")  # type: ignore[no-untyped-call]
class CubeAccessor(SpectraAccessor):
    """For a cube: the methods of its reflectance, and masks made from its layers."""

    def __init__(self, cube: xr.Dataset) -> None:
        self._object = cube

    def mask(self, *flags: str, max_sd: float | None = None, max_interval: float | None = None) -> xr.Dataset:
        """The cube with NaN in reflectance and its layers where it is masked, flagged or too uncertain.

        A flag takes out all bands of a pixel; uncertainty is checked band by band, so some may stay.

        Parameters
        ----------
        flags : meanings of ``quality``, such as "saturated"; a pixel goes that has any of them.
        max_sd : the largest standard deviation that stays; takes the layer ``sd``.
        max_interval : the widest interval from 5 % to 95 % that stays; takes the layers ``q05`` and ``q95``.

        Raises
        ------
        UsageError : the cube lacks a layer that it takes, or there is no such flag.
        """
        cube, spectra = self._object, self._spectra
        keep = spectra.notnull()
        if "valid" in cube:
            keep &= cube["valid"] == 1
        if flags:
            keep &= ~self._flagged(flags)
        if max_sd is not None:
            keep &= self._layer("sd") <= max_sd
        if max_interval is not None:
            keep &= self._layer("q95") - self._layer("q05") <= max_interval
        names = [name for name in cube if str(name).startswith("reflectance")]
        masked = {name: _with_mapping(cube[name].where(keep), cube[name]) for name in names}
        assert isinstance(cube, xr.Dataset)
        return cube.assign(masked)

    def _flagged(self, flags: tuple[str, ...]) -> xr.DataArray:
        """(y, x) bool, where ``quality`` has any of these flags."""
        if "quality" not in self._object:
            raise UsageError("the cube has no layer quality", remedy="make it with --layers quality")
        quality: xr.DataArray = self._object["quality"]
        bits = dict(zip(quality.attrs["flag_meanings"].split(), quality.attrs["flag_masks"], strict=True))
        if unknown := set(flags) - bits.keys():
            raise UsageError("unknown flag of quality", got=min(unknown), expected=", ".join(bits))
        return (quality & sum(int(bits[flag]) for flag in set(flags))) > 0

    def _layer(self, layer: Layer) -> xr.DataArray:
        name = array_name(layer)
        if name not in self._object:
            raise UsageError(
                f"the cube has no layer {layer}", remedy=f"make it with more samples and --layers {layer}"
            )
        return self._object[name]


def _edges(bands: Bands) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each band's half maxima are, nm."""
    centre, half = np.asarray(bands.centre_nm), np.asarray(bands.fwhm_nm) / 2
    return centre - half, centre + half


def _described(spectra: xr.DataArray) -> dict[str, Any]:
    """The attributes of reflectance that are still true after averaging."""
    return {name: value for name, value in spectra.attrs.items() if name in ("units", "long_name", "comment")}


def _with_mapping(result: xr.DataArray, source: xr.DataArray) -> xr.DataArray:
    name = source.encoding.get("grid_mapping", source.attrs.get("grid_mapping", "spatial_ref"))
    if name in result.coords:
        result.attrs.pop("grid_mapping", None)  # the encoding says it; xarray refuses both
        result.encoding["grid_mapping"] = name
    return result


def _levels(reflectance: NDArray[np.float32], *, white: float) -> NDArray[np.uint8]:
    known = np.isfinite(reflectance)
    light = linear_to_srgb(np.nan_to_num(reflectance) / np.float32(white))
    return np.where(known, 1 + np.rint(254 * light), 0).astype(np.uint8)
