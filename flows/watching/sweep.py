"""A sweep of an inbox: arrivals → what is new or changed → one run each → a table.

The command line and the Prefect flow both call ``sweep``; they differ in how one scene is run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from zarr.errors import ZarrUserWarning

from spectile.catalog.errors import CubeError, LeaseHeld, SpectileError, UsageError
from spectile.catalog.redaction import redact, redact_url
from spectile.catalog.urls import locate, nested
from spectile.flows.console.console import observed_by
from spectile.flows.run import planning, predictors
from spectile.flows.run.notify import notify, notify_location
from spectile.flows.run.settings import SceneSettings
from spectile.flows.run.state import Observer, Silent
from spectile.pipeline.cube.layout import software_version
from spectile.pipeline.cube.record import read_status
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.cost import Estimate
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.stac.inbox import Arrival, list_arrivals, look
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

LOG = logging.getLogger("spectile")

COLUMNS = ("scene", "state", "cube", "why")
"""Of the table of a sweep."""

RunOne = Callable[[SceneSettings], Mapping[str, Any]]
"""Runs one scene to its end and returns its report."""

_NO_VALUE = {
    "scene", "out", "resume", "overwrite", "memory", "block", "batch", "workers", "threads", "dask_address",
    "block_retries", "max_block_time", "lease", "datetime", "catalog",
}  # fmt: skip
"""Settings that change no value, or that each scene has in its own way."""


@dataclass(frozen=True)
class WatchSettings:
    """What a user sets for a sweep; the command line's options bear the fields' names."""

    inbox: str
    """A folder, or a STAC document, path or URL."""
    run: SceneSettings
    """What is set for each scene; its ``scene`` is not used, its ``out`` is the folder of the cubes."""
    at_once: int = 1
    """Scenes that are processed at the same time."""
    settle: float = 10.0
    """Seconds between two looks at a file, s; one that changes meanwhile is left for the next sweep."""


@dataclass(frozen=True)
class Outcome:
    """What came of one arrival."""

    scene: str
    """What the arrival is called."""
    state: Literal["done", "skipped", "waiting", "failed"]
    """Made now, there before, left for a later sweep, or failed."""
    cube: str = ""
    """The store, where there is one."""
    why: str = ""
    """What failed, in a line."""


class _Halt:
    """An observer that passes on what it hears, and ends its run when the sweep is stopped."""

    def __init__(self, observer: Observer, stopped: threading.Event) -> None:
        self._observer, self._stopped = observer, stopped

    def begin(self, plan: Plan, estimate: Estimate, done: Sequence[Block]) -> None:
        self._observer.begin(plan, estimate, done)

    def tiles(self, count: int) -> None:
        if self._stopped.is_set():
            raise KeyboardInterrupt
        self._observer.tiles(count)

    def block(self, block: Block, seconds: float) -> None:
        self._observer.block(block, seconds)


def sweep(
    settings: WatchSettings,
    run_one: RunOne,
    *,
    observe: Callable[[], AbstractContextManager[Observer]] = lambda: nullcontext(Silent()),
    on_outcome: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Process what is new or changed in an inbox; a scene that fails does not stop the others.

    A scene whose cube is finished under the same plan is skipped, one whose cube was begun goes on. A scene
    that has changed, or is to be made with other settings, gets a cube beside the old one, or with
    ``run.overwrite`` in its place. Who asked for it is notified of a sweep that did something, or could not.

    Parameters
    ----------
    run_one : runs one scene and returns its report.
    observe : gives each run its observer.
    on_outcome : told how many arrivals are settled, of how many.

    Returns
    -------
    dict
        ``inbox``, ``out``, the counts ``done``, ``skipped``, ``waiting`` and ``failed``, and ``scenes``: an
        Outcome each, as plain values.

    Raises
    ------
    SpectileError, OSError : the inbox, the model or a setting cannot be used.
    """
    shown = redact_url(settings.inbox)
    try:
        outcomes = list(_sweep(settings, run_one, observe, on_outcome))
    except Exception as err:
        notify(f"{shown} was not swept: {err}", event="failed", inbox=shown, out=settings.run.out)
        raise
    counts = Counter(each.state for each in outcomes)
    report: dict[str, Any] = {
        "inbox": shown, "out": settings.run.out,
        **{state: counts[state] for state in ("done", "skipped", "waiting", "failed")},
        "scenes": [asdict(each) for each in sorted(outcomes, key=lambda each: each.scene)],
    }  # fmt: skip
    if counts["done"] or counts["failed"]:
        news = [each for each in report["scenes"] if each["state"] in ("done", "failed")]
        notify(f"{shown}: {summary(report)}", event="swept", **{**report, "scenes": news})
    return report


def summary(report: Mapping[str, Any]) -> str:
    """A sweep in a line."""
    line = ", ".join(f"{report[state]} {state}" for state in ("done", "skipped", "waiting", "failed"))
    failed = [each for each in report["scenes"] if each["state"] == "failed"]
    return line + (f"; {failed[0]['scene']}: {failed[0]['why']}" if failed else "")


def table(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of a sweep's table."""
    return [tuple(str(each[name]) for name in COLUMNS) for each in report["scenes"]]


def _sweep(
    settings: WatchSettings,
    run_one: RunOne,
    observe: Callable[[], AbstractContextManager[Observer]],
    on_outcome: Callable[[int, int], None],
) -> Iterator[Outcome]:
    _check(settings)
    notify_location()  # a wrong one should not be found out by the first failure
    arrivals = [
        look(each, allow_private=settings.run.allow_private)
        for each in list_arrivals(settings.inbox, allow_private=settings.run.allow_private)
    ]
    key = _key(settings.run)
    fresh, settled = [], 0
    for each in arrivals:
        if each.problem or (note := _note(settings.run, each, key)) is None:
            fresh.append(each)
            continue
        settled += 1
        yield Outcome(each.name, "skipped", note)
    if any(not each.problem for each in fresh) and settings.settle:
        time.sleep(settings.settle)
    LOG.info("%s: %d scenes, %d to look at", redact_url(settings.inbox), len(arrivals), len(fresh))
    stopped = threading.Event()

    def process(each: Arrival) -> Outcome:
        with observe() as observer, observed_by(_Halt(observer, stopped)):
            outcome = _process(each, settings.run, run_one, key)
        LOG.log(
            logging.ERROR if outcome.state == "failed" else logging.INFO,
            "%s: %s%s", outcome.scene, outcome.state, f": {outcome.why}" if outcome.why else "",
        )  # fmt: skip
        return outcome

    for outcome in _each(fresh, process, settings.at_once, stopped):
        settled += 1
        on_outcome(settled, len(arrivals))
        yield outcome


def _check(settings: WatchSettings) -> None:
    if settings.at_once < 1 or settings.settle < 0:
        raise UsageError(
            "invalid sweep settings", got=f"--at-once {settings.at_once} --settle {settings.settle:g}",
            expected="1 scene or more, 0 s or more",
        )  # fmt: skip
    if settings.run.resume:
        raise UsageError("a sweep resumes what was begun by itself", got="--resume", remedy="leave it out")
    if nested(locate(settings.inbox), locate(settings.run.out)):
        raise UsageError(
            "the cubes would lie in the inbox, or the inbox among them", where=settings.run.out,
            remedy="choose another --out",
        )  # fmt: skip


def _each(
    arrivals: Sequence[Arrival],
    process: Callable[[Arrival], Outcome],
    at_once: int,
    stopped: threading.Event,
) -> Iterator[Outcome]:
    if at_once == 1:
        yield from map(process, arrivals)
        return
    with ThreadPoolExecutor(at_once, thread_name_prefix="scene") as pool, warnings.catch_warnings():
        # What one thread silences, another that leaves a catch_warnings of its own lets be heard again.
        warnings.simplefilter("ignore", ZarrUserWarning)
        # Prefect knows by the context which flow run a subflow belongs to.
        futures = [pool.submit(copy_context().run, process, each) for each in arrivals]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _process(each: Arrival, run: SceneSettings, run_one: RunOne, key: str) -> Outcome:
    """Make the cube of one arrival, unless it is there; whatever fails is told in the outcome."""
    out = ""
    try:
        if each.problem:
            raise SpectileError(each.problem)
        now = look(each, allow_private=run.allow_private)
        if now.state != each.state or now.problem:
            return Outcome(each.name, "waiting", why="it changed or went while it was looked at")
        chosen, digest = _choose(replace(run, scene=each.place, out=_place(run, each.name)))
        out = chosen.out
        if digest is not None:
            _keep(run, each, key, out, digest)
            return Outcome(each.name, "skipped", out)
        facts = run_one(chosen)
        if failures := facts["result"]["failures"]:
            raise SpectileError(f"{len(failures)} of {facts['plan']['blocks']} blocks failed: {failures[0]}")
        _keep(run, each, key, out, facts["plan"]["digest"])
        return Outcome(each.name, "done", out)
    except LeaseHeld as err:
        return Outcome(each.name, "waiting", out, str(err))
    except (SpectileError, OSError) as err:
        why = str(err)
    except MemoryError:
        why = "not enough memory; lower --memory, --samples or --batch"
    except Exception as err:  # a bug that one scene meets must not keep the others from being made
        LOG.exception("%s", each.name)
        why = f"{type(err).__name__}: {err}"
    return Outcome(each.name, "failed", out, " ".join(redact(why).split()))


def _place(run: SceneSettings, name: str) -> str:
    return f"{run.out.rstrip('/')}/{name}.zarr"


def _choose(run: SceneSettings) -> tuple[SceneSettings, str | None]:
    """The settings with the place to write to; with the digest where the cube is finished already.

    Parameters
    ----------
    run : with ``out`` the place of the scene's first cube.

    Raises
    ------
    SpectileError : the scene or a setting cannot be used, or something else lies in the place.
    """
    if open_storage(run.out).get("zarr.json") is None:
        return run, None
    with planning.prepare(replace(run, resume=True, overwrite=False)) as prepared:
        digest = prepared.plan.digest
    for out in (run.out, f"{run.out.removesuffix('.zarr')}-{digest[:8]}.zarr"):
        storage = open_storage(out)
        if storage.get("zarr.json") is None:
            return replace(run, out=out), None
        facts = read_status(storage)
        if facts["digest"] == digest:
            again = replace(run, out=out, resume=True, overwrite=False)
            return again, digest if facts["status"] == "complete" else None
        if run.overwrite:
            return replace(run, out=out), None
    raise CubeError("the cube of another scene is in the way", where=out, remedy="move it")


# Beside each cube a note keeps what its scene looked like, so that a sweep need not read every scene again.


def _key(run: SceneSettings) -> str:
    """What is another one when a cube would come out differently from the same scene."""
    facts = {name: value for name, value in asdict(run).items() if name not in _NO_VALUE}
    model = dict(predictors.predictor_of(run).settings)
    text = json.dumps([facts, model, software_version()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _note_place(run: SceneSettings, each: Arrival) -> tuple[Storage, str]:
    first = open_storage(_place(run, each.name))
    return first.parent, f".{first.name.removesuffix('.zarr')}.seen.json"


def _keep(run: SceneSettings, each: Arrival, key: str, cube: str, digest: str) -> None:
    if each.state is not None:
        storage, name = _note_place(run, each)
        note = {"state": each.state, "key": key, "cube": cube, "digest": digest}
        storage.put(name, json.dumps(note).encode())


def _note(run: SceneSettings, each: Arrival, key: str) -> str | None:
    """The finished cube of an arrival that has not changed, by its note; None where that is not known."""
    storage, name = _note_place(run, each)
    try:
        note = json.loads(storage.get(name) or b"{}")
        if each.state is None or (note.get("state"), note.get("key")) != (list(each.state), key):
            return None
        facts = read_status(open_storage(note["cube"]))
    except (ValueError, KeyError, AttributeError, CubeError):
        return None
    there = facts["status"] == "complete" and facts["digest"] == note["digest"]
    return str(note["cube"]) if there else None
