"""A flight line as a Prefect flow: the same composition as ``run_line``, with a task for each run of blocks.

Prefect loads this file by its path and holds what it finds against it: only flows and tasks live here.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from spectile.catalog.fields import Seed
from spectile.flows.deployed.stages import carry_out, unwalked
from spectile.flows.run.holding import holding
from spectile.flows.run.line import LineSettings, line_settings, prepare_line, start_line
from spectile.flows.run.notify import tell_failure
from spectile.pipeline.plan.layers import Choice


@task(name="plan-flight-line", cache_policy=NO_CACHE)
def plan_flight_line(settings: LineSettings) -> Any:
    """The prepared run, quoted."""
    return unwalked(prepare_line(settings))


@flow(
    name="process-flight-line",
    flow_run_name="{model} on the line {out}",
    log_prints=False,
    validate_parameters=True,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def process_flight_line(
    scenes: Annotated[list[str], Field(min_length=1)],
    out: str,
    crs: str | None = None,
    resolution: Annotated[float, Field(gt=0)] | None = None,
    frame: Literal["north-up", "line"] = "north-up",
    extent: tuple[float, float, float, float] | None = None,
    combine: Literal["feather", "first", "nadir"] = "feather",
    resampling: Literal["bilinear", "cubic"] = "bilinear",
    radiometry: list[str] | None = None,
    add: list[str] | None = None,
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
    """Turn overlapping RGB scenes into one hyperspectral cube.

    The parameters are the fields of LineSettings, and those of SceneSettings but for scene and radiometry.
    Returns the report of the run: plan, model, seed, scenes and result. The flow fails if blocks failed; the
    report is then the data of its failed state.
    """
    settings = line_settings(locals())
    started = time.perf_counter()
    planned: Any = plan_flight_line(settings)
    with planned.unquote() as prepared, holding(settings.run) as held:
        return carry_out(prepared, start_line(prepared, settings, held.storage), held, started)
