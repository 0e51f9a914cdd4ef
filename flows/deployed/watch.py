"""A sweep of an inbox as a Prefect flow: each scene is a subflow, with a page of its own.

Prefect loads this file by its path and holds what it finds against it: only flows and tasks live here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import flow
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.states import Failed
from pydantic import Field

from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Seed
from spectile.catalog.redaction import redact_url
from spectile.flows.deployed.scene import process_scene
from spectile.flows.run.notify import tell_failure
from spectile.flows.run.settings import SceneSettings
from spectile.flows.watching.sweep import COLUMNS, WatchSettings, summary, sweep, table
from spectile.pipeline.plan.layers import Choice


def _run_subflow(settings: SceneSettings) -> Mapping[str, Any]:
    if redact_url(settings.scene) != settings.scene:
        raise UsageError(
            "Prefect would record the URL's signature",
            remedy="sweep without Prefect, or use s3:// with credentials in the environment",
        )
    state = process_scene(**asdict(settings), return_state=True)
    facts = state.result(raise_on_failure=False)
    if isinstance(facts, BaseException):
        raise facts
    assert isinstance(facts, dict)
    return facts


@flow(
    name="watch",
    flow_run_name="{inbox} into {out}",
    log_prints=False,
    validate_parameters=True,
    on_crashed=[tell_failure],  # a sweep that comes to its end tells of it itself
)
def watch(
    inbox: str,
    out: str,
    at_once: Annotated[int, Field(ge=1)] = 1,
    settle: Annotated[float, Field(ge=0)] = 10.0,
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
    overwrite: bool = False,
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
    """Process what is new or changed in an inbox; the parameters are those of ``spectile watch``.

    Returns the report of ``sweep``. The flow fails if scenes failed, after the others were
    made; the report is then the data of its failed state.
    """
    given = locals()
    names = {field.name for field in fields(SceneSettings)} - {"scene"}
    run = SceneSettings(scene="", **{name: given[name] for name in names & given.keys()})
    progress = create_progress_artifact(progress=0.0, description=f"{inbox} into {out}")
    assert isinstance(progress, UUID)  # it is a coroutine inside an event loop only

    def show(done: int, total: int) -> None:
        update_progress_artifact(progress, progress=100 * done / total)

    report = sweep(WatchSettings(inbox, run, at_once, settle), _run_subflow, on_outcome=show)
    update_progress_artifact(progress, progress=100.0)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table(report)]
    create_table_artifact(rows, key="sweep", description=summary(report))
    if report["failed"]:
        failed: Any = Failed(message=summary(report), data=report)
        return failed  # type: ignore[no-any-return]
    return report
