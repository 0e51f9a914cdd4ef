"""Opening a pair: both scenes, the grid of the cube, and how they are read on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spectile.catalog.bands import Bands
from spectile.catalog.choices import NodataRule
from spectile.catalog.errors import SceneError
from spectile.catalog.redaction import redact_url
from spectile.pipeline.geometry.clip import Clip
from spectile.pipeline.geometry.grid import Grid, Window
from spectile.pipeline.pair.bands import Spectral, hsi_bands, in_order, msi_bands, within
from spectile.pipeline.pair.drift import Drift
from spectile.pipeline.pair.grid import choose_ratio, divided, overlap
from spectile.pipeline.pair.stored import StoredScene, is_store, only, open_stored
from spectile.pipeline.pair.warp import ALIGNED, MirroredSource, WarpedSource
from spectile.pipeline.scene.bands import FileBand, choose_bands
from spectile.pipeline.scene.radiometry import Radiometry, parse_radiometry
from spectile.pipeline.scene.raster import SceneSource
from spectile.pipeline.scene.source import Scene, open_source

Side = Scene | StoredScene
"""One of the two scenes."""


@dataclass(frozen=True)
class Pair:
    """Two scenes of one place, read as one: the HSI on its own grid, the MSI averaged onto its parts."""

    hsi: Side
    """The hyperspectral scene, with its good bands in ascending order of wavelength."""
    msi: Side
    """The multispectral scene."""
    hsi_bands: Bands
    """The bands of the HSI."""
    msi_bands: Bands
    """The bands of the MSI that take part."""
    ratio: int
    """Pixels of the fine grid along one of the HSI."""
    grid: Grid
    """The fine grid: the HSI's, divided."""
    extent: Window
    """The part of it on which both lie, in whole HSI pixels."""
    drift: Drift = ALIGNED
    """Where the MSI lies against the HSI, fine pixels; it is taken out."""
    clip: Clip | None = None
    """The polygon outside of which no pixel is valid."""
    notices: tuple[str, ...] = ()
    """Notices for the user about how the scenes are interpreted."""

    @property
    def sources(self) -> Mapping[str, WarpedSource | MirroredSource]:
        """The two inputs of a fusion by name: ``msi`` on the fine grid, ``hsi`` on its own."""
        msi = WarpedSource(self.msi, self.grid, self.drift, self.clip)
        return {"msi": msi, "hsi": MirroredSource(self.hsi)}

    @property
    def feeds(self) -> tuple[str, ...]:
        """What goes in, for people."""
        shown = ", ".join(f"{nm:g}" for nm in self.msi_bands.centre_nm)
        return (f"HSI: {self.hsi_bands}", f"MSI: {len(self.msi_bands)} bands at {shown} nm")

    @property
    def radiometry(self) -> Radiometry:
        """What the MSI's numbers mean."""
        return self.msi.radiometry

    def memory(self) -> int:
        """Bytes that reading takes in addition to the result."""
        return self.hsi.memory() + self.msi.memory()

    def facts(self, names: tuple[str, str], *, checksum: bool = False) -> dict[str, object]:
        """Everything of the two scenes beside geometry that can change a value, as plain JSON.

        Parameters
        ----------
        names : of HSI and MSI, to tell; never their folders.
        checksum : as of ``SceneSource.identity``.
        """
        sides: list[dict[str, Any]] = []
        for name, side in zip(names, (self.hsi, self.msi), strict=True):
            shape, transform = list(side.grid.shape), list(side.grid.transform)[:6]
            sides.append({
                "name": name, **side.identity(checksum=checksum), "channels": list(side.channels),
                **side.mask_facts, "radiometry": side.radiometry.to_json(),
                "grid": {"shape": shape, "transform": transform, "crs": side.grid.crs_wkt},
            })  # fmt: skip
        kept = ("name", "sha256", "url", "etag", "size")
        files = [{key: side[key] for key in kept if key in side} for side in sides]
        return {
            "scene": {"name": " and ".join(names), "files": files},
            "channels": list(self.msi.channels),
            "radiometry": self.radiometry.to_json(),
            "pair": {"hsi": sides[0], "msi": sides[1], "ratio": self.ratio, **self.drift.to_json()},
        }


def open_pair(
    hsi: str,
    msi: str,
    *,
    ratio: int | None = None,
    wavelengths: str | Bands | None = None,
    hsi_radiometry: str | None = None,
    msi_radiometry: str | None = None,
    nodata_rule: NodataRule = "all",
    sensor: str | None = None,
    bands: Sequence[int | str] | None = None,
    memory: int | None = None,
    measure: bool = True,
    allow_vrt: bool = False,
    allow_private: bool = False,
) -> Pair:
    """The pair of a hyperspectral and a multispectral scene.

    Parameters
    ----------
    hsi, msi : paths or URLs of GeoTIFF, ENVI or JPEG 2000 files or of Zarr stores; of the MSI whatever
        ``open_source`` opens.
    ratio : pixels of the cube along one of the HSI; None takes the whole number nearest to the MSI's.
    wavelengths : as of ``hsi_bands``.
    hsi_radiometry, msi_radiometry : what the numbers mean, as of ``open_source``.
    sensor, bands : of the MSI, as of ``open_source``.
    nodata_rule, memory, measure, allow_vrt, allow_private : as of ``open_source``.

    Raises
    ------
    SceneError : one of them cannot be used, or they are no pair.
    UsageError : as of ``open_source``.
    """
    given: dict[str, Any] = {
        "nodata_rule": nodata_rule, "memory": memory, "measure": measure, "allow_private": allow_private,
    }  # fmt: skip
    coarse, of_hsi = _open_hsi(hsi, wavelengths, hsi_radiometry, given)
    sharp, of_msi = _open_msi(msi, of_hsi.bands, msi_radiometry, sensor, bands, given, allow_vrt=allow_vrt)
    try:
        found = choose_ratio(coarse.grid, sharp.grid, ratio)
        fine = divided(coarse.grid, found)
        extent = overlap(fine, sharp.grid, found)
    except RuntimeError as err:  # pyproj's errors have this class
        raise SceneError(
            "no transformation from the HSI's CRS to the MSI's", where=redact_url(msi),
            got=str(err).partition("\n")[0], remedy="check the CRS of both",
        ) from err  # fmt: skip
    notices = [*coarse.notices, *sharp.notices]
    for name, left in (("HSI", of_hsi.left_out), ("MSI", of_msi.left_out)):
        if left:
            more = f" and {len(left) - 8} more" if len(left) > 8 else ""
            notices.append(f"left out of the {name}: {', '.join(left[:8])}{more}")
    return Pair(
        coarse, sharp, of_hsi.bands, of_msi.bands, found, fine, extent,
        notices=tuple(dict.fromkeys(notices)),
    )  # fmt: skip


def _open_hsi(
    place: str, wavelengths: str | Bands | None, radiometry: str | None, given: Mapping[str, Any]
) -> tuple[Side, Spectral]:
    if is_store(place):
        if wavelengths is not None:
            raise SceneError(
                "a store states its own wavelengths", where=redact_url(place), got="--wavelengths",
                remedy="leave it out",
            )  # fmt: skip
        scene, bands = open_stored(place, _stated(radiometry))
        known = in_order(bands, redact_url(place))
        return only(scene, known.numbers), known
    known = hsi_bands(place, wavelengths=wavelengths, allow_private=given["allow_private"])
    if radiometry is None and known.scale is not None:
        radiometry = f"dn:0,{known.scale!r}"
    source = open_source(place, None, radiometry=radiometry, bands=known.numbers, **given)
    _refuse_picture(source, "HSI")
    return source, known


def _open_msi(
    place: str,
    hsi: Bands,
    radiometry: str | None,
    sensor: str | None,
    asked: Sequence[int | str] | None,
    given: Mapping[str, Any],
    *,
    allow_vrt: bool,
) -> tuple[Side, Spectral]:
    if is_store(place):
        scene, bands = open_stored(place, _stated(radiometry))
        there: Sequence[FileBand] = [
            FileBand(number, centre_nm=centre, fwhm_nm=width)
            for number, (centre, width) in enumerate(zip(bands.centre_nm, bands.fwhm_nm, strict=True), 1)
        ]
        if asked is not None:
            there = choose_bands(there, None, asked, redact_url(place)).bands
        known = within(there, hsi, redact_url(place))
        return only(scene, known.numbers), known
    private = given["allow_private"]
    known = msi_bands(place, hsi, sensor=sensor, asked=asked, allow_vrt=allow_vrt, allow_private=private)
    source = open_source(
        place, None, radiometry=radiometry, sensor=sensor, bands=known.numbers, allow_vrt=allow_vrt, **given
    )
    return source, known


def _stated(radiometry: str | None) -> Radiometry | None:
    """What ``--…-radiometry`` says of the numbers of a store, for one channel."""
    if radiometry is None:
        return None
    kind, numbers = parse_radiometry(radiometry)
    if kind == "display":
        raise SceneError(
            "a store holds no display picture", got=radiometry, expected="reflectance or dn:OFFSET,SCALE"
        )
    offset, scale = numbers if kind == "dn" else (0.0, 1.0)
    return Radiometry(kind, (offset,), (scale,))


def _refuse_picture(source: Scene, name: str) -> None:
    if isinstance(source, SceneSource) and source.radiometry.kind == "display":
        raise SceneError(
            f"the numbers of the {name} are taken for a picture made for the eye", where=source.path,
            expected="reflectance",
            remedy=f"state what they mean with --{name.lower()}-radiometry dn:OFFSET,SCALE",
        )  # fmt: skip
