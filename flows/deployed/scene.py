"""One scene as a Prefect flow: the same composition as ``run_scene``, with a task for each run of blocks.

Prefect loads this file by its path and holds what it finds against it: only flows and tasks live here.
"""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Annotated, Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from spectile.catalog.fields import Seed
from spectile.flows.deployed.stages import carry_out, unwalked
from spectile.flows.run import execute, planning
from spectile.flows.run.holding import holding
from spectile.flows.run.notify import tell_failure
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.plan.layers import Choice


@task(name="plan-scene", cache_policy=NO_CACHE)
def plan_scene(settings: SceneSettings) -> Any:
    """The prepared run, quoted."""
    return unwalked(planning.prepare(settings))


@flow(
    name="process-scene",
    flow_run_name="{model} on {scene}",
    log_prints=False,
    validate_parameters=True,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def process_scene(
    scene: str,
    out: str,
    model: str = "vnir48",
    steps: Annotated[int, Field(ge=1)] | None = None,
    samples: Annotated[int, Field(ge=1)] = 1,
    layers: tuple[Choice, ...] | None = None,
    seed: Seed = 0,
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
    allow_vrt: bool = False,
    allow_private: bool = False,
    checksum: bool = False,
    workers: Annotated[int, Field(ge=1)] | None = None,
    threads: Annotated[int, Field(ge=1)] | None = None,
    dask_address: str | None = None,
    block_retries: Annotated[int, Field(ge=0)] = 2,
    max_block_time: Annotated[float, Field(gt=0)] | None = None,
    lease: Annotated[float, Field(ge=1)] = 60.0,
    datetime: str | None = None,
    catalog: str | None = None,
) -> dict[str, Any]:
    """Turn one RGB scene into a hyperspectral cube; the parameters are the fields of SceneSettings.

    Returns the report of the run: plan, model, seed and result. The flow fails if blocks failed; the report
    is then the data of its failed state.
    """
    given = locals()
    settings = SceneSettings(**{field.name: given[field.name] for field in fields(SceneSettings)})
    started = time.perf_counter()
    planned: Any = plan_scene(settings)
    with planned.unquote() as prepared, holding(settings) as held:
        return carry_out(prepared, execute.start_cube(prepared, held.storage), held, started)
