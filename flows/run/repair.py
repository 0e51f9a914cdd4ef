"""Repairs a damaged cube from its own plan: damaged or missing blocks, and metadata."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spectile.catalog.errors import CubeError, UsageError
from spectile.flows.run import execute, planning, predictors
from spectile.flows.run.fused import network_of
from spectile.flows.run.fusion import kept_estimates, prepare_fusion_again
from spectile.flows.run.holding import Beating, holding
from spectile.flows.run.line import prepare_line_again, radiometry_option
from spectile.flows.run.settings import CubeSettings, SceneSettings, Settings
from spectile.flows.run.state import Observer, Prepared, Silent, Tally
from spectile.pipeline.block.predict import Predictor
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.finish import told_of
from spectile.pipeline.cube.overviews import void_regions
from spectile.pipeline.cube.record import PAIR
from spectile.pipeline.cube.verify import Findings, inspect_cube
from spectile.pipeline.cube.write import put_layout
from spectile.pipeline.plan.plan import SHARD, Plan
from spectile.pipeline.plan.shares import clip_share
from spectile.pipeline.store.opening import open_storage

LOG = logging.getLogger("spectile")


def repair_cube(
    place: str,
    scenes: Sequence[str] = (),
    model: str | None = None,
    clip: str | None = None,
    *,
    observer: Observer | None = None,
) -> tuple[Findings, Findings]:
    """What was wrong with a cube, and what still is.

    Blocks that are damaged or missing are made again, damaged metadata are put again, and what is none of the
    cube's is removed.

    Parameters
    ----------
    scenes : where the scene is, or those of a flight line (folders and collections, too); none takes the
        URLs that the plan names. Only blocks need them.
    model : name or path of the model, if not as in the plan.
    clip : the polygon of a cube that is clipped, which blocks need too.

    Raises
    ------
    CubeError : there is no cube, or scene or model are not those that it was made from.
    LeaseHeld : a run is writing it.
    SpectileError : the scene or the model cannot be used, or the store cannot be written.
    """
    with holding(Settings(out=place)) as lease:
        findings = inspect_cube(lease.storage)
        if not findings.problems:
            return findings, findings
        cube, blocks = findings.cube, findings.blocks
        plan, told = cube.plan, told_of(lease.storage)
        if blocks or PAIR in findings.metadata:  # what is estimated of a pair is estimated from its scenes
            with _prepare(plan, place, scenes, model, clip) as prepared:
                _renew(findings, prepared.predictor, execute.kept_of(prepared))
                failed = _make(prepared, findings, Beating(lease, observer or Silent()))
        else:
            if findings.metadata:
                kept = kept_estimates(lease.storage, plan)
                _renew(findings, _load(plan, place, model, kept), {} if kept is None else {PAIR: kept})
            failed = 0
            _void(findings)
        if not failed:
            execute.finish_cube(cube, told)
        return findings, inspect_cube(lease.storage)


def _void(findings: Findings) -> None:
    ledger.void(findings.cube.storage, [ledger.key_of(block) for block in findings.shards])
    void_regions(findings.cube.storage, findings.overviews)


def _renew(findings: Findings, predictor: Predictor, kept: Mapping[str, bytes]) -> None:
    if findings.metadata:
        put_layout(
            findings.cube.storage, findings.cube.plan, predictor.bands, calibration=predictor.calibration,
            kept=kept,
        )  # fmt: skip


def _make(prepared: Prepared, findings: Findings, observer: Beating) -> int:
    """Make the blocks again; how many failed."""
    _void(findings)  # otherwise another run would count them as done while they are made
    cube, blocks = findings.cube, findings.blocks
    done = [block for block in cube.plan.blocks if block not in set(blocks)]
    observer.begin(cube.plan, prepared.estimate, done)
    tally = Tally()
    execute.process_blocks(prepared, cube, blocks, tally=tally, observer=observer)
    return len(tally.failures)


def _prepare(plan: Plan, place: str, scenes: Sequence[str], model: str | None, clip: str | None) -> Prepared:
    """The run that made the cube, prepared again.

    Raises
    ------
    CubeError : scene, model or software are others.
    """
    where = scenes or _known(plan)
    if not where:
        raise UsageError(
            "the cube does not know in which folder its scene is", where=place, remedy="name it with --scene"
        )
    if plan.clip is not None and clip is None:
        raise UsageError("the cube is clipped by a polygon", where=place, remedy="name it with --clip")
    network = replace(_network(plan, place, model), clip=clip)
    if "pair" in plan.settings:
        if len(where) != 2:
            raise UsageError(
                "the cube is fused from two scenes", where=place, got=f"{len(where)}",
                remedy="name them with --scene HSI --scene MSI",
            )  # fmt: skip
        prepared = prepare_fusion_again(network, where, plan, kept_estimates(open_storage(place), plan))
    elif plan.scenes:
        prepared = prepare_line_again(network, where, plan)
    elif len(where) == 1:
        prepared = planning.prepare(_settings(network, where[0], plan))
    else:
        raise UsageError("the cube has one scene", where=place, got=f"{len(where)} scenes")
    inside = prepared.source.clip
    cut = None if inside is None else clip_share(inside, plan.tiling, plan.window, SHARD)
    again = replace(prepared, plan=replace(prepared.plan, window=plan.window, clip=cut))
    try:
        execute.check_same(again, _facts(plan), place)
    except CubeError:
        prepared.__exit__()
        raise
    return again


def _known(plan: Plan) -> list[str]:
    """The URLs of a plan's scenes; none where it does not know them all."""
    settings: Any = plan.settings
    facts: list[Any] = [share.facts for share in plan.scenes]
    if not facts:
        facts = settings["scene"]["files"] if "pair" in settings else [settings["scene"]]
    return [scene["url"] for scene in facts] if all("url" in scene for scene in facts) else []


def _facts(plan: Plan) -> dict[str, Any]:
    return {"digest": plan.digest, "plan": plan.to_json(), "block": plan.block}


def _load(plan: Plan, place: str, model: str | None, kept: bytes | None) -> Predictor:
    """The model that made the cube.

    Parameters
    ----------
    kept : what the cube of a pair keeps of it.

    Raises
    ------
    CubeError : it is another.
    """
    network: Settings = _network(plan, place, model)
    if kept is not None:
        network = network_of(network, kept)
    predictor = predictors.predictor_of(network)
    was: Any = plan.settings["model"]
    if dict(predictor.settings) != was:
        raise CubeError(
            "the cube was made with another model", where=place,
            got=f"digest {str(predictor.settings['digest'])[:12]}", expected=f"digest {was['digest'][:12]}",
            remedy="name it with --model",
        )  # fmt: skip
    return predictor


def _network(plan: Plan, place: str, model: str | None) -> CubeSettings:
    """Settings that load the model of a plan."""
    settings: Any = plan.settings["model"]
    return CubeSettings(
        out=place, model=model or settings["name"], steps=settings["steps"] or None, seed=settings["seed"],
        samples=plan.samples, layers=plan.every_layer, device=settings["device"],
        dtype=settings["dtype"], compiled=settings.get("compiled", False),
        tile=plan.tiling.tile, halo=plan.tiling.halo, block=plan.block,
        resume=True,
    )  # fmt: skip


def _settings(network: CubeSettings, scene: str, plan: Plan) -> SceneSettings:
    """The settings of the run that made the cube of a scene, as far as they change a value."""
    settings: Any = plan.settings
    return SceneSettings.like(
        network, scene=scene, radiometry=radiometry_option(settings["radiometry"]), nodata=settings["nodata"],
        bands=tuple(settings["channels"]), sensor=settings.get("sensor"),
        checksum="sha256" in settings["scene"],
    )  # fmt: skip
