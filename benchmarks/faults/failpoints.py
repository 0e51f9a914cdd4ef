"""Places in a run at which its process is killed or stopped, put there from outside: spectile knows of none.

A passage is one write of an object, or one call of the network. What is armed strikes once, in whichever
process comes first, and leaves a note on the disk that it did.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spectile.flows.run import execute
from spectile.pipeline.block import predict
from spectile.pipeline.plan.quality_layers import QUALITY
from spectile.pipeline.store import local, objects

PHASES = ("predict", "shard", "marker", "finish")
"""Prediction, the writing of shards and of markers, and everything written once all blocks are done."""
SHARDS = tuple(f"{name}/c/" for name in ("reflectance", "valid", *QUALITY))
"""How keys of the shards of blocks begin."""
MOMENTS = ("torn", "written", "guarded", "done")
"""With half of an unfinished file, with all of it, right before it is renamed, and right after."""


@dataclass(frozen=True)
class Failpoint:
    """Where a process is struck."""

    phase: str
    """One of PHASES, or layout: the metadata before the first block."""
    passage: int
    """Which passage of the phase, from 1."""
    moment: str
    """One of MOMENTS; of no meaning to predict."""
    note: str
    """The file that tells that it was hit."""
    signal: int = int(signal.SIGKILL)
    """What the process sends itself; a plain number, for workers are told in Python."""

    def hit(self) -> bool:
        """Whether it was."""
        return Path(self.note).exists()


@dataclass
class _Passages:
    """Counts passages, and strikes at one."""

    point: Failpoint | None
    finishing: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    lock: Any = field(default_factory=threading.Lock)
    renaming: Path | None = None

    def due(self, phase: str | None) -> bool:
        """Count a passage; whether it is the one."""
        if phase is None:
            return False
        with self.lock:
            self.counts[phase] += 1
            point = self.point
            return point is not None and point.phase == phase and self.counts[phase] == point.passage

    def strike(self) -> None:
        assert self.point is not None
        try:
            note = os.open(self.point.note, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return
        os.write(note, json.dumps({**asdict(self.point), "pid": os.getpid()}).encode())
        os.fsync(note)
        os.kill(os.getpid(), self.point.signal)

    def phase_of(self, key: str) -> str | None:
        if "lease-" in key:
            return None
        if self.finishing:
            return "finish"
        if key.startswith(SHARDS):
            return "shard"
        return "marker" if key.startswith("ledger/r") else "layout"


def arm(point: Failpoint | None) -> Counter[str]:
    """Put a failpoint into this process, or only count the passages of each phase; the count, as it grows."""
    passages = _Passages(point)
    _arm_predictor(passages)
    _arm_finish(passages)
    _arm_files(passages)
    _arm_objects(passages)
    return passages.counts


def _arm_predictor(passages: _Passages) -> None:
    whole = predict.BandsRepeat.predict

    def predicting(self: predict.BandsRepeat, *arguments: Any) -> Iterator[Any]:
        for found in whole(self, *arguments):
            if passages.due("predict"):
                passages.strike()
            yield found

    predict.BandsRepeat.predict = predicting  # type: ignore[method-assign]


def _arm_finish(passages: _Passages) -> None:
    whole = execute.finish_cube

    def finishing(*arguments: Any, **named: Any) -> str:
        passages.finishing = True
        return whole(*arguments, **named)

    execute.finish_cube = finishing


def _arm_files(passages: _Passages) -> None:
    whole = local.LocalStorage._part

    @contextmanager
    def part(self: local.LocalStorage, key: str, value: bytes) -> Iterator[tuple[Path, Path]]:
        if not passages.due(passages.phase_of(key)):
            with whole(self, key, value) as both:
                yield both
            return
        moment = passages.point.moment if passages.point else ""
        half = len(value) // 2 if moment == "torn" else len(value)
        with whole(self, key, value[:half]) as (path, goal):
            with path.open("ab") as file:
                if moment in ("torn", "written"):
                    passages.strike()
                file.write(value[half:])  # by one that was only stopped; the file may be gone
            if moment == "guarded":
                passages.renaming = goal
            yield path, goal
        if moment == "done":
            passages.strike()

    def naming(give: Callable[..., None]) -> Callable[..., None]:
        def named(source: Any, goal: Any, **how: Any) -> None:
            if passages.renaming is not None and passages.renaming == goal:
                passages.renaming = None
                passages.strike()
            give(source, goal, **how)

        return named

    local.LocalStorage._part = part  # type: ignore[method-assign]
    os.replace, os.link = naming(os.replace), naming(os.link)


def _arm_objects(passages: _Passages) -> None:
    whole = objects.ObjectStorage.put_guarded

    def put(self: objects.ObjectStorage, key: str, value: bytes, guard: Callable[[], None]) -> None:
        due = passages.due(passages.phase_of(key))

        def guarded() -> None:
            guard()
            if due:
                passages.strike()

        whole(self, key, value, guarded)

    objects.ObjectStorage.put_guarded = put  # type: ignore[method-assign]
