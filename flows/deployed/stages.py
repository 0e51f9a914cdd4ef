"""The stages of a Prefect flow that makes a cube: a task for each run of blocks, one to finish.

It is a separate module because both flows use it, and files that Prefect loads by path hold only flows and
tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed
from prefect.utilities.annotations import quote

from spectile.flows.console.console import current_observer, result_pairs
from spectile.flows.deployed.page_pictures import markdown_picture, markdown_table
from spectile.flows.run import execute
from spectile.flows.run.holding import Beating
from spectile.flows.run.state import Observer, Prepared, Result, Silent, Tally
from spectile.pipeline.cube.lease import Lease
from spectile.pipeline.cube.record import Cube, finished_blocks
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.product.quicklook import quicklook_names

# Prefect walks through every object that goes in or out of a task in search of futures, unless it is quoted.
unwalked: Callable[[Any], Any] = quote


@task(
    name="process-run",
    task_run_name="blocks {first} to {last}",
    cache_policy=NO_CACHE,
    # A failing store may be a network share that comes back; but a full store should not keep a worker.
    # Blocks that cannot be read are noted in the tally and not tried again.
    retries=2,
    retry_delay_seconds=[2, 10],
)
def process_run(
    prepared: Prepared,
    cube: Cube,
    blocks: list[Block],
    *,
    observer: Observer,
    first: str,
    last: str,
) -> Any:
    """Compute and write contiguous blocks, named from first to last; the tally of what was done, quoted.

    Blocks of an earlier attempt count too: the ledger has them.
    """
    tally, done = Tally(), finished_blocks(cube, blocks)
    for block, marker in done.items():
        tally.add(cube.plan, block, marker)
    todo = [block for block in blocks if block not in done]
    execute.process_blocks(prepared, cube, todo, tally=tally, observer=observer)
    return unwalked(tally)


@task(name="finish-scene", cache_policy=NO_CACHE)
def finish_scene(
    prepared: Prepared, cube: Cube, tallies: list[Tally], observer: Observer, started: float
) -> Any:
    """Finish the cube, unless blocks failed; what the run did, quoted."""
    total = Tally()
    for tally in tallies:
        total.done += tally.done
        total.tiles += tally.tiles
        total.tiles_skipped += tally.tiles_skipped
        total.tiles_kept += tally.tiles_kept
        total.pixels += tally.pixels
        total.failures += tally.failures
        total.peak_memory_bytes = max(total.peak_memory_bytes, tally.peak_memory_bytes)
    return unwalked(execute.conclude(prepared, cube, total, observer, started))


def _page(cube: Cube, report: dict[str, Any]) -> str:
    """The content of the run's page: a table, and the quicklook if there is one."""
    parts = [markdown_table(result_pairs(report))]
    name = quicklook_names(cube.storage.name)[0]
    if report["result"]["quicklook"] and (picture := cube.storage.parent.get(name)):
        parts.append(markdown_picture("quicklook", picture))
    return "\n\n".join(parts)


def run_stages(prepared: Prepared, cube: Cube, lease: Lease, started: float) -> dict[str, Any]:
    """Make and finish a cube, inside a flow; the report, as the data of a failed state where blocks failed.

    Parameters
    ----------
    lease : the cube's, which is held.
    started : when the flow began, by ``time.perf_counter``.
    """
    observer = Beating(lease, current_observer() or Silent())
    todo = execute.remaining(cube)
    blocks = prepared.plan.blocks
    observer.begin(prepared.plan, prepared.estimate, [block for block in blocks if block not in todo])
    before = len(blocks) - len(todo)
    progress = create_progress_artifact(
        progress=100 * before / len(blocks), description=f"{len(blocks)} blocks of {cube.storage}"
    )
    assert isinstance(progress, UUID)  # it is a coroutine inside an event loop only
    tallies: list[Tally] = []
    for run in execute.runs(prepared, todo):
        made: Any = process_run(
            unwalked(prepared),
            unwalked(cube),
            unwalked(run),
            observer=unwalked(observer),
            first=run[0].name,
            last=run[-1].name,
        )
        tallies.append(made.unquote())
        done = before + sum(tally.done for tally in tallies)
        update_progress_artifact(progress, progress=100 * done / len(blocks))
    finished: Any = finish_scene(
        unwalked(prepared), unwalked(cube), unwalked(tallies), unwalked(observer), started
    )
    result: Result = finished.unquote()
    report = execute.report(prepared, result)
    create_markdown_artifact(
        _page(cube, report),
        key="cube",
        description=f"{prepared.settings.places[0]} with {prepared.settings.model}",
    )
    if result.blocks_failed:
        why = f"{result.blocks_failed} blocks failed: {'; '.join(result.failures[:5])}"
        failed: Any = Failed(message=why, data=report)
        return failed  # type: ignore[no-any-return]
    return report
