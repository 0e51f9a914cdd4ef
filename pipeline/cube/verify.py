"""Whether a cube is as it was written: what is damaged, missing or extra, and in which blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spectile.catalog.errors import CubeError
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.arrays import reading_metadata
from spectile.pipeline.cube.finish import strays
from spectile.pipeline.cube.layout import ROOT
from spectile.pipeline.cube.overviews import inspect_overviews
from spectile.pipeline.cube.record import (
    RECORD,
    Cube,
    finished_blocks,
    plan_of,
    read_record,
    read_status,
)
from spectile.pipeline.cube.regions import Region
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.store.base import Storage


@dataclass(frozen=True)
class Findings:
    """What is wrong with a cube."""

    cube: Cube
    """The cube, with the plan of its group, or of its ledger if that is damaged."""
    undone: tuple[Block, ...]
    """Blocks that are not done, or whose marker is damaged."""
    shards: dict[Block, list[str]]
    """Finished blocks whose shards are not as they were written; what is wrong with each."""
    overviews: dict[Region, list[str]]
    """Parts of the overviews that are missing or not as they were written; what is wrong with each."""
    metadata: dict[str, str]
    """Keys of objects that are not as they were laid out; what is wrong with each."""
    extra: tuple[str, ...]
    """Keys of objects that do not belong to this cube."""
    status: str
    """``incomplete``, ``complete``, or ``unknown`` where the group's metadata are damaged."""

    @property
    def blocks(self) -> list[Block]:
        """Blocks to make again, in the plan's order."""
        bad = {*self.shards, *self.undone}
        return [block for block in self.cube.plan.blocks if block in bad]

    @property
    def problems(self) -> list[str]:
        """All of it, a line each."""
        lines = [f"{key} {what}" for key, what in self.metadata.items()]
        lines += [f"block {block.name} is not done" for block in self.undone]
        lines += [f"block {block.name}: {what}" for block, whats in self.shards.items() for what in whats]
        lines += [f"{region.name}: {what}" for region, whats in self.overviews.items() for what in whats]
        lines += [f"{key} is none of this cube's" for key in self.extra]
        if not lines and self.status != "complete":
            lines.append("every block is done, but the cube was never finished; run again with --resume")
        return lines


def inspect_cube(storage: Storage) -> Findings:
    """What is wrong with a cube, from its ledger's checksums.

    Raises
    ------
    CubeError : there is no cube, or both copies of its plan are damaged.
    StoreError : the store cannot be read.
    """
    with reading_metadata(storage):
        return _inspect(storage)


def _inspect(storage: Storage) -> Findings:
    record = read_record(storage)
    metadata: dict[str, str] = {}
    facts: dict[str, Any]
    try:
        facts = read_status(storage)
        plan = plan_of(facts, storage)
    except CubeError:
        if record is None:
            raise
        facts = {**record, "status": "unknown"}
        plan = plan_of(record, storage)
        metadata[ROOT] = "is damaged"
    if record is None or record["digest"] != plan.digest:
        metadata[RECORD] = "is damaged"
    else:
        objects = record["objects"]
        for (key, sums), value in zip(objects.items(), ledger.get_all(storage, objects), strict=True):
            if value is None:
                metadata[key] = "is missing"
            elif ledger.checksum(value) not in sums:
                metadata[key] = "is damaged"
    cube = Cube(storage, plan)
    done = finished_blocks(cube)
    missing, overviews = inspect_overviews(cube, done)
    if facts["status"] != "incomplete":  # they are made last
        overviews |= {region: ["is not made from what is there"] for region in missing}
    return Findings(
        cube=cube,
        undone=tuple(block for block in plan.blocks if block not in done),
        shards=ledger.damaged(storage, {block: marker.checksums for block, marker in done.items()}),
        overviews=overviews,
        metadata=metadata,
        # Without the record one cannot tell which objects are extra.
        extra=() if RECORD in metadata else tuple(strays(cube)),
        status=facts["status"],
    )


def verify_cube(storage: Storage) -> list[str]:
    """What is wrong with a cube, a line each; empty where everything is there as it was written.

    Raises
    ------
    CubeError, StoreError : as of ``inspect_cube``.
    """
    return inspect_cube(storage).problems
