"""A sweep of an inbox: list the scenes, find new or changed ones, run each, make a table.

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
from dataclasses import asdict, replace
from typing import Any

from zarr.errors import ZarrUserWarning

from spectile.catalog.errors import CubeError, SpectileError, UsageError
from spectile.catalog.redaction import redact_url
from spectile.catalog.urls import locate, nested
from spectile.flows.console.console import observed_by
from spectile.flows.run import planning, predictors
from spectile.flows.run.choice import AUTO, candidate_digests
from spectile.flows.run.notify import notify, notify_location
from spectile.flows.run.settings import SceneSettings, WatchSettings
from spectile.flows.run.state import Observer, Silent
from spectile.flows.watching.each import STATES, Outcome, RunOne, attempt, summary
from spectile.pipeline.cube.layout import software_version
from spectile.pipeline.cube.record import read_status
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.cost import Estimate
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.scene.clip import read_clip
from spectile.pipeline.stac.inbox import Arrival, list_arrivals, look
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

LOG = logging.getLogger("spectile")

_NO_VALUE = {
    "scene", "out", "resume", "overwrite", "memory", "block", "batch", "workers", "threads", "dask_address",
    "block_retries", "max_block_time", "lease", "datetime", "catalog",
}  # fmt: skip
"""Settings that change no value, or that differ for each scene."""


class _Halt:
    """An observer that forwards all events, and ends its run when the sweep is stopped."""

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
    """Process new and changed scenes of an inbox; a scene that fails does not stop the others.

    A scene whose cube is finished under the same plan is skipped; an unfinished cube is resumed. A scene that
    has changed, or has other settings now, gets a new cube beside the old one, or in its place with
    ``overwrite``. A notification is sent if the sweep made a cube or failed to.

    Parameters
    ----------
    run_one : runs one scene and returns its report.
    observe : gives each run its observer.
    on_outcome : called with the number of settled arrivals and the total.

    Returns
    -------
    dict
        ``inbox``, ``out``, the counts ``done``, ``skipped``, ``waiting`` and ``failed``, and ``scenes``: one
        Outcome per arrival, as plain values.

    Raises
    ------
    SpectileError, OSError : the inbox, the model or a setting cannot be used.
    """
    shown = redact_url(settings.inbox)
    try:
        outcomes = list(_sweep(settings, run_one, observe, on_outcome))
    except Exception as err:
        notify(f"{shown} was not swept: {err}", event="failed", inbox=shown, out=settings.out)
        raise
    counts = Counter(outcome.state for outcome in outcomes)
    report: dict[str, Any] = {
        "inbox": shown, "out": settings.out,
        **{state: counts[state] for state in STATES},
        "scenes": [asdict(outcome) for outcome in sorted(outcomes, key=lambda outcome: outcome.scene)],
    }  # fmt: skip
    if counts["done"] or counts["failed"]:
        news = [row for row in report["scenes"] if row["state"] in ("done", "failed")]
        notify(f"{shown}: {summary(report)}", event="swept", **{**report, "scenes": news})
    return report


def _sweep(
    settings: WatchSettings,
    run_one: RunOne,
    observe: Callable[[], AbstractContextManager[Observer]],
    on_outcome: Callable[[int, int], None],
) -> Iterator[Outcome]:
    _check(settings)
    notify_location()  # a wrong URL should be an error now, not at the first failure
    arrivals = [
        look(arrival, allow_private=settings.allow_private)
        for arrival in list_arrivals(settings.inbox, allow_private=settings.allow_private)
    ]
    run = SceneSettings.like(settings, scene="")
    key = _key(run)
    fresh, settled = [], 0
    for arrival in arrivals:
        if arrival.problem or (note := _note(run, arrival, key)) is None:
            fresh.append(arrival)
            continue
        settled += 1
        yield Outcome(arrival.name, "skipped", note)
    if any(not arrival.problem for arrival in fresh) and settings.settle:
        time.sleep(settings.settle)
    LOG.info("%s: %d scenes, %d to check", redact_url(settings.inbox), len(arrivals), len(fresh))
    stopped = threading.Event()

    def process(arrival: Arrival) -> Outcome:
        with observe() as observer, observed_by(_Halt(observer, stopped)):
            return _process(arrival, run, run_one, key)

    for outcome in _each(fresh, process, settings.at_once, stopped):
        settled += 1
        on_outcome(settled, len(arrivals))
        yield outcome


def _check(settings: WatchSettings) -> None:
    if nested(locate(settings.inbox), locate(settings.out)):
        raise UsageError(
            "the cubes would lie in the inbox, or the inbox among them", where=settings.out,
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
        # catch_warnings is not thread-safe: when one thread leaves it, warnings of all threads come back.
        warnings.simplefilter("ignore", ZarrUserWarning)
        # Prefect finds the parent of a subflow in the context, so each thread gets a copy.
        futures = [pool.submit(copy_context().run, process, arrival) for arrival in arrivals]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _process(arrival: Arrival, run: SceneSettings, run_one: RunOne, key: str) -> Outcome:
    """Make the cube of one arrival, unless it exists."""

    def choose() -> SceneSettings | Outcome:
        if arrival.problem:
            raise SpectileError(arrival.problem)
        now = look(arrival, allow_private=run.allow_private)
        if now.state != arrival.state or now.problem:
            return Outcome(arrival.name, "waiting", why="it changed or was removed during the check")
        chosen, digest = _choose(replace(run, scene=arrival.place, out=_place(run, arrival.name)))
        if digest is None:
            return chosen
        _keep(run, arrival, key, chosen.out, digest)
        return Outcome(arrival.name, "skipped", chosen.out)

    def done(chosen: SceneSettings, facts: Mapping[str, Any]) -> None:
        _keep(run, arrival, key, chosen.out, facts["plan"]["digest"])

    return attempt(arrival.name, choose, run_one, done=done)


def _place(run: SceneSettings, name: str) -> str:
    return f"{run.out.rstrip('/')}/{name}.zarr"


def _choose(run: SceneSettings) -> tuple[SceneSettings, str | None]:
    """The settings with the place to write to, and the digest if the cube there is finished.

    Parameters
    ----------
    run : settings with ``out`` set to the place of the scene's first cube.

    Raises
    ------
    SpectileError : the scene or a setting cannot be used, or the place holds something else.
    """
    if open_storage(run.out).get("zarr.json") is None:
        return run, None
    # On a cluster the workers say what the network is; here its facts are enough for the plan.
    known = None if run.dask_address else predictors.predictor_of(run, weights=False)
    with planning.prepare(replace(run, resume=True, overwrite=False), predictor=known) as prepared:
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


# A note beside each cube records the state of its scene, so that a sweep need not read every scene again.


def _key(run: SceneSettings) -> str:
    """A key of all settings that change the values of a cube."""
    facts = {name: value for name, value in asdict(run).items() if name not in _NO_VALUE}
    facts["clip"] = run.clip and read_clip(run.clip).digest
    known = run.model != AUTO
    model = dict(predictors.predictor_of(run, weights=False).settings) if known else candidate_digests()
    text = json.dumps([facts, model, software_version()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _note_place(run: SceneSettings, arrival: Arrival) -> tuple[Storage, str]:
    first = open_storage(_place(run, arrival.name))
    return first.parent, f".{first.name.removesuffix('.zarr')}.seen.json"


def _keep(run: SceneSettings, arrival: Arrival, key: str, cube: str, digest: str) -> None:
    if arrival.state is not None:
        storage, name = _note_place(run, arrival)
        note = {"state": arrival.state, "key": key, "cube": cube, "digest": digest}
        storage.put(name, json.dumps(note).encode())


def _note(run: SceneSettings, arrival: Arrival, key: str) -> str | None:
    """The finished cube of an unchanged arrival, from its note; None if that is not known."""
    storage, name = _note_place(run, arrival)
    try:
        note = json.loads(storage.get(name) or b"{}")
        if arrival.state is None or (note.get("state"), note.get("key")) != (list(arrival.state), key):
            return None
        facts = read_status(open_storage(note["cube"]))
    except (ValueError, KeyError, AttributeError, CubeError):
        return None
    finished = facts["status"] == "complete" and facts["digest"] == note["digest"]
    return str(note["cube"]) if finished else None
