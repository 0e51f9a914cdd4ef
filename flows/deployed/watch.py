"""A sweep of an inbox as a Prefect flow: each scene is a subflow, with a page of its own.

Prefect loads this file by its path, so it holds only flows and tasks.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.states import Failed

from spectile.flows.deployed.parameters import report_of, takes
from spectile.flows.deployed.scene import process_scene
from spectile.flows.run.notify import tell_failure
from spectile.flows.run.settings import WatchSettings
from spectile.flows.watching.each import COLUMNS, summary, table
from spectile.flows.watching.sweep import sweep


@flow(
    name="watch",
    flow_run_name="{inbox} into {out}",
    log_prints=False,
    validate_parameters=True,
    on_crashed=[tell_failure],  # a sweep that ends sends its own notification
)
@takes(WatchSettings)
def watch(**given: Any) -> dict[str, Any]:
    """Process new and changed scenes of an inbox; the parameters are the fields of WatchSettings.

    Returns the report of ``sweep``. The flow fails if scenes failed, after the others were
    made; the report is then the data of its failed state.
    """
    settings = WatchSettings(**given)
    progress = create_progress_artifact(progress=0.0, description=f"{settings.inbox} into {settings.out}")
    assert isinstance(progress, UUID)  # it is a coroutine inside an event loop only

    def show(done: int, total: int) -> None:
        update_progress_artifact(progress, progress=100 * done / total)

    report = sweep(settings, partial(report_of, process_scene), on_outcome=show)
    update_progress_artifact(progress, progress=100.0)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table(report)]
    create_table_artifact(rows, key="sweep", description=summary(report))
    if report["failed"]:
        failed: Any = Failed(message=summary(report), data=report)
        return failed  # type: ignore[no-any-return]
    return report
