"""The main job, composed: settings → plan → cube → blocks → finished cube.

The command line and the Prefect flow both call these functions and nothing else, so that a run is the
same through either door.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from spectile.catalog.errors import BlockError, CubeError, StoreError, UsageError
from spectile.catalog.inputs import even_batch
from spectile.catalog.limits import check_seed
from spectile.catalog.sizes import width_by_height
from spectile.catalog.times import to_text
from spectile.catalog.urls import locate
from spectile.flows.run.holding import Beating, holding
from spectile.flows.run.outputs import check_apart, check_place
from spectile.flows.run.register import check_catalog, register, taken_of
from spectile.pipeline.block.predict import BandsRepeat, Predictor
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.layout import software_version
from spectile.pipeline.cube.lease import refuse_held
from spectile.pipeline.cube.ledger import Marker
from spectile.pipeline.cube.record import (
    Cube,
    create_cube,
    finished_blocks,
    is_laid_out,
    load_plan,
    occupied,
    read_record,
    read_status,
)
from spectile.pipeline.geometry.tiling import Block, Tiling
from spectile.pipeline.line.source import LineSource
from spectile.pipeline.plan.layers import Choice, choose_layers
from spectile.pipeline.plan.plan import Estimate, Plan, choose_block
from spectile.pipeline.plan.quality_layers import choose_quality
from spectile.pipeline.plan.shares import Share
from spectile.pipeline.product.quicklook import write_quicklook
from spectile.pipeline.product.report import write_report
from spectile.pipeline.product.report_facts import shown
from spectile.pipeline.run import process_run
from spectile.pipeline.scene.raster import NodataRule, SceneSource, open_source
from spectile.pipeline.stac.item import TAKEN
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

if TYPE_CHECKING:
    from spectile.flows.run.crew import Crew

LOG = logging.getLogger("spectile")

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]

BLOCKS_A_RUN = 8
"""Blocks that one Prefect task takes: few enough that losing one costs minutes, many enough that the
tasks cost nothing."""


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


class Observer(Protocol):
    """Who is told how a run goes."""

    def begin(self, plan: Plan, estimate: Estimate, done: Sequence[Block]) -> None:
        """Told once, before the first block; ``done`` are those of an earlier run."""
        ...

    def tiles(self, count: int) -> None:
        """Told when tiles have been finished or skipped; negative when tiles are recomputed."""
        ...

    def block(self, block: Block, seconds: float) -> None:
        """Told when a block has been written."""
        ...


class Silent:
    """An observer that says nothing."""

    def begin(self, plan: Plan, estimate: Estimate, done: Sequence[Block]) -> None:
        """Nothing."""

    def tiles(self, count: int) -> None:
        """Nothing."""

    def block(self, block: Block, seconds: float) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    settings: SceneSettings
    """What the user set."""
    source: SceneSource | LineSource
    """The scene, or the flight line."""
    predictor: Predictor
    """The network."""
    plan: Plan
    """What will be done."""
    estimate: Estimate
    """What it costs."""
    crew: Crew | None = None
    """The processes that make the blocks; None is this one."""

    @property
    def sources(self) -> Mapping[str, SceneSource | LineSource]:
        """The scene by the name of the network's input."""
        return {spec.name: self.source for spec in self.predictor.inputs}

    @property
    def seconds_per_tile(self) -> float | None:
        """Time of one tile and one sample, if it was measured."""
        tiles = (self.estimate.tiles - self.estimate.tiles_masked) * self.plan.samples
        return None if self.estimate.hours is None else self.estimate.hours * 3600 / tiles

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        if self.crew is not None:
            self.crew.close()


@dataclass(frozen=True)
class Result:
    """What a run did."""

    cube: str
    """The store."""
    quicklook: str | None
    """The picture beside it; None where the cube was not finished."""
    report: str | None
    """The report beside it; None where the cube was not finished, or where it could not be made."""
    item: str
    """The STAC item beside it."""
    blocks_done: int
    """Blocks that are done, those of earlier runs included."""
    blocks_failed: int
    """Blocks that could not be made."""
    failures: tuple[str, ...]
    """Why, a line each."""
    megapixels: float
    """Pixels written by this run, in millions."""
    seconds: float
    """Wall time of this run."""
    tiles: int
    """Tiles that went through the network in this run."""
    tiles_skipped: int
    """Tiles left out in this run because the scene is masked there."""
    tiles_kept: int
    """Tiles that this run had predicted for another block already."""
    redundancy: float
    """Tiles predicted for the cube so far, for each of its lattice; less than 1 where some are masked."""
    peak_memory_bytes: int
    """Most memory that this process, or a worker, has held."""

    @property
    def megapixels_per_second(self) -> float:
        """Speed of this run."""
        return self.megapixels / self.seconds if self.seconds > 0 else 0.0


def prepare(settings: SceneSettings, *, dry: bool = False, like: Prepared | None = None) -> Prepared:
    """Open the scene, load the model and plan the run.

    Parameters
    ----------
    dry : read no pixel but the first and the last: the plan then lacks what is measured on the scene, and
        has no valid digest; the network is timed instead, so that the estimate knows the hours.
    like : another scene's dry plan with these settings: its model and its timing are taken.

    Raises
    ------
    SpectileError : the scene, the model or a setting cannot be used.
    """
    check_output(settings, [settings.scene], dry=dry)
    choose_layers(settings.layers, settings.samples)  # refuses what cannot be, before the scene is read
    source = open_source(
        settings.scene,
        radiometry=settings.radiometry,
        nodata_rule=settings.nodata,
        channels=settings.rgb,
        measure=not dry,
        memory=settings.memory,
        allow_vrt=settings.allow_vrt,
        allow_private=settings.allow_private,
    )
    LOG.info("scene %s: %s", locate(settings.scene).name, width_by_height(source.grid.shape))
    return plan_run(settings, source, {} if dry else _facts(settings, source), dry=dry, like=like)


def plan_run(
    settings: SceneSettings,
    source: SceneSource | LineSource,
    facts: Mapping[str, object],
    *,
    dry: bool,
    like: Prepared | None = None,
) -> Prepared:
    """Load the model and plan the run on a source.

    Parameters
    ----------
    facts : everything of the source beside geometry that can change a value; empty for a dry run.
    dry, like : as of ``prepare``.

    Raises
    ------
    SpectileError : the model or a setting cannot be used.
    """
    crew = _assemble(settings, source, dry=dry)
    try:
        return _plan_run(settings, source, facts, crew, dry=dry, like=like)
    except BaseException:
        if crew is not None:
            crew.close()
        raise


def _assemble(settings: SceneSettings, source: SceneSource | LineSource, *, dry: bool) -> Crew | None:
    """The processes that the settings ask for; None where this one is enough."""
    if settings.workers is not None and settings.dask_address is not None:
        raise UsageError("--workers and --dask-address exclude each other")
    if dry:
        return None
    gpus: list[str] = []
    if settings.device != "cpu" and settings.dask_address is None and settings.model != "bands-repeat":
        from spectile.model.device import visible_gpus

        gpus = visible_gpus()
    if settings.workers is None and settings.dask_address is None and len(gpus) < 2:
        return None
    from spectile.flows.run.crew import assemble  # a run in one process needs no dask

    return assemble(settings, source, gpus)


def _plan_run(
    settings: SceneSettings,
    source: SceneSource | LineSource,
    facts: Mapping[str, object],
    crew: Crew | None,
    *,
    dry: bool,
    like: Prepared | None,
) -> Prepared:
    for notice in source.notices:
        LOG.warning(notice)
    layers = choose_layers(settings.layers, settings.samples)
    grid = source.grid
    tiling = Tiling(grid.shape, settings.tile, settings.halo)
    window = grid.window if settings.region is None else grid.window_of(settings.region)
    if like is not None:
        predictor = like.predictor
    else:
        predictor = _load_predictor(settings) if crew is None else crew.predictor(settings)
    tiling.check_stride(predictor.stride)
    estimate = predictor.settings.get("estimate")
    if estimate == "posterior mean":
        LOG.info("one solver step gives the posterior mean: no noise is drawn")
    if estimate in ("posterior mean", "regression") and settings.samples > 1:
        what = "one solver step" if estimate == "posterior mean" else "a regression"
        raise UsageError(
            f"{what} gives every sample alike", got=f"--samples {settings.samples}",
            remedy="leave out --samples, or take a model and steps that draw",
        )  # fmt: skip
    fitted = predictor.calibration
    if layers and fitted is not None and fitted.samples != settings.samples:
        LOG.warning(
            "the layers were calibrated with %d samples; with %d they hold less well",
            fitted.samples, settings.samples,
        )  # fmt: skip
    bands = len(predictor.bands)
    decided = {} if dry else {**facts, "software": software_version(), "model": dict(predictor.settings)}
    held = predictor.memory(settings.tile) + source.memory()
    scenes: tuple[Share, ...] = ()
    if isinstance(source, LineSource):
        scenes = source.shares(tiling, window, identified=not dry, checksum=settings.checksum)
    # The block changes no value, but any block must do for the checks of the plan.
    draft = Plan(
        grid,
        window,
        tiling,
        settings.block or 512,
        bands,
        settings.samples,
        layers,
        decided,
        scenes,
        choose_quality(settings.layers),
    )
    plan = draft if settings.block else _with_block(draft, settings, held)
    seconds = like.seconds_per_tile if like is not None else None
    if dry and seconds is None:
        seconds = _seconds_per_tile(predictor, settings.tile)
    overlapped = plan.overlaps(predictor_bytes=held, budget=settings.memory)
    estimate = plan.estimate(predictor_bytes=held, overlapped=overlapped, seconds_per_tile=seconds)
    return Prepared(settings, source, predictor, plan, estimate, crew)


def check_output(settings: SceneSettings, scenes: Sequence[str], *, dry: bool) -> None:
    """Refuse an output that exists, or holds one of the scenes, before any work is done on them.

    Raises
    ------
    UsageError, CubeError, StoreError : the output cannot be written as the settings say.
    """
    if settings.resume and settings.overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    check_apart(settings.out, scenes)
    check_catalog(settings)
    if dry:
        return
    storage = open_storage(settings.out)
    if occupied(storage) and not settings.resume:
        if not settings.overwrite:
            raise CubeError(
                "the output exists",
                where=settings.out,
                remedy="use --resume to go on with it, --overwrite to replace it, or another --out",
            )
        read_status(storage)  # refuses to replace what is no cube
    check_place(settings.out)


def check_start(settings: SceneSettings, scenes: Sequence[str]) -> None:
    """Refuse what a run would refuse before its first block; nothing is written or taken.

    Raises
    ------
    UsageError, CubeError, LeaseHeld, StoreError : the output cannot be written as the settings say.
    """
    check_output(settings, scenes, dry=False)
    storage = open_storage(settings.out)
    if occupied(storage) and read_record(storage) is None:
        read_status(storage)  # something else is there
    refuse_held(storage)
    folder = locate(settings.out)
    if isinstance(folder, Path):
        folder = next(each for each in folder.absolute().parents if each.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StoreError(
                "the cube cannot be written there", where=str(folder), remedy="choose another --out"
            )


def _load_predictor(settings: SceneSettings) -> Predictor:
    if settings.model == "bands-repeat":
        return BandsRepeat(batch=settings.batch or 8)
    # torch takes seconds to import; nothing that needs no network should wait for it.
    from spectile.model.predict.predictor import load_predictor
    from spectile.model.predict.regression import RegressionPredictor, split_name

    name, kind = split_name(settings.model)
    if kind is not None:
        if settings.steps is not None:
            raise UsageError(
                "a regression takes no steps", got=f"--model {settings.model} --steps {settings.steps}"
            )
        return RegressionPredictor(name, kind, batch=settings.batch)
    predictor: Predictor = load_predictor(
        settings.model,
        steps=settings.steps,
        seed=settings.seed,
        batch=settings.batch,
        device=settings.device,
        dtype=settings.dtype,
        compiled=settings.compiled,
        threads=settings.threads,
    )
    return predictor


def _facts(settings: SceneSettings, source: SceneSource) -> dict[str, object]:
    """Everything of the scene beside geometry that can change a value. Names the file, never its folder."""
    return {
        "scene": {"name": locate(settings.scene).name, **source.identity(checksum=settings.checksum)},
        "channels": list(source.channels),
        **source.mask_facts,
        "radiometry": source.radiometry.to_json(),
    }


def _with_block(draft: Plan, settings: SceneSettings, held: int) -> Plan:
    storage = open_storage(settings.out)
    if settings.resume and occupied(storage):
        block = load_plan(storage).block  # a resumed cube keeps its blocks
    else:
        block = choose_block(
            draft.window,
            draft.tiling,
            draft.bands,
            draft.samples,
            draft.layers,
            budget=settings.memory,
            predictor_bytes=held,
        )
    return replace(draft, block=block)


def _seconds_per_tile(predictor: Predictor, tile: int) -> float:
    batch = even_batch(predictor.inputs, predictor.batch, tile)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in predictor.predict(batch, range(1)):
            pass
        times.append(time.perf_counter() - start)
    return min(times) / predictor.batch


def start_cube(prepared: Prepared, storage: Storage | None = None) -> Cube:
    """The cube to write: a new one, or with ``resume`` the one that is there.

    Parameters
    ----------
    storage : that of the lease that is held; None for a cube that nobody else writes.

    Raises
    ------
    CubeError : the cube that is there was made from other settings.
    """
    settings, plan, predictor = prepared.settings, prepared.plan, prepared.predictor
    storage = storage or open_storage(settings.out)
    there = occupied(storage)
    if settings.resume and there:
        check_same(prepared, read_status(storage), str(storage))
        if is_laid_out(storage):
            return Cube(storage, plan)
    replacing = there and (settings.resume or settings.overwrite)
    return create_cube(storage, plan, predictor.bands, calibration=predictor.calibration, replace=replacing)


def check_same(prepared: Prepared, facts: Mapping[str, Any], where: str) -> None:
    """Refuse to go on with a cube that was made from other settings.

    Parameters
    ----------
    facts : the cube's ``digest``, ``plan`` and ``block``.
    where : its place.

    Raises
    ------
    CubeError : it was.
    """
    plan = prepared.plan
    if facts["digest"] != plan.digest:
        raise CubeError(
            "the cube was started with other settings",
            where=where,
            got=_difference(facts["plan"], plan.to_json()),
            remedy="repeat those settings, or use --overwrite",
        )
    if facts["block"] != plan.block:
        raise CubeError(
            "the cube was started with another block size",
            where=where,
            got=f"--block {plan.block}",
            expected=facts["block"],
            remedy="leave --block out when resuming",
        )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    """The first settings that differ, as ``name new instead of old``."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            if was != now:
                found.append(_difference(was, now, f"{prefix}{key}."))
        elif was != now:
            found.append(f"{prefix}{key} {str(now)[:40]} instead of {str(was)[:40]}")
    return ", ".join(found[:3])


def remaining(cube: Cube) -> list[Block]:
    """The blocks that are still to do, in order."""
    done = finished_blocks(cube)
    return [block for block in cube.plan.blocks if block not in done]


def runs(prepared: Prepared, blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Contiguous blocks, as many as one Prefect task takes: all where a crew makes runs of its own."""
    size = BLOCKS_A_RUN if prepared.crew is None else max(len(blocks), 1)
    for start in range(0, len(blocks), size):
        yield list(blocks[start : start + size])


@dataclass
class Tally:
    """What has been done so far; blocks add to it."""

    done: int = 0
    """Blocks done."""
    tiles: int = 0
    """Tiles predicted."""
    tiles_skipped: int = 0
    """Tiles left out."""
    tiles_kept: int = 0
    """Tiles that had been predicted for another block."""
    pixels: int = 0
    """Pixels written."""
    peak_memory_bytes: int = 0
    """Most memory that a worker has held."""
    failures: list[str] = field(default_factory=list)
    """Why blocks failed, a line each."""

    def add(self, plan: Plan, block: Block, marker: Marker) -> None:
        """Count a block that is done."""
        self.done += 1
        self.tiles += marker.tiles
        self.tiles_skipped += marker.tiles_skipped
        self.tiles_kept += marker.tiles_kept
        self.pixels += plan.pixels(block)

    def fail(self, block: Block, why: object) -> None:
        """Note a block that is given up."""
        LOG.error("block %s failed: %s", block.name, why)
        self.failures.append(f"block {block.name}: {why}")


@dataclass(frozen=True)
class _Told:
    """Adds what a run of blocks did to a tally, and tells an observer."""

    plan: Plan
    tally: Tally
    observer: Observer

    def tiles(self, count: int) -> None:
        self.observer.tiles(count)

    def done(self, block: Block, marker: Marker, seconds: float) -> None:
        self.tally.add(self.plan, block, marker)
        self.observer.block(block, seconds)

    def failed(self, block: Block, error: BlockError) -> None:
        self.tally.fail(block, error)


def process_blocks(
    prepared: Prepared, cube: Cube, blocks: Sequence[Block], *, tally: Tally, observer: Observer
) -> None:
    """Compute and write blocks. One that cannot be made is noted in the tally, and the rest go on.

    Raises
    ------
    StoreError : the store cannot be written; there is no point in going on.
    """
    if prepared.crew is not None:
        prepared.crew.process_blocks(prepared, cube, blocks, tally=tally, observer=observer)
        return
    process_run(
        cube,
        blocks,
        sources=prepared.sources,
        predictor=prepared.predictor,
        watch=_Told(cube.plan, tally, observer),
        retries=prepared.settings.block_retries,
        max_seconds=prepared.settings.max_block_time,
        overlapped=prepared.estimate.overlapped,
    )


def finish_cube(
    cube: Cube,
    told: Mapping[str, Any],
    *,
    markers: Mapping[Block, Marker] | None = None,
    on_region: Callable[[], None] = lambda: None,
) -> tuple[str, str | None]:
    """Make overviews and quicklook, declare the cube complete, report on it; where both are.

    Parameters
    ----------
    told : what only a run knows of it, as ``told_by`` and ``told_of`` have it.
    markers : of the finished blocks; None reads them.
    on_region : told when a shard of the overviews has been made.

    Raises
    ------
    CubeError : blocks are missing.
    StoreError : the store or the picture cannot be written.
    """
    markers = finished_blocks(cube) if markers is None else markers
    done = markers.values()
    pictures: list[str] = []
    finalise(
        cube,
        attributes={
            "valid_pixels": sum(marker.valid_pixels for marker in done),
            # Kept ones too: a cube does not tell in how many runs it was made.
            "tiles": sum(marker.tiles + marker.tiles_kept for marker in done),
            "tiles_skipped": sum(marker.tiles_skipped for marker in done),
            **told,
        },
        markers=markers,
        on_region=on_region,
        draw=lambda: pictures.append(_draw(cube.storage)),
    )
    return pictures[0], _report(cube.storage, markers)


def _draw(storage: Storage) -> str:
    """Write the pictures beside a cube; where the first is."""
    try:
        return write_quicklook(storage)
    except OSError as err:
        raise StoreError(
            "the quicklook cannot be written", where=str(storage), got=err.strerror or str(err),
            remedy="free some space, then run again with --resume",
        ) from err  # fmt: skip


def told_by(prepared: Prepared) -> dict[str, Any]:
    """When the scene was taken, if anybody knows, and what the user was told of it."""
    taken = taken_of(prepared.settings, prepared.source)
    return {
        TAKEN: None if taken is None else [to_text(moment) for moment in taken],
        "warnings": [shown(line) for line in prepared.source.notices],
    }


def _report(storage: Storage, markers: Mapping[Block, Marker]) -> str | None:
    """Write the report of a cube; its place, or None where it cannot be made."""
    try:
        return write_report(storage, markers=markers)
    except Exception as err:  # the cube is whole, whatever goes wrong with a description of it
        why = " ".join(str(err).split()) or repr(err)
        LOG.warning("%s: no report was written: %s", storage.name, shown(why))
        return None


def run_scene(settings: SceneSettings, *, observer: Observer | None = None) -> tuple[Prepared, Result]:
    """Process one scene in this process, from the file to the finished cube.

    A cube that is complete already is left as it is.

    Raises
    ------
    SpectileError : the scene, the model or a setting cannot be used, or the store cannot be written.
    """
    started = time.perf_counter()
    with prepare(settings) as prepared, holding(settings) as lease:
        cube = start_cube(prepared, lease.storage)
        return prepared, carry_out(prepared, cube, Beating(lease, observer or Silent()), started)


def carry_out(prepared: Prepared, cube: Cube, observer: Observer, started: float) -> Result:
    """Make the blocks of a cube that are still to do and finish it; what was done since ``started``.

    Raises
    ------
    StoreError : the store cannot be written.
    """
    todo = remaining(cube)
    observer.begin(prepared.plan, prepared.estimate, [b for b in prepared.plan.blocks if b not in todo])
    tally = Tally()
    process_blocks(prepared, cube, todo, tally=tally, observer=observer)
    return conclude(prepared, cube, tally, observer, started)


def conclude(prepared: Prepared, cube: Cube, tally: Tally, observer: Observer, started: float) -> Result:
    """Finish the cube if nothing is missing, write its STAC item, and say what the run did.

    Parameters
    ----------
    observer : told that the run moves while overviews are made.

    Raises
    ------
    StoreError : the cube or its item cannot be written.
    """
    failed = len(tally.failures)
    markers = finished_blocks(cube)
    picture = written = None
    if not failed:
        picture, written = finish_cube(
            cube, told_by(prepared), markers=markers, on_region=lambda: observer.tiles(0)
        )
    item = register(prepared.settings, cube.storage)
    predicted = sum(marker.tiles for marker in markers.values())
    return Result(
        cube=str(cube.storage),
        quicklook=picture,
        report=written,
        item=item,
        blocks_done=len(prepared.plan.blocks) - failed,
        blocks_failed=failed,
        failures=tuple(tally.failures),
        megapixels=tally.pixels / 1e6,
        seconds=time.perf_counter() - started,
        tiles=tally.tiles,
        tiles_skipped=tally.tiles_skipped,
        tiles_kept=tally.tiles_kept,
        redundancy=predicted / max(prepared.plan.lattice_tiles(markers), 1),
        peak_memory_bytes=max(peak_memory_bytes(), tally.peak_memory_bytes),
    )


def peak_memory_bytes() -> int:
    """The most memory that this process has held."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # On Linux it counts what the process was started from, which may be larger.
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def report(prepared: Prepared, result: Result | None = None) -> dict[str, Any]:
    """The plan and what came of it, for programs."""
    plan = prepared.plan
    model = prepared.predictor.settings
    facts: dict[str, Any] = {
        "version": software_version(),
        "scene": f"flight line of {len(plan.scenes)} scene(s)"
        if plan.scenes
        else locate(prepared.settings.scene).name,
        "seed": prepared.settings.seed,
        "model": {"name": model["name"], "digest": model["digest"], **model},
        "plan": {
            **asdict(prepared.estimate),
            "shape": [plan.bands, *plan.window.shape],
            "tile": plan.tiling.tile,
            "halo": plan.tiling.halo,
            "block": plan.block,
            "samples": plan.samples,
            "layers": [*plan.layers, *plan.quality],
        },
    }
    if result is not None:
        facts["plan"]["digest"] = plan.digest
        if isinstance(prepared.source, LineSource):
            facts["line"] = prepared.source.settings()
            facts["scenes"] = [dict(share.facts) for share in plan.scenes]
        else:
            facts["radiometry"] = prepared.source.radiometry.to_json()
        facts["result"] = {**asdict(result), "megapixels_per_second": result.megapixels_per_second}
    return facts
