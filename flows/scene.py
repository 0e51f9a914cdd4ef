"""One scene as a Prefect flow: the same composition as ``run_scene``, with a task for each run of blocks.

Prefect loads this file by its path and holds what it finds against it: only flows and tasks live here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed
from prefect.utilities.annotations import quote
from pydantic import Field

from catalog.urls import locate
from flows import compose
from flows.compose import Observer, Prepared, Result, SceneSettings, Silent, Tally
from flows.console import current_observer, result_pairs
from pipeline.cube import Cube
from pipeline.layers import Layer
from pipeline.tiling import Block

# Prefect walks through every object that goes in or out of a task in search of futures, unless it is quoted.
_unwalked: Callable[[Any], Any] = quote


@task(name="plan-scene", cache_policy=NO_CACHE)
def plan_scene(settings: SceneSettings) -> Any:
    """The prepared run, its new or resumed cube and the blocks that are still to do, quoted."""
    prepared = compose.prepare(settings)
    cube = compose.start_cube(prepared)
    return _unwalked((prepared, cube, compose.remaining(cube)))


@task(
    name="process-run",
    task_run_name="blocks {first} to {last}",
    cache_policy=NO_CACHE,
    # A store that fails may be a network share that comes back; one that stays full should not hold a
    # worker. Blocks that cannot be read are noted in the tally and not tried again.
    retries=2,
    retry_delay_seconds=[2, 10],
)
def process_run(
    prepared: Prepared,
    cube: Cube,
    blocks: list[Block],
    *,
    tally: Tally,
    observer: Observer,
    first: str,
    last: str,
) -> None:
    """Compute and write contiguous blocks, named from first to last, and add what was done to the tally."""
    tally.failures.clear()  # a second attempt tries them again
    undone = set(compose.remaining(cube))
    todo = [block for block in blocks if block in undone]
    compose.process_blocks(prepared, cube, todo, tally=tally, observer=observer)


@task(name="finish-scene", cache_policy=NO_CACHE)
def finish_scene(prepared: Prepared, cube: Cube, tallies: list[Tally], started: float) -> Any:
    """Finish the cube, unless blocks failed; what the run did, quoted."""
    total = Tally()
    for tally in tallies:
        total.done += tally.done
        total.tiles += tally.tiles
        total.tiles_skipped += tally.tiles_skipped
        total.pixels += tally.pixels
        total.failures += tally.failures
    return _unwalked(compose.conclude(prepared, cube, total, started))


@flow(name="process-scene", flow_run_name="{model} on {scene}", log_prints=False, validate_parameters=True)
def process_scene(
    scene: str,
    out: str,
    model: str = "vnir48",
    steps: Annotated[int, Field(ge=1)] | None = None,
    samples: Annotated[int, Field(ge=1)] = 1,
    layers: tuple[Layer, ...] | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    tile: Annotated[int, Field(ge=1)] = 256,
    halo: Annotated[int, Field(ge=0)] = 32,
    block: Annotated[int, Field(ge=512, multiple_of=512)] | None = None,
    batch: Annotated[int, Field(ge=1)] | None = None,
    memory: Annotated[int, Field(gt=0)] = 4_000_000_000,
    radiometry: str | None = None,
    nodata: Literal["all", "any"] = "all",
    rgb: tuple[int, int, int] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compiled: bool = False,
    region: tuple[float, float, float, float] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checksum: bool = False,
) -> dict[str, Any]:
    """Turn one RGB scene into a hyperspectral cube; the parameters are the fields of SceneSettings.

    Returns the report of the run: plan, model, seed and result. The flow fails if blocks failed; the report
    is then the data of its failed state.
    """
    given = locals()
    settings = SceneSettings(**{field.name: given[field.name] for field in fields(SceneSettings)})
    started = time.perf_counter()
    observer = current_observer() or Silent()
    planned: Any = plan_scene(settings)
    prepared, cube, todo = planned.unquote()
    blocks = prepared.plan.blocks
    observer.begin(prepared.plan, prepared.estimate, [block for block in blocks if block not in todo])
    before = len(blocks) - len(todo)
    progress = create_progress_artifact(
        progress=100 * before / len(blocks), description=f"{len(blocks)} blocks of {out}"
    )
    assert isinstance(progress, UUID)  # it is a coroutine inside an event loop only
    tallies: list[Tally] = []
    for run in compose.runs(todo):
        tallies.append(Tally())
        process_run(
            _unwalked(prepared),
            _unwalked(cube),
            _unwalked(run),
            tally=_unwalked(tallies[-1]),
            observer=_unwalked(observer),
            first=run[0].name,
            last=run[-1].name,
        )
        done = before + sum(tally.done for tally in tallies)
        update_progress_artifact(progress, progress=100 * done / len(blocks))
    finished: Any = finish_scene(_unwalked(prepared), _unwalked(cube), _unwalked(tallies), started)
    result: Result = finished.unquote()
    report = compose.report(prepared, result)
    create_table_artifact(
        [{"what": name, "value": str(value)} for name, value in result_pairs(report).items()],
        key="cube",
        description=f"{settings.scene} with {settings.model}",
    )
    if result.quicklook is not None:
        place = locate(result.quicklook)
        picture = place.absolute().as_uri() if isinstance(place, Path) else str(place)
        create_link_artifact(picture, key="quicklook", link_text="quicklook")
    if result.blocks_failed:
        why = f"{result.blocks_failed} blocks failed: {'; '.join(result.failures[:5])}"
        failed: Any = Failed(message=why, data=report)
        return failed  # type: ignore[no-any-return]
    return report
