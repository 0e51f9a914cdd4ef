"""Descriptions of cubes and models, from their metadata only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rasterio.crs import CRS

from spectile.catalog.bands import Bands
from spectile.catalog.sensors import colours_of
from spectile.flows.console.console import duration, extent, size
from spectile.model.facts import FILE, REGRESSIONS, UNSHIPPED, read_facts
from spectile.pipeline.block.predict import BandsRepeat
from spectile.pipeline.cube.arrays import open_arrays, reading_metadata
from spectile.pipeline.cube.lease import Beat, read_beat
from spectile.pipeline.cube.record import Cube, finished_blocks, load_plan, read_status
from spectile.pipeline.plan.layers import array_name
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

MODEL_COLUMNS = ("model", "takes", "bands", "range, nm", "RMSE on places left out", "weights", "digest")
HELD_OUT_COLUMNS = (
    "model", "held-out scenes", "RMSE", "SAM, rad", "RMSE of mean", "ridge RMSE", "lookup RMSE",
)  # fmt: skip
_SCORES = (
    ("sample", "rmse"), ("sample", "sam"), ("mean_of_samples", "rmse"), ("ridge", "rmse"), ("lookup", "rmse"),
)  # fmt: skip


def describe_cube(place: str | Path) -> dict[str, object]:
    """The facts of a cube as names and values to print; the cube may be unfinished.

    Raises
    ------
    CubeError : there is no cube, or it is damaged.
    """
    storage = open_storage(place)
    with reading_metadata(storage):
        return _describe(storage)


def _describe(storage: Storage) -> dict[str, object]:
    status, plan = read_status(storage), load_plan(storage)
    run = describe_run(storage)
    settings: dict[str, Any] = dict(plan.settings)
    model, grid = settings.get("model", {}), plan.cube_grid
    bounds = ", ".join(f"{value:.10g}" for value in grid.bounds)
    return {
        "cube": storage,
        "status": f"{status['status']}, {run['blocks_done']} of {run['blocks']} blocks done",
        "run": _run(run),
        **({"missing": _missing(run["missing"])} if run["missing"] else {}),
        "size": extent((plan.bands, *grid.shape)),
        "bands": _bands(storage, plan),
        "CRS": _crs(plan),
        "bounds": f"{bounds} (x min, y min, x max, y max)",
        "pixel size": "{:.6g} × {:.6g}".format(*_pixel_size(plan)),
        **(
            _line(plan)
            if plan.scenes
            else {
                "scene": settings.get("scene", {}).get("name", "unknown"),
                "radiometry": json.dumps(settings.get("radiometry")),
            }
        ),
        "channels": _channels(status, plan),
        **({} if plan.clip is None else {"clip": f"polygon {str(plan.clip.facts.get('sha256'))[:12]}"}),
        "model": f"{model.get('name')} {str(model.get('digest'))[:12]}".strip(),
        "steps": model.get("steps"),
        "sampler": model.get("sampler"),
        "seed": model.get("seed"),
        "samples": plan.samples,
        "layers": _layers(storage, plan),
        "version": status.get("version", "unknown"),
        "digest": plan.digest,
        "stored": size(storage.size()),
    }


def describe_run(storage: Storage) -> dict[str, Any]:
    """The state of a cube's run, for programs.

    ``state`` is ``done``, ``running``, ``stalled`` (alive, but nothing finished for ten minutes) or
    ``stopped``. Then ``blocks``, ``blocks_done``, ``missing`` (names of blocks), and for the last run
    ``process``, ``since`` (UTC), ``beat_seconds`` (time since its last beat, if the clocks agree),
    ``idle_seconds`` (time since it finished something, at that beat) and ``block``, the first unfinished one.
    These are null if no run is known.

    Raises
    ------
    CubeError : there is no cube.
    """
    plan, beat = load_plan(storage), read_beat(storage)
    done = finished_blocks(Cube(storage, plan))
    return {
        "state": run_state(str(read_status(storage)["status"]), beat),
        "blocks": len(plan.blocks),
        "blocks_done": len(done),
        "missing": [block.name for block in plan.blocks if block not in done],
        "process": beat.pid if beat else None,
        "since": beat.since if beat else None,
        "beat_seconds": round(beat.age(), 1) if beat else None,
        "idle_seconds": beat.idle if beat else None,
        "block": beat.block or None if beat else None,
    }


def run_state(status: str, beat: Beat | None) -> str:
    """The state of a cube's run in one word, from the cube's status and the run's last beat."""
    state = beat.state if beat else "stopped"
    return "done" if status == "complete" and state == "stopped" else state


def _run(run: Mapping[str, Any]) -> str:
    parts = [str(run["state"])]
    if run["state"] in ("running", "stalled"):
        parts += [f"beat {duration(run['beat_seconds'])} ago", f"process {run['process']}"]
        parts += [f"at block {run['block']}"] if run["block"] else []
    if run["state"] == "stalled":
        parts.append(f"nothing finished for {duration(run['idle_seconds'])}")
    return ", ".join(parts)


def _missing(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"blocks {', '.join(names[:5])}{more}"


def _channels(status: Mapping[str, Any], plan: Plan) -> str:
    """Which bands feed the model; an unfinished cube knows their numbers only."""
    if "channels" in status:
        return "; ".join(map(str, status["channels"]))
    facts: Mapping[str, Any] = plan.scenes[0].facts if plan.scenes else plan.settings
    return f"bands {', '.join(map(str, facts.get('channels', ())))}"


def _line(plan: Plan) -> dict[str, object]:
    line: Any = plan.settings.get("line", {})
    kinds = {json.dumps(share.facts.get("radiometry")): None for share in plan.scenes}
    return {
        "scenes": f"{len(plan.scenes)}: {', '.join(str(share.facts['name']) for share in plan.scenes)}",
        "combined": f"{line.get('combine')}, {line.get('resampling')}",
        "radiometry": " and ".join(kinds),
    }


def _bands(storage: Storage, plan: Plan) -> str:
    group = open_arrays(storage, plan, consolidated=False)
    centres, widths = group["wavelength"][:], group["fwhm"][:]
    return (
        f"{len(centres)}, {centres.min():g} to {centres.max():g} nm, "
        f"FWHM {widths.min():g} to {widths.max():g} nm"
    )


def _layers(storage: Storage, plan: Plan) -> str:
    if not plan.layers:
        return ", ".join(plan.every_layer) or "none"
    group = open_arrays(storage, plan, consolidated=False)
    fitted = group[array_name(plan.layers[0])].attrs.get("calibration_samples")
    calibration = "not calibrated" if fitted is None else f"calibrated with {fitted} samples"
    return ", ".join([*plan.layers, calibration, *plan.every_layer[len(plan.layers) :]])


def _crs(plan: Plan) -> str:
    crs = CRS.from_wkt(plan.grid.crs_wkt)
    code = crs.to_epsg()
    name = plan.grid.crs_wkt.split('"')[1]
    return f"EPSG:{code} ({name})" if code else name


def _pixel_size(plan: Plan) -> tuple[float, float]:
    t = plan.grid.transform
    return float((t.a**2 + t.d**2) ** 0.5), float((t.b**2 + t.e**2) ** 0.5)


def describe_models() -> list[list[str]]:
    """A row for each model, in the order of MODEL_COLUMNS."""
    rows = []
    for folder, metadata in _shipped():
        config = metadata.get("cascade") or metadata["preset"]
        centre, taken = config["bands"]["centre_nm"], Bands.from_json(config["response"])
        colours = [colour for colour in colours_of(taken) if colour]
        takes = ", ".join(colours) if len(colours) == len(taken) else str(taken)
        stored = size(sum(path.stat().st_size for path in folder.iterdir()))
        left_out = [site["left_out"] for site in metadata.get("sites", {}).values()]
        error = f"{sum(left_out) / len(left_out):.3f}" if left_out else ""
        bands = [str(len(centre)), _range(centre)]
        rows.append([folder.name, takes, *bands, error, stored, metadata["digest"][:12]])
        rows += [
            [f"{folder.name}:{kind}", takes, *bands, "", f"a {what}, in the same file", ""]
            for kind, what in REGRESSIONS.items()
        ]
    rows += [
        [name, "its own bands", bands, "", "", "none shipped; spectile train", ""]
        for name, bands in UNSHIPPED.items()
    ]
    centre = BandsRepeat().bands.centre_nm
    repeat = "no network; for tests; of other bands as bands-repeat:SENSOR"
    rows.append(["bands-repeat", "red, green, blue", str(len(centre)), _range(centre), "", repeat, ""])
    return rows


def describe_held_out() -> list[list[str]]:
    """A row for each model and group of held-out scenes, in the order of HELD_OUT_COLUMNS."""
    return [
        [folder.name, group, *(f"{scores[name][key]:.4f}" for name, key in _SCORES)]
        for folder, metadata in _shipped()
        for group, scores in metadata.get("held_out", {}).items()
    ]


def _shipped() -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder and the facts of each checkpoint in the package; weights are not read."""
    for path in sorted(Path(str(files("spectile.model") / "weights")).glob(f"*/{FILE}")):
        yield path.parent, read_facts(path)


def _range(centre_nm: Sequence[float]) -> str:
    return f"{centre_nm[0]:g} to {centre_nm[-1]:g}"
