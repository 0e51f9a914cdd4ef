"""One scene as a Prefect flow: the same composition as ``run_scene``, with a task for each run of blocks.

Prefect loads this file by its path, so it holds only flows and tasks.
"""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from spectile.flows.deployed.parameters import takes
from spectile.flows.deployed.stages import run_stages, unwalked
from spectile.flows.run import execute, planning
from spectile.flows.run.holding import holding
from spectile.flows.run.notify import tell_failure
from spectile.flows.run.settings import SceneSettings


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
@takes(SceneSettings)
def process_scene(**given: Any) -> dict[str, Any]:
    """Turn one scene into a hyperspectral cube; the parameters are the fields of SceneSettings.

    Returns the report of the run: plan, model, seed and result. The flow fails if blocks failed; the report
    is then the data of its failed state.
    """
    settings = SceneSettings(**given)
    started = time.perf_counter()
    planned: Any = plan_scene(settings)
    with planned.unquote() as prepared, holding(settings) as lease:
        return run_stages(prepared, execute.start_cube(prepared, lease.storage), lease, started)
