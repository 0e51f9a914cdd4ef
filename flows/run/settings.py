"""What a user sets for a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from spectile.catalog.limits import check_seed
from spectile.pipeline.plan.layers import Choice
from spectile.pipeline.scene.raster import NodataRule

LOG = logging.getLogger("spectile")

Device = Literal["auto", "cpu", "cuda"]


Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class SceneSettings:
    """What a user sets for one scene; the command line's options bear the fields' names."""

    scene: str
    """The RGB raster."""
    out: str
    """The Zarr store to write."""
    model: str = "vnir48"
    """Name of a model, or the path of a checkpoint."""
    steps: int | None = None
    """Solver steps of each stage; None takes the checkpoint's own."""
    samples: int = 1
    """Samples drawn at each pixel; the cube holds their mean."""
    layers: tuple[Choice, ...] | None = None
    """What it holds beside the mean; None takes the standard deviation where there are samples, and the
    quality layers that cost next to nothing."""
    seed: int = 0
    """Seed of the noise."""
    tile: int = 256
    """Rows and columns of a tile, halo included, px."""
    halo: int = 32
    """Pixels beyond a tile's core on each side."""
    block: int | None = None
    """Rows and columns of a block, px; None takes what fits the memory."""
    batch: int | None = None
    """Tiles that go through the network at once; None takes the device's default."""
    memory: int = 4_000_000_000
    """Bytes that the process may take."""
    radiometry: str | None = None
    """What the scene's numbers mean; None lets the file decide."""
    nodata: NodataRule = "all"
    """Whether all or any of the channels must hold the nodata value for a pixel to be masked."""
    rgb: tuple[int, int, int] | None = None
    """1-based bands of red, green and blue; None lets the file decide."""
    device: Device = "auto"
    """Where the network runs."""
    dtype: Dtype = "auto"
    """What the networks compute in; auto is bfloat16 where that is native and was tried."""
    compiled: bool = False
    """Whether the networks are compiled first."""
    region: tuple[float, float, float, float] | None = None
    """(x_min, y_min, x_max, y_max) in the scene's CRS; None takes the whole scene."""
    resume: bool = False
    """Go on with a cube that was not finished."""
    overwrite: bool = False
    """Replace a cube that is there."""
    allow_vrt: bool = False
    """Whether a scene that is named may be a VRT, of TIFFs in its folder or below."""
    allow_private: bool = False
    """Whether URLs may lead to link-local addresses, and those of a catalogue to private ones."""
    checksum: bool = False
    """Read a scene by URL whole for its sha256, rather than know it by its ETag."""
    workers: int | None = None
    """Processes of this machine that make blocks; None is this one, or with several GPUs one for each."""
    threads: int | None = None
    """Threads of a network on the CPU; None is the cores in this process, 1 in workers."""
    dask_address: str | None = None
    """Scheduler of the dask cluster that makes the blocks, tcp:// or tls://."""
    block_retries: int = 2
    """How often a block that fails is tried again."""
    max_block_time: float | None = None
    """Seconds that the prediction of a block may take; None is no limit."""
    lease: float = 60.0
    """Seconds without a sign of life after which another run may take the cube over."""
    datetime: str | None = None
    """When the scene was taken, UTC: a time, a day, month or year, or START/END; None lets the file say."""
    catalog: str | None = None
    """Folder or URL of the STAC catalog to add the cube to; None takes SPECTILE_CATALOG, or none."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
