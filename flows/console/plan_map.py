"""Plans and cubes as maps: a polygon for each block, with its cost and its state."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from spectile.catalog.bands import RGB_CAMERA
from spectile.catalog.errors import SceneError, UsageError
from spectile.catalog.urls import locate, nested
from spectile.flows.console.console import duration, size
from spectile.flows.console.describe import run_state
from spectile.flows.run import execute, fusion, planning
from spectile.flows.run import line as compose_line
from spectile.flows.run.settings import FuseSettings, LineSettings, SceneSettings
from spectile.pipeline.cube.attempts import read_failures
from spectile.pipeline.cube.lease import read_beat
from spectile.pipeline.cube.record import Cube, finished_blocks, load_plan, read_status
from spectile.pipeline.geometry.footprint import footprints
from spectile.pipeline.geometry.tiling import Block, blocks
from spectile.pipeline.plan.cost import Workload, input_channels
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.stac.scenes import list_scenes
from spectile.pipeline.store.opening import open_storage

Feature = dict[str, Any]
"""A GeoJSON feature of a block."""

PLAN_COLUMNS = ("scene", "blocks", "empty", "tiles", "MPix", "cube", "memory", "time")
STATES = ("done", "running", "failed", "missing", "empty")

_SUMMED = ("blocks", "blocks_empty", "tiles", "tiles_masked", "pixels", "output_bytes", "hours")


def scene_settings(scenes: Sequence[str], given: Mapping[str, Any]) -> list[SceneSettings]:
    """The settings of each scene; folders and STAC item collections are expanded.

    Raises
    ------
    UsageError : there is no scene, or two have one name.
    """
    return [SceneSettings(scene=scene.place, **given) for scene in list_scenes(scenes)]


def map_plans(
    settings: Sequence[SceneSettings] | LineSettings | FuseSettings,
) -> tuple[list[Feature], dict[str, Any]]:
    """The features of all blocks of one or more plans, and a report for programs.

    No pixel of a scene is read; of a flight line only the masks, of a pair the windows from which it is
    estimated.

    Raises
    ------
    SpectileError : a scene, the model or a setting cannot be used.
    """
    features, reports = [], []
    before = None
    for each in [settings] if isinstance(settings, LineSettings | FuseSettings) else settings:
        if isinstance(each, LineSettings):
            prepared = compose_line.prepare_line(each, dry=True)
        elif isinstance(each, FuseSettings):
            prepared = fusion.prepare_fusion(each, dry=True)
        else:
            prepared = before = planning.prepare(each, dry=True, like=before)
        reports.append(execute.report(prepared))
        seconds = (prepared.seconds_per_tile or 0) * prepared.plan.samples
        workload = Workload(prepared.plan, input_channels(prepared.predictor.inputs))
        features += _features(workload, reports[-1]["scene"], seconds, {})
    total = {key: sum(report["plan"][key] for report in reports) for key in _SUMMED}
    total["peak_memory_bytes"] = max(report["plan"]["peak_memory_bytes"] for report in reports)
    return features, {"version": reports[0]["version"], "total": total, "scenes": reports}


def plan_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """A row for each plan of a report, in the order of PLAN_COLUMNS, and a total if there are several."""
    rows = [(entry["scene"], entry["plan"]) for entry in report["scenes"]]
    if len(rows) > 1:
        rows.append(("total", report["total"]))
    return [
        [
            name, str(plan["blocks"]), str(plan["blocks_empty"]), str(plan["tiles"] - plan["tiles_masked"]),
            f"{plan['pixels'] / 1e6:.2f}", size(plan["output_bytes"]), size(plan["peak_memory_bytes"]),
            duration(plan["hours"] * 3600),
        ]
        for name, plan in rows
    ]  # fmt: skip


def channel_pairs(report: Mapping[str, Any]) -> dict[str, object]:
    """Which bands feed the model, by scene; once where it is the same for all."""
    told = {each["scene"]: "; ".join(each["channels"]) for each in report["scenes"]}
    return {"channels": next(iter(told.values()))} if len(set(told.values())) == 1 else dict(told)


def map_cube(place: str) -> tuple[list[Feature], dict[str, Any]]:
    """The features of a cube's blocks with their states, and a summary. Reads the ledger, no pixels.

    Raises
    ------
    CubeError : there is no cube.
    """
    storage = open_storage(place)
    status, plan = read_status(storage), load_plan(storage)
    cube = Cube(storage, plan)
    done, failures = finished_blocks(cube), read_failures(cube, plan.blocks)
    beat = read_beat(storage)
    # A run reports only its first unfinished block; workers may be at others as well.
    running = beat.block if beat and beat.state != "stopped" else None
    spent = sum(marker.seconds for marker in done.values())
    tiles = sum(plan.computed_tiles(block) for block in done)
    seconds_per_tile = spent / tiles if tiles else None
    known: dict[Block, dict[str, Any]] = {}
    for block in plan.blocks:
        marker, failure = done.get(block), failures.get(block)
        if marker:
            state = "done"
        elif block.name == running:
            state = "running"
        else:
            state = "failed" if failure else "missing"
        known[block] = {
            "state": state,
            "attempts": (failure.attempts if failure else 0) + (marker is not None),
            "seconds": marker.seconds if marker else None,
            "pixels_valid": marker.valid_pixels if marker else None,
            "error": failure.error if failure and not marker else None,
        }
    scene: Any = plan.settings.get("scene", {})
    workload = Workload(plan, _channels(plan))
    features = _features(workload, str(scene.get("name", "unknown")), seconds_per_tile, known)
    counts = Counter(feature["properties"]["state"] for feature in features)
    pixels = sum(plan.pixels(block) for block in plan.blocks)
    pixels_done = sum(plan.pixels(block) for block in done)
    todo = sum(plan.computed_tiles(block) for block in plan.blocks if block not in done)
    return features, {
        "cube": str(storage),
        "status": status["status"],
        "run": run_state(status["status"], beat),
        "blocks": {"total": len(plan.blocks), **{state: counts[state] for state in STATES}},
        "percent": round(100 * pixels_done / pixels, 2),
        "pixels": pixels,
        "pixels_done": pixels_done,
        "pixels_valid": sum(marker.valid_pixels for marker in done.values()),
        "seconds": round(spent, 3),
        "seconds_to_go": None if seconds_per_tile is None else round(todo * seconds_per_tile, 3),
    }


def status_pairs(summary: Mapping[str, Any]) -> dict[str, object]:
    """The summary of a cube as names and values to print."""
    counts = summary["blocks"]
    others = [f"{counts[state]} {state}" for state in STATES[1:] if counts[state]]
    to_go = summary["seconds_to_go"]
    return {
        "cube": summary["cube"],
        "status": f"{summary['status']}, run {summary['run']}",
        "blocks": ", ".join([f"{counts['done']} of {counts['total']} done", *others]),
        "pixels": f"{summary['pixels_done'] / 1e6:.2f} of {summary['pixels'] / 1e6:.2f} MPix, "
        f"{summary['percent']:.3g} %; {summary['pixels_valid'] / 1e6:.2f} MPix valid",
        "time": f"{duration(summary['seconds'])} for the blocks that are done",
        "to go": "unknown" if to_go is None else f"{duration(to_go)}, one block after another",
    }


def check_map(place: str, data: Sequence[str]) -> None:
    """Check the place of a map before the work starts.

    Parameters
    ----------
    data : files and cubes that the map must not replace or lie in.

    Raises
    ------
    UsageError : the map cannot be written there.
    """
    if not place.endswith((".geojson", ".json")):
        raise UsageError("a map is written as GeoJSON", got=place, expected="a name that ends in .geojson")
    if any(nested(locate(each), locate(place)) for each in data):
        raise UsageError("the map would overwrite data", where=place, remedy="choose another file")


def write_map(place: str, features: Sequence[Feature]) -> None:
    """Write features as one GeoJSON document, in one step; an existing file is replaced.

    Raises
    ------
    StoreError, OSError : it cannot be written.
    """
    document = {"type": "FeatureCollection", "features": list(features)}
    storage = open_storage(place)
    storage.parent.put(storage.name, json.dumps(document, allow_nan=False, ensure_ascii=False).encode())


def _channels(plan: Plan) -> int:
    """How many channels of its scenes a cube was made from."""
    facts: Mapping[str, Any] = plan.scenes[0].facts if plan.scenes else plan.settings
    channels = facts.get("channels")
    return len(channels) if isinstance(channels, list) and channels else len(RGB_CAMERA)


def _features(
    workload: Workload, scene: str, seconds_per_tile: float | None, known: Mapping[Block, Mapping[str, Any]]
) -> list[Feature]:
    """A feature for each block of the window, also for blocks without data.

    The geometry is null if the grid is not on the globe.

    Parameters
    ----------
    scene : the name of a single scene.
    known : the ledger's facts of blocks; empty for a plan.
    """
    plan = workload.plan
    every = list(blocks(plan.window, plan.block))
    features = []
    shapes: list[dict[str, Any] | None]
    try:
        shapes = [*footprints(plan.grid, [block.window for block in every])]
    except SceneError:  # the user got the notice when the scene was opened
        shapes = [None] * len(every)
    for block, geometry in zip(every, shapes, strict=True):
        pixels = plan.pixels(block)
        tiles = plan.computed_tiles(block) if pixels else 0
        properties = {
            "scene": _scenes_at(plan, block) if plan.scenes else scene,
            "block": block.name,
            "empty": not pixels,
            "tiles": tiles,
            "pixels": pixels,
            "cube_bytes": pixels * workload.pixel_bytes,
            "memory_bytes": workload.block_bytes(plan.block, block.window) if pixels else 0,
            "seconds_estimated": None if seconds_per_tile is None else round(tiles * seconds_per_tile, 3),
            **(known.get(block, {"state": "empty"}) if known else {}),
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return features


def _scenes_at(plan: Plan, block: Block) -> str:
    """The scenes of a flight line that a block's tiles contain."""
    tiles = plan.tiling.span(block.window)
    return ", ".join(str(share.facts["name"]) for share in plan.scenes if share.touches(tiles))
