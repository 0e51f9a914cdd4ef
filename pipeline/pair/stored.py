"""A scene in a Zarr store, as xarray writes it: read by window, as a file is."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.errors import BlockError, SceneError, SpectileError
from spectile.catalog.inputs import Raster
from spectile.catalog.redaction import redact_url
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.geometry.places import check_place
from spectile.pipeline.scene.radiometry import Radiometry
from spectile.pipeline.spectra.formats import Layout, open_zarr, spectra_of_zarr
from spectile.pipeline.store.opening import open_storage

if TYPE_CHECKING:
    import xarray as xr

_OPENING = threading.Lock()


@dataclass(frozen=True)
class StoredScene:
    """An array (band, y, x) of a Zarr store with a ``wavelength`` coordinate. Cheap to send to workers."""

    path: str
    """The store, a path, s3:// or gs://."""
    grid: Grid
    """The grid of its pixels."""
    channels: tuple[int, ...]
    """Its bands from 1, in the order in which they are read."""
    radiometry: Radiometry
    """What its numbers mean after xarray has decoded them."""
    notices: tuple[str, ...] = ()
    """Notices for the user."""
    feeds: tuple[str, ...] = ()
    """Its channels, for people."""

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_array"}

    @cached_property
    def _array(self) -> xr.DataArray:
        return _opened(self.path)[0]

    def read(self, window: Window) -> Raster:
        """Reflectance (C, h, w) float32, NaN where not valid, and validity (h, w) of a window inside it.

        Raises
        ------
        BlockError : the store cannot be read there.
        """
        y, x = window.slices
        first, *_ = self.channels
        whole = self.channels == tuple(range(first, first + len(self.channels)))
        bands: Any = (
            slice(first - 1, first - 1 + len(self.channels)) if whole else np.array(self.channels) - 1
        )
        try:
            with _OPENING:  # xarray opens it once
                array = self._array
            numbers = array[bands, y, x].values
        except (OSError, ValueError, RuntimeError, SpectileError) as err:
            raise BlockError(
                "the scene cannot be read here", where=f"{self.path} {window}", got=str(err)
            ) from err
        values = self.radiometry.to_reflectance(np.asarray(numbers))
        valid: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=0))
        values[:, ~valid] = np.nan
        return Raster(values, valid)

    @property
    def ceiling(self) -> NDArray[np.float32] | None:
        """None: nothing is known."""
        return None

    @property
    def mask_facts(self) -> dict[str, object]:
        """What decides which pixels are valid."""
        return {"mask": "finite", "nodata": "any"}

    def memory(self) -> int:
        """Bytes of a decoded chunk of all bands."""
        chunks = self._array.encoding.get("shards") or self._array.encoding.get("chunks") or self._array.shape
        return 2 * int(np.prod(chunks)) * 4

    def identity(self, *, checksum: bool = False) -> dict[str, object]:
        """The sha256 of all objects of the store.

        Parameters
        ----------
        checksum : nothing else is known of a store, so that it is always read.
        """
        storage = open_storage(self.path)
        digest = hashlib.sha256()
        for key in sorted(storage.walk()):
            digest.update(key.encode())
            digest.update(hashlib.sha256(storage.get(key) or b"").digest())
        return {"sha256": digest.hexdigest()}

    def tags(self) -> dict[str, str]:
        """Nothing."""
        return {}


def is_store(place: str) -> bool:
    """Whether a path or URL is a Zarr store by its name."""
    return place.rstrip("/").endswith(".zarr")


def _opened(place: str) -> tuple[xr.DataArray, dict[str, Any], Grid]:
    import rioxarray  # noqa: F401  (adds the .rio accessor)

    storage = open_storage(place)
    where = redact_url(place)
    if not storage.exists():
        raise SceneError("no such store", where=where)
    try:
        dataset = open_zarr(storage.zarr(read_only=True))
        array, stated = spectra_of_zarr(dataset, Layout())
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as err:
        raise SceneError(f"the store cannot be read as a scene: {err}", where=where) from err
    reference = dataset.variables.get("spatial_ref")
    attributes = dict(reference.attrs) if reference is not None else {}
    try:
        wkt = attributes.get("crs_wkt") or attributes.get("spatial_ref")
        c, a, b, f, d, e = map(float, str(attributes["GeoTransform"]).split())
    except (KeyError, ValueError) as err:
        raise SceneError(
            "the store does not say where it lies",
            where=where,
            expected="spatial_ref with crs_wkt and GeoTransform",
        ) from err
    grid = Grid((array.shape[1], array.shape[2]), Affine(a, b, c, d, e, f), str(wkt))
    return array, stated, grid


def open_stored(place: str, radiometry: Radiometry | None = None) -> tuple[StoredScene, Bands]:
    """The scene in a Zarr store with all of its bands, and these.

    Parameters
    ----------
    radiometry : of one channel, what its numbers mean; None takes what the store says.

    Raises
    ------
    SceneError : it is no such store, lies nowhere, or does not say what its numbers mean.
    """
    array, stated, grid = _opened(place)
    where, count = redact_url(place), array.shape[0]
    if stated["scale"] is None and radiometry is None:
        raise SceneError(
            "the store does not say what its numbers mean", where=where,
            expected="a scale_factor, or units 1",
            remedy="state it, e.g. dn:0,0.0001",
        )  # fmt: skip
    if radiometry is None or stated["scale"] is not None:
        known = Radiometry("reflectance", (0.0,) * count, (1.0,) * count)
    else:
        known = Radiometry(radiometry.kind, radiometry.offset * count, radiometry.scale * count)
    notice = check_place(grid, where)
    scene = StoredScene(place, grid, tuple(range(1, count + 1)), known, () if notice is None else (notice,))
    return scene, stated["bands"]


def only(scene: StoredScene, numbers: Sequence[int]) -> StoredScene:
    """The scene with these bands alone, by number from 1."""
    at = [scene.channels.index(number) for number in numbers]
    kept = Radiometry(
        scene.radiometry.kind,
        tuple(scene.radiometry.offset[i] for i in at),
        tuple(scene.radiometry.scale[i] for i in at),
    )
    return replace(scene, channels=tuple(numbers), radiometry=kept)
