"""The report of a cube: one HTML file that says what it holds, how it was made and what its quality is.

Everything is gathered from the cube itself, so that the report can be made again at any time. What is read
is bounded whatever the cube's size: maps from the overview that suits them, spectra and statistics from a
few windows at full resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from rasterio.crs import CRS

from spectile.catalog.errors import CubeError
from spectile.catalog.sizes import width_by_height
from spectile.pipeline.cube.arrays import reading_metadata
from spectile.pipeline.cube.ledger import Marker
from spectile.pipeline.cube.record import Cube, load_plan
from spectile.pipeline.geometry.tiling import Block
from spectile.pipeline.plan.layers import ABUNDANCE, array_name
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product.report_facts import Report, shown
from spectile.pipeline.product.report_measures import (
    Timing,
    agreement,
    flag_shares,
    seam_figures,
    spread_points,
    statistics,
    timing,
)
from spectile.pipeline.product.report_pair import pair_of
from spectile.pipeline.product.view import View, open_view
from spectile.pipeline.store.base import Storage, stem

LARGEST_SHARES = 5
"""Endmembers that are named."""
MAP_SIDE = 800
"""Pixels along the longer side of a map, about."""

DISPLAY = (
    "The scene was taken as a display picture: its exposure is unknown, so that the level of all spectra is "
    "relative. Shapes and ratios can be compared inside this scene, levels with no other."
)


def report_name(name: str) -> str:
    """The name of the report that stands beside the cube of this name."""
    return f"{stem(name)}.report.html"


def write_report(
    storage: Storage, to: Storage | None = None, *, markers: Mapping[Block, Marker] | None = None
) -> str:
    """Write the report of a finished cube; its place.

    Parameters
    ----------
    to : the file; None takes ``report_name`` beside the cube. What is there is replaced.
    markers : of the finished blocks; None reads them.

    Raises
    ------
    CubeError : there is no cube, it is not finished, or what it says of itself cannot be read.
    StoreError, OSError : the cube cannot be read, or the report not be written.
    """
    from spectile.pipeline.product.report_page import render

    with reading_metadata(storage):
        page = render(gather(storage, markers))
    beside, name = (storage.parent, report_name(storage.name)) if to is None else (to.parent, to.name)
    beside.put(name, page)
    return beside.at(name)


def gather(storage: Storage, markers: Mapping[Block, Marker] | None = None) -> Report:
    """What the report of a finished cube says.

    Parameters
    ----------
    markers : of the finished blocks; None reads them.

    Raises
    ------
    CubeError : there is no cube, or it is not finished.
    StoreError : it cannot be read.
    """
    view, plan = open_view(storage), load_plan(storage)
    if not view.complete:
        raise CubeError(
            "the cube is not finished", where=str(storage), got=view.facts["status"],
            remedy="run again with --resume",
        )  # fmt: skip
    level = view.level_for(view.grid.window, MAP_SIDE)
    cube = Cube(storage, plan)
    told = timing(cube, markers)
    flags = flag_shares(view)
    return Report(
        name=stem(storage.name),
        settings=facts_of(view, plan),
        warnings=tuple(_warnings(view, plan, told, flags)),
        view=view,
        level=level,
        points=tuple(spread_points(view)),
        statistics=statistics(view),
        flags=flags,
        agreement=agreement(view, level),
        seams=seam_figures(view, plan),
        timing=told,
        pair=pair_of(plan),
    )


def _named(place: object) -> str:
    """The name of a file, of which its folder or bucket is nobody's business."""
    path = urlsplit(str(place)).path if "://" in str(place) else str(place)
    return path.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or "unknown"


def facts_of(view: View, plan: Plan) -> dict[str, str]:
    """How a cube was made, for people, by name."""
    settings: Any = plan.settings
    model: Mapping[str, Any] = settings.get("model") or {}
    rows, cols = view.grid.shape
    crs = CRS.from_wkt(view.grid.crs_wkt)
    code = crs.to_epsg()
    t = view.grid.transform
    size = f"{np.hypot(t.a, t.d):.6g} × {np.hypot(t.b, t.e):.6g}"
    x, y, lon, lat = view.place(rows / 2, cols / 2)
    named = {
        **_scenes(plan),
        "channels": "; ".join(view.facts.get("channels") or _numbers(plan)),
        "model": f"{_named(model.get('name', 'unknown'))} {str(model.get('digest') or '')[:12]}".strip(),
        "solver": f"{model.get('sampler', 'unknown')}, {model.get('steps', 'unknown')} steps a stage",
        "seed": model.get("seed", "unknown"),
        "samples": f"{plan.samples}, of which the cube holds the mean" if plan.samples > 1 else "1",
        "layers": ", ".join(plan.every_layer) or "none",
        **({"largest shares": _shares(view, plan)} if plan.endmembers else {}),
        "network": f"{model.get('dtype', 'unknown')} on {model.get('device', 'unknown')}"
        + (", compiled" if model.get("compiled") else ""),
        "tiles": f"{plan.tiling.tile} px, halo {plan.tiling.halo} px; blocks of {plan.block} px",
        "cube": f"{view.bands}, {width_by_height((rows, cols))}",
        "CRS": f"EPSG:{code}" if code else view.grid.crs_wkt.split('"')[1],
        "pixel size": f"{size} {crs.linear_units if crs.is_projected else 'degrees'}",
        "middle": f"x {x:.10g}, y {y:.10g}"
        + (f"; longitude {lon:.6f}°, latitude {lat:.6f}°" if np.isfinite(lon) else ""),
        "taken": " to ".join(view.facts.get("taken") or ("unknown",)),
        "spectile": view.facts.get("version", "unknown"),
        "digest": plan.digest,
    }
    return {key: shown(value) for key, value in named.items()}


def _shares(view: View, plan: Plan) -> str:
    """The endmembers with the largest mean shares; what they are not is said beside them."""
    means = (view.group[ABUNDANCE].attrs.get("statistics") or {}).get("mean") or []
    known = [
        (mean, name) for mean, name in zip(means, plan.endmembers, strict=False) if isinstance(mean, float)
    ]
    largest = sorted(known, reverse=True)[:LARGEST_SHARES]
    told = "; ".join(f"{name} {mean:.0%}" for mean, name in largest) or "unknown"
    return f"{told}. What the model mixes its spectra of, no materials that are there"


def _scenes(plan: Plan) -> dict[str, str]:
    settings: Any = plan.settings
    facts_of_scenes: list[Mapping[str, Any]] = [share.facts for share in plan.scenes] or [settings]
    scenes = [facts.get("scene", facts) for facts in facts_of_scenes]
    if "pair" in settings:
        scenes = list(scenes[0].get("files", scenes))
    names = []
    for scene in scenes:
        known = [f"{key} {str(scene[key])[:12]}" for key in ("sha256", "etag") if scene.get(key)]
        known += [f"{len(scene['files'])} files"] if "files" in scene else []
        names.append(" ".join([_named(scene.get("name", "unknown")), *known]))
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    kinds = {str((facts.get("radiometry") or {}).get("kind", "unknown")): None for facts in facts_of_scenes}
    return {
        "scene" if len(names) == 1 else f"{len(names)} scenes": f"{'; '.join(names[:8])}{more}",
        "radiometry": " and ".join(kinds),
    }


def _numbers(plan: Plan) -> list[str]:
    """The numbers of the bands that feed the model."""
    facts: Any = plan.scenes[0].facts if plan.scenes else plan.settings
    return [", ".join(map(str, facts.get("channels") or ())) or "unknown"]


def _warnings(view: View, plan: Plan, timing: Timing, flags: Mapping[str, float]) -> list[str]:
    """What the run warned of, and what the cube itself gives reason to."""
    lines = [shown(line) for line in view.facts.get("warnings", ())]
    if "display" in _scenes(plan)["radiometry"]:
        lines.append(DISPLAY)
    for layer in view.layers[:1]:
        attributes = view.group[array_name(layer)].attrs
        fitted = attributes.get("calibration_samples")
        if not attributes.get("calibrated"):
            lines.append("The uncertainty is not calibrated: it tells how samples differ, and is no error.")
        elif fitted != plan.samples:
            lines.append(
                f"The layers were calibrated with {fitted} samples; with {plan.samples} they hold less well."
            )
    if not view.layers:
        lines.append("The cube holds no uncertainty; --samples 4 --layers sd,q05,q95 would add it.")
    for meaning in ("saturated", "extrapolating"):
        if flags.get(meaning, 0) >= 0.01:
            lines.append(f"{flags[meaning]:.0%} of the pixels are {meaning}.")
    if timing.given_up:
        lines.append(f"{len(timing.given_up)} block(s) had been given up before they were made.")
    return list(dict.fromkeys(lines))
