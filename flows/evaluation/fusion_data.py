"""The files of the data sets that methods of fusion are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.flows.evaluation.evaluate import FOLDER_SUFFIXES
from spectile.flows.evaluation.fusion_protocols import FusionProtocol, Values
from spectile.flows.evaluation.protocols import read_counts
from spectile.pipeline.files.opening import open_raster
from spectile.pipeline.files.untrusted import reading_file
from spectile.pipeline.spectra.formats import kind_of
from spectile.pipeline.spectra.hyperspectral import AS_STORED, hyperspectral_of, read_bands, read_file


class Scenes(NamedTuple):
    """What a data set's files hold."""

    cubes: list[Values]
    """(B, H, W) each."""
    bands: Bands | None
    """As the files state them."""
    reflectance: bool = False
    """Whether the files say how counts become reflectance, which the cubes are then in."""


def read_scenes(protocol: FusionProtocol, data: Path, wavelengths: Path | None) -> Scenes:
    """The scenes of a data set.

    Raises
    ------
    SceneError : a file cannot be read, or is not the data set's.
    """
    if protocol.many:
        return Scenes(_folder_of_scenes(data, protocol.bands), None)
    if kind_of(data) == "matlab" and (protocol.bands or wavelengths):
        known = protocol.bands or (len(read_bands(wavelengths)),) if wavelengths else protocol.bands
        return Scenes([read_counts(data, *known)], None)
    raw = read_file(data, AS_STORED)
    if not protocol.bands:
        given = None if wavelengths is None else read_bands(wavelengths)
        scene = hyperspectral_of(raw, data.name, bands=given, scale=1.0)
        if not scene.valid.all():
            raise SceneError(
                "the protocol needs a scene without masked pixels", where=data.name,
                got=f"{1.0 - scene.valid.mean():.1%} masked", remedy="cut the scene to where all is valid",
            )  # fmt: skip
        return Scenes([scene.cube], scene.bands, raw.scale is not None)
    if len(raw.counts) not in protocol.bands:
        raise SceneError(
            "not the protocol's scene", where=data.name, got=f"{len(raw.counts)} bands",
            expected=f"{' or '.join(map(str, protocol.bands))} bands",
        )  # fmt: skip
    if not np.isfinite(raw.counts).all():
        raise SceneError("the scene holds NaN or infinity", where=data.name)
    return Scenes([raw.counts], raw.bands)


def _folder_of_scenes(folder: Path, bands: Sequence[int]) -> list[Values]:
    """Scenes of a folder by name: files, or folders of one PNG a band as CAVE comes.

    Raises
    ------
    SceneError : there are none, or one has another number of bands.
    """
    if not folder.is_dir():
        raise SceneError("no folder of scenes", where=str(folder))
    pictures: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.png")):
        pictures.setdefault(path.parent, []).append(path)
    found = [_stacked(pages) for pages in pictures.values() if len(pages) in bands]
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in FOLDER_SUFFIXES)
    found += [read_counts(path, *bands) for path in files]
    if not found:
        raise SceneError(
            "no scene there", where=str(folder),
            expected=f"files {', '.join(FOLDER_SUFFIXES)}, or folders of {bands[0]} PNG files",
        )  # fmt: skip
    return found


def _stacked(pages: Sequence[Path]) -> Values:
    """(B, H, W) float32 of one file a band, over what its type can hold."""
    bands = []
    for path in pages:
        with reading_file(path), open_raster(str(path)) as source:
            page = source.read(1)
        bands.append(page.astype(np.float32) / np.iinfo(page.dtype).max)
    if len({band.shape for band in bands}) > 1:
        raise SceneError("the bands of a scene have different sizes", where=pages[0].parent.name)
    return np.stack(bands)
