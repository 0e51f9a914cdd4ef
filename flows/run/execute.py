"""Execute a prepared run: start a cube, make its blocks, finish it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from spectile.catalog.errors import CubeError, StoreError
from spectile.catalog.times import to_text
from spectile.catalog.urls import locate
from spectile.flows.run.holding import Beating, holding
from spectile.flows.run.planning import prepare
from spectile.flows.run.register import register, taken_of
from spectile.flows.run.settings import SceneSettings
from spectile.flows.run.state import Observer, Prepared, Result, Silent, Tally, Told, peak_memory_bytes
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.layout import software_version
from spectile.pipeline.cube.ledger import Marker
from spectile.pipeline.cube.record import (
    PAIR,
    Cube,
    finished_blocks,
    is_laid_out,
    occupied,
    read_status,
)
from spectile.pipeline.cube.write import create_cube
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.line.source import LineSource
from spectile.pipeline.pair.source import Pair
from spectile.pipeline.product.quicklook import write_quicklook
from spectile.pipeline.product.report import write_report
from spectile.pipeline.product.report_facts import shown
from spectile.pipeline.run import process_run
from spectile.pipeline.stac.item import TAKEN
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

LOG = logging.getLogger("spectile")

BLOCKS_A_RUN = 8
"""Blocks that one Prefect task takes: few enough that losing one costs minutes, many enough that the
tasks cost nothing."""


def start_cube(prepared: Prepared, storage: Storage | None = None) -> Cube:
    """The cube to write: a new one, or with ``resume`` the existing one.

    Parameters
    ----------
    storage : that of the lease that is held; None for a cube that nobody else writes.

    Raises
    ------
    CubeError : the existing cube was made from other settings.
    """
    settings, plan, predictor = prepared.settings, prepared.plan, prepared.predictor
    storage = storage or open_storage(settings.out)
    there = occupied(storage)
    if settings.resume and there:
        check_same(prepared, read_status(storage), str(storage))
        if is_laid_out(storage):
            return Cube(storage, plan)
    replacing = there and (settings.resume or settings.overwrite)
    return create_cube(
        storage, plan, predictor.bands, calibration=predictor.calibration, replace=replacing,
        kept=kept_of(prepared),
    )  # fmt: skip


def kept_of(prepared: Prepared) -> Mapping[str, bytes]:
    """What a cube keeps beside its arrays, by key: the estimates of a pair."""
    return {} if prepared.pair is None else {PAIR: prepared.pair}


def check_same(prepared: Prepared, facts: Mapping[str, Any], where: str) -> None:
    """Refuse to go on with a cube that was made from other settings.

    Parameters
    ----------
    facts : the cube's ``digest``, ``plan`` and ``block``.
    where : its place.

    Raises
    ------
    CubeError : it was.
    """
    plan = prepared.plan
    if facts["digest"] != plan.digest:
        raise CubeError(
            "the cube was started with other settings",
            where=where,
            got=_difference(facts["plan"], plan.to_json()),
            remedy="repeat those settings, or use --overwrite",
        )
    if facts["block"] != plan.block:
        raise CubeError(
            "the cube was started with another block size",
            where=where,
            got=f"--block {plan.block}",
            expected=facts["block"],
            remedy="leave --block out when resuming",
        )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    """The first settings that differ, as ``name new instead of old``."""
    differences = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            if was != now:
                differences.append(_difference(was, now, f"{prefix}{key}."))
        elif was != now:
            differences.append(f"{prefix}{key} {str(now)[:40]} instead of {str(was)[:40]}")
    return ", ".join(differences[:3])


def remaining(cube: Cube) -> list[Block]:
    """The blocks that are still to do, in order."""
    done = finished_blocks(cube)
    return [block for block in cube.plan.blocks if block not in done]


def runs(prepared: Prepared, blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Contiguous blocks for one Prefect task: all blocks if a crew makes groups of its own."""
    size = BLOCKS_A_RUN if prepared.crew is None else max(len(blocks), 1)
    for start in range(0, len(blocks), size):
        yield list(blocks[start : start + size])


def process_blocks(
    prepared: Prepared, cube: Cube, blocks: Sequence[Block], *, tally: Tally, observer: Observer
) -> None:
    """Compute and write blocks. One that cannot be made is noted in the tally, and the rest go on.

    Raises
    ------
    StoreError : the store cannot be written; there is no point in going on.
    """
    if prepared.crew is not None:
        prepared.crew.process_blocks(prepared, cube, blocks, tally=tally, observer=observer)
        return
    process_run(
        cube,
        blocks,
        sources=prepared.sources,
        predictor=prepared.predictor,
        watch=Told(cube.plan, tally, observer),
        retries=prepared.settings.block_retries,
        max_seconds=prepared.settings.max_block_time,
        overlapped=prepared.estimate.overlapped,
    )


def finish_cube(
    cube: Cube,
    told: Mapping[str, Any],
    *,
    markers: Mapping[Block, Marker] | None = None,
    on_region: Callable[[], None] = lambda: None,
) -> tuple[str, str | None]:
    """Make overviews and quicklook, declare the cube complete, write its report; the places of both.

    Parameters
    ----------
    told : what only a run knows of it, as ``told_by`` and ``told_of`` have it.
    markers : of the finished blocks; None reads them.
    on_region : told when a shard of the overviews has been made.

    Raises
    ------
    CubeError : blocks are missing.
    StoreError : the store or the picture cannot be written.
    """
    markers = finished_blocks(cube) if markers is None else markers
    done = markers.values()
    pictures: list[str] = []
    finalise(
        cube,
        attributes={
            "valid_pixels": sum(marker.valid_pixels for marker in done),
            # Kept tiles count too: a cube does not record in how many runs it was made.
            "tiles": sum(marker.tiles + marker.tiles_kept for marker in done),
            "tiles_skipped": sum(marker.tiles_skipped for marker in done),
            **told,
        },
        markers=markers,
        on_region=on_region,
        draw=lambda: pictures.append(_draw(cube.storage)),
    )
    return pictures[0], _report(cube.storage, markers)


def told_by(prepared: Prepared) -> dict[str, Any]:
    """When the scene was taken, if known, and the notices about it."""
    taken = taken_of(prepared.settings, prepared.source)
    return {
        # In the order of their names, in which the record has them: a repaired cube is the same to the byte.
        "channels": [shown(line) for line in prepared.source.feeds],
        TAKEN: None if taken is None else [to_text(moment) for moment in taken],
        "warnings": [shown(line) for line in prepared.source.notices],
    }


def _report(storage: Storage, markers: Mapping[Block, Marker]) -> str | None:
    """Write the report of a cube; its place, or None where it cannot be made."""
    try:
        return write_report(storage, markers=markers)
    except Exception as err:  # the cube is complete, even if its description fails
        why = " ".join(str(err).split()) or repr(err)
        LOG.warning("%s: no report was written: %s", storage.name, shown(why))
        return None


def run_scene(settings: SceneSettings, *, observer: Observer | None = None) -> tuple[Prepared, Result]:
    """Process one scene in this process, from the file to the finished cube.

    A cube that is complete already is left as it is.

    Raises
    ------
    SpectileError : the scene, the model or a setting cannot be used, or the store cannot be written.
    """
    started = time.perf_counter()
    with prepare(settings) as prepared, holding(settings) as lease:
        cube = start_cube(prepared, lease.storage)
        return prepared, carry_out(prepared, cube, Beating(lease, observer or Silent()), started)


def carry_out(prepared: Prepared, cube: Cube, observer: Observer, started: float) -> Result:
    """Make the blocks of a cube that are still to do and finish it; what was done since ``started``.

    Raises
    ------
    StoreError : the store cannot be written.
    """
    todo = remaining(cube)
    observer.begin(prepared.plan, prepared.estimate, [b for b in prepared.plan.blocks if b not in todo])
    tally = Tally()
    process_blocks(prepared, cube, todo, tally=tally, observer=observer)
    return conclude(prepared, cube, tally, observer, started)


def conclude(prepared: Prepared, cube: Cube, tally: Tally, observer: Observer, started: float) -> Result:
    """Finish the cube if nothing is missing, write its STAC item, and return what the run did.

    Parameters
    ----------
    observer : told that the run moves while overviews are made.

    Raises
    ------
    StoreError : the cube or its item cannot be written.
    """
    failed = len(tally.failures)
    markers = finished_blocks(cube)
    picture = written = None
    if not failed:
        picture, written = finish_cube(
            cube, told_by(prepared), markers=markers, on_region=lambda: observer.tiles(0)
        )
    item = register(prepared.settings, cube.storage)
    predicted = sum(marker.tiles for marker in markers.values())
    return Result(
        cube=str(cube.storage),
        quicklook=picture,
        report=written,
        item=item,
        blocks_done=len(prepared.plan.blocks) - failed,
        blocks_failed=failed,
        failures=tuple(tally.failures),
        megapixels=tally.pixels / 1e6,
        seconds=time.perf_counter() - started,
        tiles=tally.tiles,
        tiles_skipped=tally.tiles_skipped,
        tiles_kept=tally.tiles_kept,
        redundancy=predicted / max(prepared.plan.lattice_tiles(markers), 1),
        peak_memory_bytes=max(peak_memory_bytes(), tally.peak_memory_bytes),
    )


def report(prepared: Prepared, result: Result | None = None) -> dict[str, Any]:
    """The plan and the results, for programs."""
    plan = prepared.plan
    model = prepared.predictor.settings
    facts: dict[str, Any] = {
        "version": software_version(),
        "scene": f"flight line of {len(plan.scenes)} scene(s)"
        if plan.scenes
        else locate(prepared.settings.places[0]).name,
        "seed": prepared.settings.seed,
        "channels": list(prepared.source.feeds),
        "model": {"name": model["name"], "digest": model["digest"], **model},
        "plan": {
            **asdict(prepared.estimate),
            "shape": [plan.bands, *plan.window.shape],
            "tile": plan.tiling.tile,
            "halo": plan.tiling.halo,
            "block": plan.block,
            "samples": plan.samples,
            "layers": list(plan.every_layer),
        },
    }
    if result is not None:
        facts["plan"]["digest"] = plan.digest
        if isinstance(prepared.source, Pair):
            facts["pair"] = plan.settings["pair"]
        if isinstance(prepared.source, LineSource):
            facts["line"] = prepared.source.settings()
            facts["scenes"] = [dict(share.facts) for share in plan.scenes]
        else:
            facts["radiometry"] = prepared.source.radiometry.to_json()
        facts["result"] = {**asdict(result), "megapixels_per_second": result.megapixels_per_second}
    return facts


def _draw(storage: Storage) -> str:
    """Write the pictures beside a cube; the place of the first."""
    try:
        return write_quicklook(storage)
    except OSError as err:
        raise StoreError(
            "the quicklook cannot be written", where=str(storage), got=err.strerror or str(err),
            remedy="free some space, then run again with --resume",
        ) from err  # fmt: skip
