"""Several scenes, one after another: each gets its outcome, and one that fails does not stop the others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Literal, get_args

from spectile.catalog.errors import LeaseHeld, SpectileError, UsageError
from spectile.catalog.redaction import redact
from spectile.catalog.urls import is_url, locate
from spectile.flows.console.console import observed_by
from spectile.flows.run.settings import SceneSettings
from spectile.flows.run.state import Observer
from spectile.pipeline.product.quicklook import quicklook_names

LOG = logging.getLogger("spectile")

COLUMNS = ("scene", "state", "cube", "why")
"""Columns of the table of outcomes."""
State = Literal["done", "skipped", "waiting", "failed"]
STATES: tuple[State, ...] = get_args(State)

_QUICKLOOK = quicklook_names("scene")[1].removeprefix("scene")

RunOne = Callable[[SceneSettings], Mapping[str, Any]]
"""Runs one scene to its end and returns its report."""


@dataclass(frozen=True)
class Outcome:
    """The result of one scene."""

    scene: str
    """Its name."""
    state: State
    """Made now, made before, left for later, or failed."""
    cube: str = ""
    """The cube's place, empty if there is none."""
    why: str = ""
    """The reason, in one line, if it failed or waits."""


def attempt(
    name: str,
    choose: Callable[[], SceneSettings | Outcome],
    run_one: RunOne,
    *,
    done: Callable[[SceneSettings, Mapping[str, Any]], None] = lambda settings, report: None,
) -> Outcome:
    """Run one scene; every failure is reported in the outcome, and logged.

    Parameters
    ----------
    choose : gives the settings to run with, or the outcome if there is nothing to run.
    done : called with the settings and the report of a run without failures.
    """
    outcome = _attempt(name, choose, run_one, done)
    LOG.log(
        logging.ERROR if outcome.state == "failed" else logging.INFO,
        "%s: %s%s", outcome.scene, outcome.state, f": {outcome.why}" if outcome.why else "",
    )  # fmt: skip
    return outcome


def _attempt(
    name: str,
    choose: Callable[[], SceneSettings | Outcome],
    run_one: RunOne,
    done: Callable[[SceneSettings, Mapping[str, Any]], None],
) -> Outcome:
    out = ""
    try:
        chosen = choose()
        if isinstance(chosen, Outcome):
            return chosen
        out = chosen.out
        facts = run_one(chosen)
        if failures := facts["result"]["failures"]:
            raise SpectileError(f"{len(failures)} of {facts['plan']['blocks']} blocks failed: {failures[0]}")
        done(chosen, facts)
        return Outcome(name, "done", out)
    except LeaseHeld as err:
        return Outcome(name, "waiting", out, str(err))
    except (SpectileError, OSError) as err:
        why = str(err)
    except MemoryError:
        why = "not enough memory; lower --memory, --samples or --batch"
    except Exception as err:  # a bug with one scene must not stop the others
        LOG.exception("%s", name)
        why = f"{type(err).__name__}: {err}"
    return Outcome(name, "failed", out, " ".join(redact(why).split()))


def summary(report: Mapping[str, Any]) -> str:
    """How many scenes have which state, and the first that failed, in one line."""
    line = ", ".join(f"{report[state]} {state}" for state in STATES if state in report)
    failed = [row for row in report["scenes"] if row["state"] == "failed"]
    return line + (f"; {failed[0]['scene']}: {failed[0]['why']}" if failed else "")


def table(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of the table of a report."""
    return [tuple(str(row[name]) for name in COLUMNS) for row in report["scenes"]]


def expand(scenes: Sequence[str]) -> list[str]:
    """The scenes that are named, patterns such as ``scenes/*.tif`` expanded, in order of their paths.

    A pattern does not match the quicklooks that stand beside cubes.

    Raises
    ------
    UsageError : no file matches a pattern.
    """
    found: list[str] = []
    for scene in scenes:
        if is_pattern(scene):
            matched = [path for path in sorted(glob(scene, recursive=True)) if not path.endswith(_QUICKLOOK)]
            if not matched:
                raise UsageError("no scene matches", got=scene)
            found += matched
        else:
            found.append(scene)
    return list(dict.fromkeys(found))


def is_pattern(scene: str) -> bool:
    """Whether a scene is named by a pattern; a file with such a name is a file."""
    return not is_url(scene) and has_magic(scene) and not Path(scene).exists()


def cube_of(scene: str, folder: str) -> str:
    """The place of a scene's cube in a folder: the scene's name, with another ending."""
    return f"{folder.rstrip('/')}/{Path(locate(scene).name).stem}.zarr"


def settings_of(scenes: Sequence[str], given: Mapping[str, Any]) -> list[SceneSettings]:
    """The settings of each scene, whose cubes go into the folder ``out``.

    Raises
    ------
    UsageError : two scenes have the same cube, or a setting cannot be used.
    """
    whole = SceneSettings(**{**given, "scene": scenes[0]})
    cubes = {scene: cube_of(scene, whole.out) for scene in scenes}
    many = Counter(cubes.values())
    if twice := [scene for scene in scenes if many[cubes[scene]] > 1]:
        raise UsageError(
            "two scenes would be one cube", got=", ".join(twice[:3]), where=cubes[twice[0]],
            remedy="rename one, or run it alone",
        )  # fmt: skip
    return [replace(whole, scene=scene, out=cube) for scene, cube in cubes.items()]


def run_each(
    settings: Sequence[SceneSettings],
    run_one: RunOne,
    *,
    observe: Callable[[], AbstractContextManager[Observer]],
) -> dict[str, Any]:
    """Run scenes one after another; a cube that is written by another run counts as failed.

    Parameters
    ----------
    run_one : runs one scene and returns its report.
    observe : gives each run its observer.

    Returns
    -------
    dict
        The counts ``done`` and ``failed``, ``scenes`` with an Outcome of each, as plain values, and
        ``reports`` of those that were run.
    """
    outcomes: list[Outcome] = []
    reports: list[Mapping[str, Any]] = []

    def run(each: SceneSettings) -> Mapping[str, Any]:
        reports.append(run_one(each))
        return reports[-1]

    for number, each in enumerate(settings, 1):
        name = locate(each.scene).name
        LOG.info("scene %d of %d: %s", number, len(settings), name)
        with observe() as observer, observed_by(observer):
            outcome = attempt(name, lambda each=each: each, run)  # type: ignore[misc]
        outcomes.append(replace(outcome, state="done" if outcome.state == "done" else "failed"))
    counts = Counter(outcome.state for outcome in outcomes)
    return {
        "done": counts["done"], "failed": counts["failed"],
        "scenes": [asdict(outcome) for outcome in outcomes], "reports": reports,
    }  # fmt: skip
