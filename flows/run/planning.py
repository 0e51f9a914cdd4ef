"""From settings to a run that is ready to start: open the scene, load the model, plan the run.

The command line and the Prefect flow both call these functions and nothing else, so that both give the same
run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spectile.catalog.errors import CubeError, StoreError, UsageError
from spectile.catalog.inputs import InputSpec
from spectile.catalog.sensors import FILE_SENSORS
from spectile.catalog.sizes import width_by_height
from spectile.catalog.urls import locate
from spectile.flows.run import predictors
from spectile.flows.run.choice import with_model
from spectile.flows.run.lattice import lattice
from spectile.flows.run.outputs import check_apart, check_place
from spectile.flows.run.register import check_catalog
from spectile.flows.run.settings import (
    CubeSettings,
    FuseSettings,
    LineSettings,
    SceneSettings,
    Settings,
)
from spectile.flows.run.state import Prepared
from spectile.pipeline.block.predict import Predictor, endmembers_of
from spectile.pipeline.cube.layout import software_version
from spectile.pipeline.cube.lease import refuse_held
from spectile.pipeline.cube.record import (
    load_plan,
    occupied,
    read_record,
    read_status,
)
from spectile.pipeline.cube.write import writing_threads
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.line.source import LineSource
from spectile.pipeline.pair.source import Pair
from spectile.pipeline.plan.cost import Workload, input_channels
from spectile.pipeline.plan.layers import choose_endmembers, choose_layers
from spectile.pipeline.plan.plan import SHARD, Plan
from spectile.pipeline.plan.quality_layers import choose_quality
from spectile.pipeline.plan.shares import Share, clip_share
from spectile.pipeline.scene.clip import read_clip
from spectile.pipeline.scene.source import Scene, check_opens, open_source
from spectile.pipeline.scene.stack import StackSource
from spectile.pipeline.store.opening import open_storage

if TYPE_CHECKING:
    from spectile.flows.run.crew import Crew

LOG = logging.getLogger("spectile")

Opened = tuple[Scene | LineSource | Pair, Mapping[str, object]]
"""A source, and everything of it beside geometry that can change a value; nothing of a dry run."""


def prepare(
    settings: SceneSettings,
    *,
    dry: bool = False,
    like: Prepared | None = None,
    predictor: Predictor | None = None,
) -> Prepared:
    """Open the scene, load the model and plan the run.

    Parameters
    ----------
    dry : read no pixel but the first and the last: the plan then lacks what is measured on the scene, and
        has no valid digest; the network is timed instead, so that the estimate knows the hours.
    like : another scene's dry plan with these settings: its model and its timing are taken.
    predictor : what is known of the model already; nothing is loaded, and no process is started.

    Raises
    ------
    SpectileError : the scene, the model or a setting cannot be used.
    """
    check_output(settings, [settings.scene], dry=dry)
    choose_layers(settings.layers, settings.samples)  # refuses what cannot be, before the scene is read
    # Before the network, which takes seconds to load.
    check_opens(settings.scene, sensor=settings.sensor, allow_vrt=settings.allow_vrt)
    settings = with_model(settings, settings.scene)
    if like is not None and like.settings.model != settings.model:
        like = None

    def open_for(spec: InputSpec) -> Opened:
        source = open_source(
            settings.scene,
            spec,
            radiometry=settings.radiometry,
            nodata_rule=settings.nodata,
            sensor=settings.sensor,
            bands=settings.bands,
            measure=not dry,
            memory=settings.memory,
            allow_vrt=settings.allow_vrt,
            allow_private=settings.allow_private,
        )
        LOG.info("scene %s: %s", locate(settings.scene).name, width_by_height(source.grid.shape))
        return source, {} if dry else _facts(settings, source)

    return plan_run(settings, open_for, dry=dry, like=like, predictor=predictor)


def plan_run(
    settings: SceneSettings | LineSettings | FuseSettings,
    open_for: Callable[[InputSpec], Opened],
    *,
    dry: bool,
    like: Prepared | None = None,
    predictor: Predictor | None = None,
    network: Settings | None = None,
) -> Prepared:
    """Load the model, open what it takes, and plan the run on it.

    Parameters
    ----------
    open_for : opens the source for the input of the model.
    dry, like, predictor : as of ``prepare``.
    network : what decides which network is loaded; None are the run's own settings.

    Raises
    ------
    SpectileError : the model or a setting cannot be used.
    """
    # Before the network, which takes seconds to load.
    area = None if settings.clip is None else read_clip(settings.clip)

    def open_clipped(spec: InputSpec) -> Opened:
        source, facts = open_for(spec)
        return source if area is None else replace(source, clip=area.on(source.grid)), facts

    crew = None if predictor is not None else _assemble(settings, dry=dry)
    try:
        if predictor is None and like is None and network is not None:
            predictor = predictors.predictor_of(network) if crew is None else crew.predictor(network)
        return _plan_run(settings, open_clipped, crew, predictor, dry=dry, like=like)
    except BaseException:
        if crew is not None:
            crew.close()
        raise


def _assemble(settings: CubeSettings, *, dry: bool) -> Crew | None:
    """The processes that the settings ask for; None where this one is enough."""
    if settings.workers is not None and settings.dask_address is not None:
        raise UsageError("--workers and --dask-address exclude each other")
    if dry:
        return None
    gpus: list[str] = []
    network = not predictors.is_repeat(settings.model)
    if settings.device != "cpu" and settings.dask_address is None and network:
        from spectile.model.device import visible_gpus

        gpus = visible_gpus()
    if settings.workers is None and settings.dask_address is None and len(gpus) < 2:
        return None
    from spectile.flows.run.crew import assemble  # a run in one process needs no dask

    return assemble(settings, gpus)


def _plan_run(
    settings: SceneSettings | LineSettings | FuseSettings,
    open_for: Callable[[InputSpec], Opened],
    crew: Crew | None,
    predictor: Predictor | None,
    *,
    dry: bool,
    like: Prepared | None,
) -> Prepared:
    layers = choose_layers(settings.layers, settings.samples)
    if like is not None:
        predictor = like.predictor
    elif predictor is None:
        predictor = predictors.predictor_of(settings) if crew is None else crew.predictor(settings)
    if len(predictor.inputs) > 1 and not isinstance(settings, FuseSettings):
        raise UsageError(
            "a run reads one scene, and the model takes several rasters", where=settings.model,
            got=", ".join(spec.name for spec in predictor.inputs),
        )  # fmt: skip
    endmembers = choose_endmembers(settings.layers, endmembers_of(predictor), model=settings.model)
    source, facts = open_for(predictor.inputs[0])
    for notice in source.notices:
        LOG.warning(notice)
    grid = source.grid
    tiling = lattice(settings, predictor, grid.shape)
    window = grid.window if settings.region is None else grid.window_of(settings.region)
    if isinstance(source, Pair):
        if window.size and not window.intersection(source.extent).size:
            raise UsageError("the MSI does not reach into the region", got="--region")
        window = window.intersection(source.extent)
    if source.clip is not None:
        window = _met(window, source.clip.window)
    tiling.check_stride(predictor.stride)
    estimate = predictor.settings.get("estimate")
    if estimate == "posterior mean" and not isinstance(settings, FuseSettings):
        LOG.info("one solver step gives the posterior mean: no noise is drawn")
    if estimate in ("posterior mean", "regression") and settings.samples > 1:
        what = "one solver step" if estimate == "posterior mean" else "a regression"
        raise UsageError(
            f"{what} gives equal samples", got=f"--samples {settings.samples}",
            remedy="leave out --samples, or choose a model and steps that draw noise",
        )  # fmt: skip
    fitted = predictor.calibration
    if layers and fitted is not None and fitted.samples != settings.samples:
        LOG.warning(
            "the layers were calibrated with %d samples; with %d they are less accurate",
            fitted.samples, settings.samples,
        )  # fmt: skip
    bands = len(predictor.bands)
    decided: dict[str, object] = {"pair": {}} if isinstance(source, Pair) else {}
    if not dry:
        # The network is known by its digest; pictures need to know the camera that it was made for.
        response = predictor.inputs[0].bands.to_json()
        model = dict(predictor.settings)
        decided = {**facts, "software": software_version(), "model": model, "response": response}
    resident = predictor.memory(tiling.tile) + source.memory()
    scenes: tuple[Share, ...] = ()
    if isinstance(source, LineSource):
        scenes = source.shares(tiling, window, identified=not dry, checksum=settings.checksum)
    # The block changes no value; any size passes the checks of the plan.
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
        choose_quality(settings.layers, pair=isinstance(source, Pair)),
        None if source.clip is None else clip_share(source.clip, tiling, window, SHARD),
        endmembers,
    )
    channels = input_channels(predictor.inputs)
    threads = writing_threads(draft)
    plan = draft if settings.block else _with_block(Workload(draft, channels, resident, threads), settings)
    seconds = like.seconds_per_tile if like is not None else None
    if dry and seconds is None:
        seconds = predictors.time_tile(predictor, tiling.tile)
    workload = Workload(plan, channels, resident, threads)
    overlapped = workload.overlaps(settings.memory)
    estimate = workload.estimate(overlapped=overlapped, seconds_per_tile=seconds)
    return Prepared(settings, source, predictor, plan, estimate, crew)


def _met(region: Window, clip: Window) -> Window:
    """The pixels of a region that lie around a polygon."""
    window = region.intersection(clip)
    if region.size and not window.size:
        raise UsageError("the polygon does not meet the region", got="--region and --clip")
    return window


def check_output(settings: CubeSettings, scenes: Sequence[str], *, dry: bool) -> None:
    """Refuse an output that exists, or holds one of the scenes, before any work is done on them.

    Raises
    ------
    UsageError, CubeError, StoreError : the output cannot be written as the settings say.
    """
    if settings.resume and settings.overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    check_apart(settings.out, scenes if settings.clip is None else [*scenes, settings.clip])
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


def check_start(settings: CubeSettings, scenes: Sequence[str]) -> None:
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
        folder = next(parent for parent in folder.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StoreError(
                "the cube cannot be written there", where=str(folder), remedy="choose another --out"
            )


def _facts(settings: SceneSettings, source: Scene) -> dict[str, object]:
    """Everything of the scene beside geometry that can change a value. Names the file, never its folder."""
    return {
        "scene": {"name": locate(settings.scene).name, **source.identity(checksum=settings.checksum)},
        "channels": list(source.channels),
        **_numbering(settings, source),
        **source.mask_facts,
        "radiometry": source.radiometry.to_json(),
    }


def _numbering(settings: SceneSettings, source: Scene) -> dict[str, object]:
    """The sensor whose bands the numbers count, of a scene of several files that do not say it."""
    known = settings.sensor is not None and settings.sensor.partition(":")[0] in FILE_SENSORS
    return {"sensor": settings.sensor} if known and isinstance(source, StackSource) else {}


def _with_block(draft: Workload, settings: CubeSettings) -> Plan:
    storage = open_storage(settings.out)
    if settings.resume and occupied(storage):
        block = load_plan(storage).block  # a resumed cube keeps its blocks
    else:
        block = draft.choose_block(settings.memory)
    return replace(draft.plan, block=block)
