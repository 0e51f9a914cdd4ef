"""The fusion of a pair: two scenes become one source, are estimated once, and the run is that of any source.

The command line and the Prefect flow both call these functions and nothing else.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spectile.catalog.bands import Bands
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.catalog.inputs import InputSpec
from spectile.catalog.sizes import width_by_height
from spectile.catalog.urls import locate
from spectile.flows.run import execute, planning
from spectile.flows.run.fused import estimate, network_of, read_pair, shift_of, write_pair
from spectile.flows.run.holding import Beating, holding
from spectile.flows.run.line import radiometry_option
from spectile.flows.run.settings import CubeSettings, FuseSettings
from spectile.flows.run.state import Observer, Prepared, Result, Silent
from spectile.pipeline.cube.record import PAIR, load_plan, occupied
from spectile.pipeline.pair.drift import Drift
from spectile.pipeline.pair.sample import digest_of, sample_windows
from spectile.pipeline.pair.source import Pair, open_pair
from spectile.pipeline.plan.layers import choose_layers
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.spectra.hyperspectral import read_bands
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage

LOG = logging.getLogger("spectile")


def prepare_fusion(settings: FuseSettings, *, dry: bool = False) -> Prepared:
    """Open both scenes, estimate the pair, load the fusion and plan the run.

    An unfinished cube keeps its estimates, so that a run that goes on does not make them again.

    Parameters
    ----------
    dry : write nothing, and time the fusion; the pair is estimated all the same, from a few windows.

    Raises
    ------
    SpectileError : a scene, the pair or a setting cannot be used.
    """
    planning.check_output(settings, settings.places, dry=dry)
    _check_settings(settings)
    choose_layers(settings.layers, settings.samples)  # refuses what cannot be, before a scene is read
    given = None if settings.wavelengths is None else read_bands(Path(settings.wavelengths))
    pair = _open(settings, given)
    rows_cols = width_by_height(pair.grid.shape)
    LOG.info("HSI %s and MSI %s: %s at ratio %d", *_names(settings), rows_cols, pair.ratio)
    known = _going_on(open_storage(settings.out)) if settings.resume and not dry else None
    found, estimates = known or _estimated(settings, pair)
    there = replace(pair, drift=Drift.from_json(estimates))
    return _plan(settings, there, found, estimates, given, dry=dry)


def prepare_fusion_again(
    network: CubeSettings, scenes: Sequence[str], plan: Plan, kept: bytes | None
) -> Prepared:
    """The run that made a cube, prepared again.

    Parameters
    ----------
    network : settings that load the plan's model.
    scenes : where HSI and MSI are.
    plan : the cube's.
    kept : its file of estimates; None where it is damaged, which estimates anew.

    Raises
    ------
    SpectileError : as of ``prepare_fusion``; the caller checks whether the scenes are those of the plan.
    """
    facts: Any = plan.settings["pair"]
    hsi, msi, asked = facts["hsi"], facts["msi"], facts["asked"]
    settings = FuseSettings.like(
        network, hsi=scenes[0], msi=scenes[1], nodata=msi["nodata"], checksum="sha256" in msi,
        bands=tuple(msi["channels"]), sensor=asked["sensor"], ratio=asked["ratio"],
        response=asked["response"], hsi_radiometry=radiometry_option(hsi["radiometry"]),
        msi_radiometry=radiometry_option(msi["radiometry"]),
    )  # fmt: skip
    # The plan holds what --wavelengths said: the scene itself does not say it.
    given = Bands.from_json(asked["wavelengths"]) if "wavelengths" in asked else None
    pair = _open(settings, given)
    found, estimates = _estimated(settings, pair) if kept is None else (kept, facts["estimates"])
    there = replace(pair, drift=Drift.from_json(estimates))
    return _plan(settings, there, found, estimates, given, dry=False)


def _check_settings(settings: FuseSettings) -> None:
    if settings.model.partition(":")[0] != "fuse" and not os.path.isdir(settings.model):
        raise UsageError(
            "unknown method of fusion", got=settings.model,
            expected="fuse, fuse:METHOD, or the folder of a trained SDP or HSR-Diff",
        )  # fmt: skip
    for name, unset in (("steps", None), ("compiled", False)):
        if getattr(settings, name) != unset:
            flag = "compile" if name == "compiled" else name
            raise UsageError(f"a fusion takes no --{flag}", remedy="leave it out")
    if settings.dtype == "bfloat16":
        raise UsageError("a fusion computes in float32", got="--dtype bfloat16", remedy="leave it out")


def _names(settings: FuseSettings) -> tuple[str, str]:
    hsi, msi = (locate(place).name for place in settings.places)
    return hsi, msi


def _open(settings: FuseSettings, wavelengths: Bands | None) -> Pair:
    return open_pair(
        settings.hsi, settings.msi, ratio=settings.ratio, wavelengths=wavelengths,
        hsi_radiometry=settings.hsi_radiometry, msi_radiometry=settings.msi_radiometry,
        nodata_rule=settings.nodata, sensor=settings.sensor, bands=settings.bands, memory=settings.memory,
        allow_vrt=settings.allow_vrt, allow_private=settings.allow_private,
    )  # fmt: skip


def _going_on(storage: Storage) -> tuple[bytes, Mapping[str, Any]] | None:
    """The estimates of an unfinished cube, and what its plan says of them; None where it has none."""
    if not occupied(storage):
        return None
    plan = load_plan(storage)
    kept = kept_estimates(storage, plan)
    if kept is None:
        return None
    facts: Any = plan.settings["pair"]
    return kept, facts["estimates"]


def kept_estimates(storage: Storage, plan: Plan) -> bytes | None:
    """The file of estimates that a cube keeps; None where it has none, or it is not that of the plan."""
    facts: Any = plan.settings.get("pair")
    value = storage.get(PAIR) if facts else None
    if value is None:
        return None
    try:
        same = read_pair(value).digest == facts["estimates"]["digest"]
    except CheckpointError:
        return None
    return value if same else None


def _estimated(settings: FuseSettings, pair: Pair) -> tuple[bytes, Mapping[str, Any]]:
    """The file of a pair's estimates, and what plan and report say of them.

    The windows are read twice: the MSI's shift must be known before anything else is estimated.
    """
    started = time.perf_counter()
    windows = sample_windows(pair, settings.seed)
    shift = shift_of(windows, pair)
    windows = sample_windows(replace(pair, drift=shift.drift), settings.seed)
    model, figures = estimate(windows, pair, shift, response=settings.response, seed=settings.seed)
    LOG.info(
        "estimated from %d window(s) in %.0f s: shift %.2f, %.2f px, %s", len(windows),
        time.perf_counter() - started, shift.drift.row, shift.drift.col, model.method,
    )  # fmt: skip
    places = [[*each.window.shape, each.window.row, each.window.col] for each in windows]
    return write_pair(model), {
        **model.facts(), **shift.drift.to_json(), "windows": [[r, c, h, w] for h, w, r, c in places],
        "windows_digest": digest_of(windows), **figures,
    }  # fmt: skip


def _plan(
    settings: FuseSettings,
    pair: Pair,
    estimates: bytes,
    facts: Mapping[str, Any],
    wavelengths: Bands | None,
    *,
    dry: bool,
) -> Prepared:
    def open_for(spec: InputSpec) -> planning.Opened:
        if dry:
            return pair, {}
        told: dict[str, Any] = dict(pair.facts(_names(settings), checksum=settings.checksum))
        asked = {
            "response": settings.response, "ratio": settings.ratio, "sensor": settings.sensor,
            "seed": settings.seed, **({} if wavelengths is None else {"wavelengths": wavelengths.to_json()}),
        }  # fmt: skip
        return pair, {**told, "pair": {**told["pair"], "asked": asked, "estimates": dict(facts)}}

    prepared = planning.plan_run(settings, open_for, dry=dry, network=network_of(settings, estimates))
    return replace(prepared, pair=estimates)


def run_fusion(settings: FuseSettings, *, observer: Observer | None = None) -> tuple[Prepared, Result]:
    """Fuse a pair in this process, from the files to the finished cube.

    Raises
    ------
    SpectileError : a scene, the pair or a setting cannot be used, or the store cannot be written.
    """
    started = time.perf_counter()
    with prepare_fusion(settings) as prepared, holding(settings) as lease:
        cube = execute.start_cube(prepared, lease.storage)
        return prepared, execute.carry_out(prepared, cube, Beating(lease, observer or Silent()), started)
