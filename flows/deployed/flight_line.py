"""A flight line as a Prefect flow: the same composition as ``run_line``, with a task for each run of blocks.

Prefect loads this file by its path, so it holds only flows and tasks.
"""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from spectile.flows.deployed.parameters import takes
from spectile.flows.deployed.stages import run_stages, unwalked
from spectile.flows.run.holding import holding
from spectile.flows.run.line import prepare_line, start_line
from spectile.flows.run.notify import tell_failure
from spectile.flows.run.settings import LineSettings


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
@takes(LineSettings)
def process_flight_line(**given: Any) -> dict[str, Any]:
    """Turn overlapping scenes into one hyperspectral cube; the parameters are the fields of LineSettings.

    Returns the report of the run: plan, model, seed, scenes and result. The flow fails if blocks failed; the
    report is then the data of its failed state.
    """
    settings = LineSettings(**given)
    started = time.perf_counter()
    planned: Any = plan_flight_line(settings)
    with planned.unquote() as prepared, holding(settings) as lease:
        return run_stages(prepared, start_line(prepared, settings, lease.storage), lease, started)
