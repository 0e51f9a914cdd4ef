"""A training run as a Prefect flow: the same composition as ``spectile train``, watched on the run's page.

Prefect loads this file by its path, so it holds only flows and tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from spectile.flows.console.console import LOG
from spectile.flows.deployed.page_pictures import markdown_picture
from spectile.flows.run.notify import tell_failure
from spectile.flows.training.report import record_line, table_rows
from spectile.flows.training.train import CURVES, SAMPLES, is_storage_failure, train_from_recipe


@task(
    name="train-recipe",
    cache_policy=NO_CACHE,
    # A run goes on from its last saved state, so a share that comes back costs little.
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=is_storage_failure,
)
def train_recipe(recipe: str, out: str, data: str, device: str, progress: UUID) -> dict[str, Any]:
    """Train, with log lines and a progress bar on the run's page; the held-out table."""

    def report(record: Mapping[str, Any]) -> None:
        LOG.info(record_line(record))
        if "of" in record:
            update_progress_artifact(progress, progress=100 * record["step"] / record["of"])

    return train_from_recipe(
        Path(recipe), Path(data), Path(out), device=device, progress=report, announce=LOG.info
    )


@flow(
    name="train-model",
    flow_run_name="{recipe} into {out}",
    log_prints=False,
    validate_parameters=True,
    on_failure=[tell_failure],
    on_crashed=[tell_failure],
)
def train_model(
    recipe: str, out: str, data: str = ".", device: Literal["auto", "cpu", "cuda"] = "auto"
) -> dict[str, Any]:
    """Train a model from a recipe; the parameters are the arguments of ``spectile train``.

    Returns the table of held-out scenes. A run that was cancelled or lost goes on where its last state was
    saved when it is run again with the same parameters.
    """
    progress = create_progress_artifact(progress=0.0, description=f"{recipe} into {out}")
    assert isinstance(progress, UUID)  # it is a coroutine inside an event loop only
    table = train_recipe(recipe, out, data, device, progress)
    update_progress_artifact(progress, progress=100.0)
    create_table_artifact(table_rows(table), key="held-out", description=f"{recipe}: held-out scenes")
    for name in (CURVES, SAMPLES):
        picture = (Path(out) / name).absolute()
        shown = markdown_picture(picture.stem, picture.read_bytes())
        create_markdown_artifact(f"{shown}\n\n{picture}", key=picture.stem)
    return table
