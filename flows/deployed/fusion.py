"""The fusion of a pair as a Prefect flow: as of a scene, from two.

Prefect loads this file by its path, so it holds only flows and tasks.
"""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from spectile.flows.deployed.parameters import takes
from spectile.flows.deployed.stages import run_stages, unwalked
from spectile.flows.run import execute
from spectile.flows.run.fusion import prepare_fusion
from spectile.flows.run.holding import holding
from spectile.flows.run.notify import tell_failure
from spectile.flows.run.settings import FuseSettings


@task(name="plan-fusion", cache_policy=NO_CACHE)
def plan_fusion(settings: FuseSettings) -> Any:
    """The prepared run, quoted."""
    return unwalked(prepare_fusion(settings))


@flow(
    name="process-fusion",
    flow_run_name="{model} of {hsi} and {msi}",
    log_prints=False,
    validate_parameters=True,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
@takes(FuseSettings)
def process_fusion(**given: Any) -> dict[str, Any]:
    """Fuse two scenes into one hyperspectral cube; the parameters are the fields of FuseSettings.

    Returns the report of the run: plan, model, seed, pair and result. The flow fails if blocks failed; the
    report is then the data of its failed state.
    """
    settings = FuseSettings(**given)
    started = time.perf_counter()
    planned: Any = plan_fusion(settings)
    with planned.unquote() as prepared, holding(settings) as lease:
        return run_stages(prepared, execute.start_cube(prepared, lease.storage), lease, started)
