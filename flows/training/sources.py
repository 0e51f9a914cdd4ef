"""What recipes may train on: simulated scenes, scenes and libraries from files, responses of the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from spectile.catalog.bands import Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Count, Finite, Positive, Share, Side, Whole
from spectile.pipeline.spectra.formats import Axes, Layout, Unit
from spectile.pipeline.spectra.libraries import Table

Scenes = Annotated[int, Field(ge=1, le=100_000)]
"""A number of scenes that are made up."""
Elevation = Annotated[float, Field(gt=0, le=90)]
"""Of the sun above the horizon, degrees."""
OneOrMore = Field(min_length=1)


@dataclass(frozen=True)
class SimulatedScenes:
    """Scenes from the simulator's materials for training."""

    scenes: Scenes = 160
    """For training."""
    validation: Whole = 8
    """For choosing the baselines and watching."""
    held_out: Whole = 12
    """For the table in the checkpoint."""
    size: Side = 192
    """Side, pixels."""
    pixel_sizes_m: Annotated[tuple[Positive, ...], OneOrMore] = (0.1, 0.2, 0.4, 0.8)
    """Scenes take these in turn."""
    sun_elevations_deg: Annotated[tuple[Elevation, ...], OneOrMore] = (35.0, 48.0, 62.0)
    """And these."""
    weight: Positive = 0.8
    """How often all of them together are drawn."""


@dataclass(frozen=True)
class SceneSource:
    """One real scene."""

    path: str
    """Below the data folder; of a folder, every file that ``glob`` matches is a scene."""
    name: str
    """What it is."""
    licence: str
    """Its terms."""
    site: str = ""
    """The place that it shows, the same for all sources of one place; by default its path. Places are left
    out in turn to learn how far to trust the model in others."""
    glob: str = "*"
    """Which files of a folder."""
    scale: Positive | None = None
    """Reflectance per count, where the file does not carry it."""
    nodata: float | None = None
    """What a missing sample holds, counts, where the file does not carry it."""
    bands_of: str | None = None
    """The source of the bands, if the file does not have them: a sensor's name, or a file below the
    data folder (CSV with columns wavelength and fwhm, or a hyperspectral one)."""
    dataset: str | None = None
    """The array inside a MATLAB, HDF5 or Zarr file."""
    wavelengths: str | None = None
    """The array of band centres inside a MATLAB or HDF5 file."""
    fwhm: str | None = None
    """The array of band widths inside it."""
    axes: Axes | None = None
    """The order of the array's axes in a MATLAB or HDF5 file: b band, y row, x column; ``yxb`` if unsaid."""
    shape: tuple[Count, Count, Count] | None = None
    """The sizes of these axes, where a MATLAB array has its pixels in one."""
    good: str | None = None
    """The array inside a MATLAB file that is 0 for bad bands."""
    band_numbers: str | None = None
    """The array inside it that says which of ``bands_of`` these are, from 1."""
    first_bands: Count | None = None
    """How many bands of the file are read, from the first; all if unsaid."""
    wavelength_unit: Unit = "nm"
    """Of wavelengths whose file does not say it."""
    good_nm: tuple[Finite, Finite] = (400.0, 1100.0)
    """Bands outside are left out, after pixels were masked that lack any band."""
    bad_nm: tuple[tuple[Finite, Finite], ...] = ()
    """Ranges of bands that are left out before, as those are that the file itself calls bad."""
    despike: Positive | None = None
    """Pixels are masked where a band stands out from its neighbours by this many robust deviations."""
    weight: Positive = 0.05
    """How often it, or all scenes of a folder together, are drawn."""
    zoom: Annotated[int, Field(ge=1, le=16)] = 1
    """What is trained on is enlarged by this factor, bilinear; what is measured on never is."""
    gap_columns: Whole = 4
    """Columns between parts of the scene that no part has: a sensor mixes neighbours."""
    held_out_columns: Whole = 0
    """Columns at the right that are never looked at in training."""
    held_out: bool = False
    """Whether all of it is not."""
    validation_columns: Whole = 0
    """Columns to watch the training by, left of those held out."""
    validation: bool = False
    """Whether all of it is for validation."""

    def __post_init__(self) -> None:
        if self.held_out and self.validation:
            raise UsageError("a scene is held out or for validation, not both", where=self.path)
        if (self.held_out or self.validation) and (self.held_out_columns or self.validation_columns):
            raise UsageError("a scene is used whole or by columns, not both", where=self.path)

    @property
    def layout(self) -> Layout:
        """Where inside the file things are."""
        return Layout(
            self.dataset, self.wavelengths, self.fwhm, self.axes, self.wavelength_unit,
            shape=self.shape, good=self.good, band_numbers=self.band_numbers, first_bands=self.first_bands,
        )  # fmt: skip


@dataclass(frozen=True)
class LibrarySource:
    """A spectral library, shown to the network as mosaics of flat cells."""

    path: str
    """Below the data folder."""
    name: str
    """What it is."""
    licence: str
    """Its terms."""
    scenes: Scenes = 12
    """Mosaics for training."""
    size: Side = 192
    """Side, pixels."""
    cell: Count = 12
    """Mean side of a cell, pixels."""
    held_out: Share = 0.1
    """Share of the spectra that is never trained on: all of a sample, or none (``sample_of``)."""
    weight: Positive = 0.08
    """How often all mosaics together are drawn."""
    names: str = "*"
    """Which spectra, as a pattern of their names like those of files: ``[!v]*`` is all but those in v."""
    good_nm: tuple[Finite, Finite] = (300.0, 1100.0)
    """Bands outside are left out, then spectra that lack a band or are not plausible in one."""
    bad_nm: tuple[tuple[Finite, Finite], ...] = ()
    """Ranges of bands inside that are left out too."""
    scale: Positive | None = None
    """Reflectance per count, where the file does not carry it; 1 where nothing does."""
    bands_of: str | None = None
    """Whose bands these are, as of a scene; the columns of a table are then numbers of them, from 1."""
    first_bands: Count | None = None
    """How many bands of the file are read, from the first; all if unsaid."""
    wavelength_unit: Unit = "nm"
    """Where the file does not say it."""
    spectra: Literal["rows", "columns"] = "rows"
    """Whether a table has one spectrum a row, its columns named by wavelength, or one a column."""
    band_prefix: str = ""
    """What is before the number in the names of a table's columns."""
    sample_column: str | None = None
    """The column of a table that names each row's sample."""

    def __post_init__(self) -> None:
        if self.cell > self.size:
            raise UsageError("a cell is larger than its mosaic", where=self.path, got=self.cell)

    @property
    def layout(self) -> Layout:
        """What the file does not say of its wavelengths."""
        return Layout(wavelength_unit=self.wavelength_unit, first_bands=self.first_bands)

    @property
    def table(self) -> Table:
        """How a table holds the spectra."""
        return Table(self.spectra, self.band_prefix, self.sample_column)


@dataclass(frozen=True)
class EndmemberSource:
    """Where the spectra come from."""

    path: str
    """Of a library below the data folder."""
    name: str
    """What it is."""
    licence: str
    """Its terms."""
    leave_out: tuple[str, ...] = ()
    """Patterns of names that are no ground cover, such as reagents and ices of the laboratory."""
    good_nm: tuple[Finite, Finite] = (300.0, 1100.0)
    """Bands outside are not looked at."""

    @property
    def library(self) -> LibrarySource:
        """The same as a library to read."""
        return LibrarySource(self.path, self.name, self.licence, good_nm=self.good_nm)


@dataclass(frozen=True)
class EvenBands:
    """Bands at equal spacing, each as wide as that."""

    first_nm: Positive
    """Centre of the first."""
    last_nm: Positive
    """Centre of the last."""
    count: Annotated[int, Field(ge=2, le=10_000)]
    """How many."""

    def __post_init__(self) -> None:
        if not 0 < self.first_nm < self.last_nm or self.count < 2:
            raise UsageError("bands need first_nm below last_nm and a count of 2 or more", got=self)

    @property
    def bands(self) -> Bands:
        """The bands."""
        return Bands.evenly_spaced(self.first_nm, self.last_nm, self.count)


@dataclass(frozen=True)
class ResponseSource:
    """A response of the input's channels, in their order: one of ``sensor``, ``file`` and ``nearest_nm``."""

    sensor: str | None = None
    """A sensor's name: Gaussians."""
    file: str | None = None
    """Measured curves below the data folder: .sli, .csv, .xls or .mat."""
    channels: tuple[str | int, ...] | None = None
    """The file's curves, or the sensor's bands, of each channel by name or number, from 1."""
    wavelength_unit: Unit = "nm"
    """Where the file does not say it."""
    licence: str = "not stated"
    """The file's terms."""
    nearest_nm: tuple[Positive, ...] | None = None
    """The scene's single bands nearest to these."""
    weight: float = 1.0
    """How often a varied crop draws it."""

    def __post_init__(self) -> None:
        if [self.sensor, self.file, self.nearest_nm].count(None) != 2:
            raise UsageError("a response has one of sensor, file and nearest_nm")
        if self.channels is None and self.file is not None:
            raise UsageError("a response needs channels with a file")
        if self.channels is not None and self.nearest_nm is not None:
            raise UsageError("nearest_nm are the channels themselves")
        if not 0 < self.weight < math.inf:
            raise UsageError("a response has a positive weight", got=self.weight)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What any model can be trained on and measured with."""

    name: str
    """Of the model."""
    simulator: SimulatedScenes | None = None
    """Simulated scenes, if any."""
    scenes: tuple[SceneSource, ...] = ()
    """Real scenes."""
    libraries: tuple[LibrarySource, ...] = ()
    """Spectral libraries."""
    samples: Count = 20
    """Draws a crop in the held-out table."""
    crops: Count = 2
    """Crops of each held-out scene in it."""

    @property
    def betas(self) -> tuple[float, float]:
        """First and last β of the linear schedule."""
        return (1e-4, 0.02)
