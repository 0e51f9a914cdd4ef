"""A flight line: several scenes become one source, and the run is that of any source.

The command line and the Prefect flow both call these functions and nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spectile.catalog.errors import CubeError, UsageError
from spectile.catalog.inputs import InputSpec
from spectile.catalog.sizes import width_by_height
from spectile.catalog.stac.scenes import NamedScene
from spectile.catalog.times import join, parse_span, to_text
from spectile.flows.run import execute, planning
from spectile.flows.run.choice import with_model
from spectile.flows.run.holding import Beating, holding
from spectile.flows.run.settings import CubeSettings, LineSettings
from spectile.flows.run.state import Observer, Prepared, Result, Silent
from spectile.pipeline.cube.record import Cube, load_plan
from spectile.pipeline.cube.write import put_layout
from spectile.pipeline.line.source import open_line
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.stac.scenes import list_scenes
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

LOG = logging.getLogger("spectile")


def prepare_line(settings: LineSettings, *, dry: bool = False) -> Prepared:
    """Open the scenes, choose the grid, load the model and plan the run.

    Parameters
    ----------
    dry : read masks only, which say what is empty; otherwise as of ``planning.prepare``.

    Raises
    ------
    SpectileError : a scene, the model or a setting cannot be used.
    """
    if settings.add:
        return _prepare_more(settings, dry=dry)
    scenes = list_scenes(settings.scenes)
    return _prepare(settings, scenes, dry=dry)


def check_line_start(settings: LineSettings) -> None:
    """Refuse what a run of the line would refuse before its first block, as ``planning.check_start`` does."""
    if settings.add:
        settings = replace(settings, resume=True)
    planning.check_start(settings, [])  # prepare_line lists the scenes, and checks them


def _prepare_more(settings: LineSettings, *, dry: bool) -> Prepared:
    """As ``prepare_line``, for an existing cube, with scenes added: its grid and its gain do not change."""
    chosen = [name for name in ("crs", "resolution", "extent") if getattr(settings, name) is not None]
    if settings.frame != "north-up":
        chosen.append("frame")
    if chosen:
        raise UsageError(
            "the grid of a line is fixed when its cube is created",
            got=" ".join(f"--{name}" for name in chosen),
            remedy="leave it out with --add, or start a new cube",
        )
    if settings.overwrite:
        raise UsageError("--add and --overwrite exclude each other")
    plan = load_plan(open_storage(settings.out))
    if not plan.scenes:
        raise CubeError(
            "scenes can be added to a flight line only", where=settings.out, got="the cube of one scene"
        )
    scenes = _in_order(list_scenes(settings.scenes, last=settings.add), plan, settings)
    line: Any = plan.settings["line"]
    settings = replace(settings, resume=True)
    return _prepare(settings, scenes, dry=dry, grid=plan.grid, gain=line["gain"])


def prepare_line_again(network: CubeSettings, scenes: Sequence[str], plan: Plan) -> Prepared:
    """The run that made the cube of a line, prepared again: its grid, its gain and its scenes as they were.

    Parameters
    ----------
    network : settings that load the plan's model.
    scenes : where the line's scenes are, as of ``LineSettings``.

    Raises
    ------
    SpectileError : as of ``prepare_line``; whether scenes are those of the plan is for the caller to check.
    """
    line: Any = plan.settings["line"]
    facts: list[Any] = [share.facts for share in plan.scenes]
    first, *others = (tuple(scene["channels"]) for scene in facts)
    settings = LineSettings.like(
        network, scenes=tuple(scenes), nodata=facts[0]["nodata"], checksum="sha256" in facts[0],
        bands=first if all(channels == first for channels in others) else None,
        combine=line["combine"], resampling=line["resampling"],
        radiometry=tuple(
            f"{scene['name']}={radiometry_option(scene['radiometry'], measured=line['gain'])}"
            for scene in facts
        ),
    )  # fmt: skip
    named = _in_order(list_scenes(scenes), plan, settings)
    return _prepare(settings, named, dry=False, grid=plan.grid, gain=line["gain"])


def radiometry_option(radiometry: Mapping[str, Any], *, measured: float | None = None) -> str:
    """The value of ``--radiometry`` that declares the radiometry of a plan.

    Parameters
    ----------
    measured : a gain that was measured, not set by the user; it is left out.
    """
    kind, gain, scale = radiometry["kind"], radiometry["gain"], radiometry["scale"][0]
    if kind == "dn":
        return f"dn:{radiometry['offset'][0]!r},{scale!r}"
    if kind != "display":
        return str(kind)
    whole = max(1, round(1 / scale))
    peak = whole if 1 / whole == scale else 1 / scale
    return f"display/{peak!r}" + (f":{gain!r}" if gain != measured else "")


def _in_order(scenes: list[NamedScene], plan: Plan, settings: LineSettings) -> list[NamedScene]:
    """The scenes in the order of the cube, then the new ones."""
    known = [str(share.facts["name"]) for share in plan.scenes]
    by_name = {scene.name: scene for scene in scenes}
    if missing := [name for name in known if name not in by_name]:
        raise UsageError(
            "a scene of the cube is missing", where=settings.out, got=missing[0],
            remedy="name all scenes of the line; blocks on the border need them",
        )  # fmt: skip
    added = {scene.name for scene in list_scenes((), last=settings.add)} if settings.add else set()
    if strange := [scene.name for scene in scenes if scene.name not in added and scene.name not in known]:
        raise UsageError(
            "a scene is not in the cube", where=settings.out, got=strange[0], remedy="give it with --add"
        )
    return [by_name[name] for name in known] + [scene for scene in scenes if scene.name not in known]


def _prepare(settings: LineSettings, scenes: list[NamedScene], *, dry: bool, **fixed: Any) -> Prepared:
    if settings.datetime is None and (
        span := join([parse_span(each.taken) if each.taken else None for each in scenes])
    ):
        settings = replace(settings, datetime="/".join(map(to_text, span)))
    planning.check_output(settings, [scene.place for scene in scenes], dry=dry)
    settings = with_model(settings, scenes[0].place)

    def open_for(spec: InputSpec) -> planning.Opened:
        source = open_line(
            scenes, spec, crs=settings.crs, resolution=settings.resolution, frame=settings.frame,
            extent=settings.extent, combine=settings.combine, resampling=settings.resampling,
            radiometry=settings.radiometry, nodata_rule=settings.nodata, sensor=settings.sensor,
            bands=settings.bands, measure=not dry, allow_vrt=settings.allow_vrt,
            allow_private=settings.allow_private, **fixed,
        )  # fmt: skip
        LOG.info("flight line of %d scene(s): %s", len(scenes), width_by_height(source.grid.shape))
        return source, {} if dry else {"line": source.settings()}

    return planning.plan_run(settings, open_for, dry=dry)


def start_line(prepared: Prepared, settings: LineSettings, storage: Storage | None = None) -> Cube:
    """The cube to write: a new one, the existing one, or the existing one with scenes added.

    Parameters
    ----------
    storage : as of ``execute.start_cube``.

    Raises
    ------
    CubeError : the cube that is there was made from other settings.
    """
    plan, storage = prepared.plan, storage or open_storage(prepared.settings.out)
    if settings.add:
        there = load_plan(storage)
        fewer = replace(plan, scenes=plan.scenes[: len(there.scenes)])
        # Otherwise start_cube says what differs.
        if fewer.digest == there.digest != plan.digest:
            predictor = prepared.predictor
            put_layout(storage, plan, predictor.bands, calibration=predictor.calibration)
    return execute.start_cube(prepared, storage)


def run_line(settings: LineSettings, *, observer: Observer | None = None) -> tuple[Prepared, Result]:
    """Process a flight line in this process, from the files to the finished cube.

    Raises
    ------
    SpectileError : a scene, the model or a setting cannot be used, or the store cannot be written.
    """
    started = time.perf_counter()
    with prepare_line(settings) as prepared, holding(settings) as lease:
        cube = start_line(prepared, settings, lease.storage)
        return prepared, execute.carry_out(prepared, cube, Beating(lease, observer or Silent()), started)
