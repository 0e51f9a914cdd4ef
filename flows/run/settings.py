"""What a user sets for a scene, a flight line or an inbox.

Each setting is a field that is declared once: its type with limit and unit, its text, and how the command
line shows it. The options of the commands, the parameters of the flows and ``spectile.run`` come from here.
"""

from __future__ import annotations

from dataclasses import fields
from inspect import Parameter
from typing import Annotated, Any, Self, get_type_hints

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from typer import Argument, Option

from spectile.catalog.choices import (
    Choice,
    Combine,
    Device,
    Dtype,
    Frame,
    NodataRule,
    Resampling,
    Response,
)
from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Seed
from spectile.flows.run.texts import parse_bands, parse_bytes, parse_layers, parse_region, parse_time

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)


def _not_empty(
    region: tuple[float, float, float, float] | None,
) -> tuple[float, float, float, float] | None:
    if region is not None and not (region[0] < region[2] and region[1] < region[3]):
        raise ValueError("XMIN,YMIN below XMAX,YMAX; it is empty")
    return region


_Region = Annotated[tuple[float, float, float, float] | None, AfterValidator(_not_empty)]
_REGION = Option(parser=parse_region, metavar="XMIN,YMIN,XMAX,YMAX", show_default="the whole scene")


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Settings:
    """What can be set whatever is run.

    Raises
    ------
    UsageError : a value is of another type or beyond its limits, or there is no such setting.
    """

    out: Annotated[
        str,
        Field(description="The Zarr store to write, a path, s3:// or gs://."),
        Option(metavar="CUBE.zarr"),
    ]
    model: Annotated[
        str,
        Field(description="A model (see spectile models) or a checkpoint folder; auto: by the bands."),
        Option(metavar="NAME|PATH"),
    ] = "auto"
    steps: Annotated[
        int | None,
        Field(ge=1, description="Solver steps of each stage."),
        Option(metavar="N", show_default="1, the mean; the checkpoint's where K is 2 or more"),
    ] = None
    samples: Annotated[
        int,
        Field(ge=1, description="Samples drawn at each pixel; the cube holds their mean."),
        Option(metavar="K"),
    ] = 1
    layers: Annotated[
        tuple[Choice, ...] | None,
        Field(
            description="Layers beside the mean: standard deviation sd, quantiles q05 and q95 (4 samples or "
            "more), quality, rgb_consistency, overlap_disagreement, of a pair hsi_consistency; or none."
        ),
        Option(
            parser=parse_layers,
            metavar="sd,q05,…",
            show_default="quality,rgb_consistency, and sd where K is 2 or more",
        ),
    ] = None
    seed: Annotated[Seed, Field(description="Seed of the noise."), Option(metavar="S")] = 0
    tile: Annotated[
        int | None,
        Field(ge=1, description="Side of a tile, halo included, px."),
        Option(metavar="PX", show_default="512 and twice the halo; 256 where a model sees whole tiles"),
    ] = None
    halo: Annotated[
        int | None,
        Field(ge=0, description="Pixels around a tile's core that the model sees too, px."),
        Option(metavar="PX", show_default="how far the model looks; 32 where it sees whole tiles"),
    ] = None
    block: Annotated[
        int | None,
        # A block is whole shards of the cube.
        Field(ge=512, multiple_of=512, description="Side of a block, px, a multiple of 512."),
        Option(metavar="PX", show_default="what --memory allows"),
    ] = None
    batch: Annotated[
        int | None,
        Field(ge=1, description="Tiles in one call of the network."),
        Option(metavar="N", show_default="the device's"),
    ] = None
    memory: Annotated[
        int,
        Field(ge=1, description="Memory limit, bytes, e.g. 500MB, 2GiB."),
        Option(parser=parse_bytes, metavar="SIZE", show_default="4GB"),
    ] = 4_000_000_000
    nodata: Annotated[
        NodataRule, Field(description="Mask a pixel if all, or any, of its channels are nodata.")
    ] = "all"
    bands: Annotated[
        tuple[int | str, ...] | None,
        Field(
            min_length=1,
            description="The band for each channel of the model, by number from 1 or by name, e.g. 3,2,1.",
        ),
        Option(parser=parse_bands, metavar="BAND,…", show_default="what the file says of its bands"),
    ] = None
    sensor: Annotated[
        str | None,
        Field(
            description="Which bands the file has: rgb, rgbn, sentinel2, landsat8, worldview3, "
            "planetscope, ikonos or a file of responses; with :BAND,… those of them."
        ),
        Option(metavar="NAME|FILE", show_default="what the file says of its bands"),
    ] = None
    device: Annotated[Device, Field(description="Where the network runs.")] = "auto"
    dtype: Annotated[
        Dtype,
        Field(description="Number type of the network; auto is the fastest that was compared with float32."),
    ] = "auto"
    compiled: Annotated[
        bool,
        Field(description="Compile the network first: a minute or two, then faster."),
        Option("--compile"),
    ] = False
    workers: Annotated[
        int | None,
        Field(ge=1, description="Processes on this machine that compute blocks."),
        Option(metavar="N", show_default="this one; one for each of several GPUs"),
    ] = None
    threads: Annotated[
        int | None,
        Field(ge=1, description="CPU threads of a network."),
        Option(metavar="N", show_default="the cores; 1 in workers"),
    ] = None
    dask_address: Annotated[
        str | None,
        Field(description="Scheduler of a running dask cluster to use, tcp:// or tls://."),
        Option(metavar="tcp://HOST:PORT"),
    ] = None
    block_retries: Annotated[
        int, Field(ge=0, description="Retries of a failed block."), Option(metavar="N")
    ] = 2
    region: Annotated[_Region, Field(description="Part of the scene, in units of its CRS."), _REGION] = None
    clip: Annotated[
        str | None,
        Field(description="GeoJSON polygon in longitude and latitude; pixels outside are masked."),
        Option(metavar="FILE.geojson", show_default="the whole scene"),
    ] = None
    overwrite: Annotated[bool, Field(description="Replace an existing cube.")] = False
    allow_private: Annotated[bool, Field(description="Let URLs lead to addresses that are not public.")] = (
        False
    )
    checksum: Annotated[
        bool, Field(description="Identify a scene by URL by its sha256, not its ETag; reads all of it.")
    ] = False
    max_block_time: Annotated[
        float | None,
        Field(gt=0, description="Fail a block if its prediction takes longer, s."),
        Option(metavar="S", show_default="none"),
    ] = None
    lease: Annotated[
        float,
        Field(ge=1, description="Time without a sign of life until another run may take over, s."),
        Option(metavar="S"),
    ] = 60.0
    datetime: Annotated[
        str | None,
        Field(description="When the scene was taken, UTC, for the STAC item."),
        Option(metavar="TIME|START/END", show_default="the file's own metadata"),
    ] = None
    catalog: Annotated[
        str | None,
        Field(description="STAC catalog to add the cube to."),
        Option(metavar="FOLDER|URL", show_default="the environment's SPECTILE_CATALOG"),
    ] = None

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(given)
        except ValidationError as err:
            first = err.errors()[0]
            name, *_ = first["loc"]
            if first["type"] == "unexpected_keyword_argument":
                known = ", ".join(field.name for field in fields(cls))
                raise UsageError("unknown setting", got=name, expected=known) from None
            missing = first["type"] == "missing"
            if missing and len(first["loc"]) == 1:
                raise UsageError("missing setting", expected=name) from None
            expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            if missing:
                expected = "more values"
            got = repr(given.kwargs[name])
            raise UsageError(f"invalid setting {name}", got=got, expected=expected) from None

    @classmethod
    def like(cls, other: Settings, **changes: Any) -> Self:
        """These settings as far as others have them by the same names, with changes."""
        shared = {each.name for each in fields(cls)} & {each.name for each in fields(other)}
        return cls(**{name: getattr(other, name) for name in shared} | changes)

    @property
    def places(self) -> tuple[str, ...]:
        """Where it is read from: paths and URLs."""
        return ()


_Radiometry = Annotated[
    str | None,
    Field(
        description="What the scene's numbers mean: reflectance, display, display:GAIN, display/PEAK (for "
        "floats) or dn:OFFSET,SCALE for reflectance = (DN - OFFSET) * SCALE."
    ),
    Option(metavar="KIND", show_default="the file's own metadata"),
]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class CubeSettings(Settings):
    """What can be set for a run that makes one cube."""

    resume: Annotated[bool, Field(description="Continue an unfinished cube.")] = False
    allow_vrt: Annotated[
        bool, Field(description="Accept a VRT as the scene, if its TIFFs are in its folder or below.")
    ] = False


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SceneSettings(CubeSettings):
    """What a user sets for one scene."""

    scene: Annotated[
        str,
        Field(
            description="The scene, a path or URL: GeoTIFF, JPEG 2000, PNG, JPEG, ENVI; or a Sentinel-2 "
            "folder (.SAFE), a folder of files of one band each, or a STAC item (.json)."
        ),
        Argument(metavar="SCENE"),
    ]
    radiometry: _Radiometry = None

    @property
    def places(self) -> tuple[str, ...]:
        """The scene."""
        return (self.scene,)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class LineSettings(CubeSettings):
    """What a user sets for a flight line."""

    scenes: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="Rasters, Sentinel-2 folders, a folder of them, or a STAC item collection (.json).",
        ),
        Argument(metavar="SCENES..."),
    ]
    add: Annotated[
        tuple[str, ...],
        Field(description="Add this scene to an existing cube; repeat it for more."),
        Option(metavar="SCENE"),
    ] = ()
    crs: Annotated[
        str | None,
        Field(description="CRS of the line, e.g. EPSG:32633."),
        Option(metavar="CRS", show_default="the scenes' own, or the UTM zone of their middle"),
    ] = None
    resolution: Annotated[
        float | None,
        Field(gt=0, description="Side of a pixel, in units of the CRS."),
        Option(metavar="SIDE", show_default="the finest of the scenes"),
    ] = None
    frame: Annotated[Frame, Field(description="Direction of the rows: of the map or of the line.")] = (
        "north-up"
    )
    extent: Annotated[
        _Region,
        Field(description="Area of the grid, in units of its CRS."),
        Option(parser=parse_region, metavar="XMIN,YMIN,XMAX,YMAX", show_default="what the scenes cover"),
    ] = None
    combine: Annotated[
        Combine,
        Field(
            description="Where scenes overlap: average RGB by distance to their edges, take the first, or "
            "the one whose centre line is nearest."
        ),
    ] = "feather"
    resampling: Annotated[Resampling, Field(description="Interpolation between a scene's pixels.")] = (
        "bilinear"
    )
    radiometry: Annotated[
        tuple[str, ...],
        Field(description="What numbers mean, as for run; with NAME= for one scene. Repeat it for more."),
        Option(metavar="[NAME=]KIND", show_default="the files' own metadata"),
    ] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """The scenes, those to add last."""
        return (*self.scenes, *self.add)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class FuseSettings(CubeSettings):
    """What a user sets for the fusion of two scenes."""

    hsi: Annotated[
        str,
        Field(description="The coarse hyperspectral scene, a path or URL: GeoTIFF, ENVI or Zarr."),
        Option(metavar="SCENE"),
    ]
    msi: Annotated[
        str,
        Field(
            description="The sharp scene of few bands, a path or URL: GeoTIFF, JPEG 2000, ENVI, Zarr, or "
            "whatever run takes. Its bands are those of --sensor and --bands."
        ),
        Option(metavar="SCENE"),
    ]
    model: Annotated[
        str,
        Field(
            min_length=1,
            description="fuse: what does best on the pair itself, fuse:METHOD (see docs/fusion.md), or the "
            "folder of a trained SDP or HSR-Diff.",
        ),
        Option(metavar="METHOD"),
    ] = "fuse"
    ratio: Annotated[
        int | None,
        Field(ge=2, description="Pixels of the cube along one of the HSI."),
        Option(metavar="N", show_default="the whole number nearest to the MSI's"),
    ] = None
    response: Annotated[
        Response,
        Field(description="The MSI's response: fitted on the pair, or what its bands are said to be."),
    ] = "fit"
    wavelengths: Annotated[
        str | None,
        Field(description="Bands of an HSI that does not state them: CSV of wavelength and fwhm, nm."),
        Option(metavar="FILE", show_default="the file's own metadata"),
    ] = None
    hsi_radiometry: _Radiometry = None
    msi_radiometry: _Radiometry = None

    @property
    def places(self) -> tuple[str, ...]:
        """The two scenes."""
        return (self.hsi, self.msi)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class FusionNetwork(Settings):
    """What decides which fusion a process loads; it needs no file of the pair."""

    pair: str
    """The file of the pair's estimates, as base64."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class WatchSettings(Settings):
    """What a user sets for the sweeps of an inbox."""

    inbox: Annotated[
        str,
        Field(
            description="A folder, with all folders below it, or a STAC catalogue, collection or item, "
            "path or URL."
        ),
        Argument(metavar="INBOX"),
    ]
    out: Annotated[
        str, Field(description="Where the cubes go, a path, s3:// or gs://."), Option(metavar="FOLDER")
    ]
    at_once: Annotated[
        int, Field(ge=1, description="Scenes at a time; each may use --memory."), Option(metavar="N")
    ] = 1
    settle: Annotated[
        float,
        Field(ge=0, description="A file that changes within this time waits for the next sweep, s."),
        Option(parser=parse_time, metavar="TIME", show_default="10s"),
    ] = 10.0
    radiometry: _Radiometry = None

    @property
    def places(self) -> tuple[str, ...]:
        """The inbox."""
        return (self.inbox,)


def parameters_of(kind: type[Settings]) -> list[Parameter]:
    """The fields as keyword parameters: what must be given, the kind's own, those that it shares."""
    own, hints = list(kind.__annotations__), get_type_hints(kind, include_extras=True)
    of_all = kind.__pydantic_fields__  # type: ignore[attr-defined]
    parameters = [
        Parameter(
            name, Parameter.KEYWORD_ONLY, annotation=hints[name],
            default=Parameter.empty if field.is_required() else field.default,
        )
        for name, field in of_all.items()
    ]  # fmt: skip
    order = [*own, *(each.name for each in parameters if each.name not in own)]
    return sorted(parameters, key=lambda each: (each.default is not each.empty, order.index(each.name)))


def field_of(kind: type[Settings], name: str) -> FieldInfo:
    """What is declared of a setting: limits, text and what the command line shows."""
    found: FieldInfo = kind.__pydantic_fields__[name]  # type: ignore[attr-defined]
    return found
