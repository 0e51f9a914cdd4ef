"""The model of a pair, for the pipeline: estimated from windows of both scenes, kept as bytes, loaded."""

from __future__ import annotations

import tempfile
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.choices import Response
from spectile.catalog.errors import SceneError
from spectile.catalog.inputs import Batch, Raster
from spectile.flows.run.settings import FusionNetwork, Settings
from spectile.pipeline.pair.drift import Drift, fit_drift
from spectile.pipeline.pair.sample import Sampled
from spectile.pipeline.pair.source import Pair
from spectile.pipeline.product.report_pair import PAIR_FIGURES

if TYPE_CHECKING:
    from spectile.model.fusion.pair import PairModel, PairWindow
    from spectile.model.fusion.predictor import FusionPredictor


MIDDLE = 32
"""HSI pixels along a side of the part of a window that is fused for its indices."""
LEAST_ALIKE = 0.4
"""Correlation of HSI and MSI, on the HSI's grid, below which two scenes are no pair."""
MOST_CHANGED = 0.8
"""Share of changed pixels above which two scenes are no pair."""


def network_of(settings: Settings, pair: bytes) -> FusionNetwork:
    """What decides which fusion is loaded."""
    return FusionNetwork.like(settings, pair=b64encode(pair).decode())


def load_fused(network: FusionNetwork) -> FusionPredictor:
    """The fusion that settings name, with the estimates that they hold.

    Raises
    ------
    UsageError : there is no such method.
    """
    from spectile.model.device import limit_threads
    from spectile.model.fusion.predictor import load_fusion

    limit_threads(network.threads)
    return load_fusion(
        network.model, read_pair(b64decode(network.pair)), seed=network.seed, batch=network.batch,
        device=network.device, samples=network.samples,
    )  # fmt: skip


def read_pair(value: bytes) -> PairModel:
    """The estimates in the bytes of a file."""
    from spectile.model.fusion.pair import PairModel

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.safetensors"
        path.write_bytes(value)
        return PairModel.load(path)


def write_pair(pair: PairModel) -> bytes:
    """The bytes of the file of estimates."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.safetensors"
        pair.save(path)
        return path.read_bytes()


@dataclass(frozen=True)
class Shift:
    """Where the MSI lies against the HSI."""

    drift: Drift
    """The shift, fine pixels, positive down and right, and how it changes over the scene."""
    field: NDArray[np.float64]
    """(n, 4) row, col, drow, dcol: the shift about n places, fine pixels."""


def shift_of(windows: Sequence[Sampled], pair: Pair) -> Shift:
    """Where the MSI lies against the HSI, from windows that were read as they lie.

    Raises
    ------
    SceneError : the two do not show the same place.
    """
    from spectile.model.fusion.register import estimate_shift

    shift, field = estimate_shift(_pair_windows(windows), pair.ratio)
    return Shift(fit_drift(shift, field, pair.grid.shape), field)


def estimate(
    windows: Sequence[Sampled], pair: Pair, shift: Shift, *, response: Response, seed: int
) -> tuple[PairModel, dict[str, Any]]:
    """All that is estimated of a pair, and more figures for plan and report.

    Parameters
    ----------
    windows : read with the shift taken out.

    Raises
    ------
    SceneError : they share too few valid pixels.
    """
    from spectile.model.fusion.estimate import estimate_pair
    from spectile.model.fusion.wald import wald_on_own_pair

    read = _pair_windows(windows)
    model = estimate_pair(
        read, pair.ratio, pair.hsi_bands, pair.msi_bands, response=response,
        shift=(shift.drift.row, shift.drift.col), shift_field=shift.field, seed=seed,
    )  # fmt: skip
    _check_alike(read, model)
    model = wald_on_own_pair(read, model, seed=seed)
    return model, _figures(read, model)


def _check_alike(windows: Sequence[PairWindow], model: PairModel) -> None:
    """Refuse two scenes that hardly correlate even as the one is seen by the response that was fitted.

    Raises
    ------
    SceneError : they show different things, clouds for example.
    """
    ratio, seen, there = model.ratio, [], []
    for window in windows:
        rows, cols = window.hsi_valid.shape
        blocks = window.msi.reshape(len(window.msi), rows, ratio, cols, ratio).mean(axis=(2, 4))
        known = window.msi_valid.reshape(rows, ratio, cols, ratio).all(axis=(1, 3)) & window.hsi_valid
        seen.append(model.response @ window.hsi[:, known])
        there.append(blocks[:, known])
    pairs = zip(np.concatenate(seen, axis=1), np.concatenate(there, axis=1), strict=True)
    alike = [
        float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 < other.std() else 0.0 for one, other in pairs
    ]
    if not max(alike) >= LEAST_ALIKE:
        raise SceneError(
            "the MSI shows hardly anything of what the HSI shows", got=f"a correlation of {max(alike):.2f}",
            expected=f"{LEAST_ALIKE} or more in some band", remedy="check dates, coordinates and clouds",
        )  # fmt: skip


def _figures(windows: Sequence[PairWindow], model: PairModel) -> dict[str, float]:
    """Indices of what the pair's own method makes of the middle of each window, and the changed share.

    Raises
    ------
    SceneError : hardly anything in the one scene is in the other.
    """
    from spectile.model.fusion.consistency import indices
    from spectile.model.fusion.predictor import load_fusion

    predictor = load_fusion("fuse", model, device="cpu")
    found, changed = [], []
    for window in map(_middle, windows):
        rasters = {
            "hsi": Raster(window.hsi[None], window.hsi_valid[None]),
            "msi": Raster(window.msi[None], window.msi_valid[None]),
        }
        batch = Batch(rasters, np.array([window.origin], dtype=np.int64) * model.ratio, 1)
        (spectra,) = predictor.predict(batch, range(1))
        found.append(indices(model, window, spectra[0]))
        here = predictor.inspect(batch, spectra)[1][0]
        changed.append(float(here[window.msi_valid].mean()) if window.msi_valid.any() else 1.0)
    share = float(np.mean(changed))
    if share > MOST_CHANGED:
        raise SceneError(
            "hardly anything in the HSI is in the MSI too",
            got=f"{share:.0%} of the windows changed or clouded", expected=f"up to {MOST_CHANGED:.0%}",
            remedy="choose scenes of nearer dates, without clouds",
        )  # fmt: skip
    means = {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else None
        for name, values in zip(PAIR_FIGURES, (*np.array(found).T, np.array([share])), strict=True)
    }
    return {name: float(f"{value:.5g}") for name, value in means.items() if value is not None}


def _middle(window: PairWindow) -> PairWindow:
    """The middle of a window: spectra of all of it would take much memory."""
    cuts = [
        slice((side - min(side, MIDDLE)) // 2, (side + min(side, MIDDLE)) // 2)
        for side in window.hsi_valid.shape
    ]
    ratio, (rows, cols) = window.ratio(), cuts
    fine = [slice(cut.start * ratio, cut.stop * ratio) for cut in cuts]
    return replace(
        window, hsi=window.hsi[:, rows, cols], hsi_valid=window.hsi_valid[rows, cols],
        msi=window.msi[:, fine[0], fine[1]], msi_valid=window.msi_valid[fine[0], fine[1]],
        origin=(window.origin[0] + rows.start, window.origin[1] + cols.start),
    )  # fmt: skip


def _pair_windows(windows: Sequence[Sampled]) -> list[PairWindow]:
    from spectile.model.fusion.pair import PairWindow

    return [
        PairWindow(
            _filled(*each.hsi),
            each.hsi.valid,
            _filled(*each.msi),
            each.msi.valid,
            (each.window.row, each.window.col),
        )
        for each in windows
    ]


def _filled(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The mean of the valid pixels in place of the others: they have no weight, but NaN would spread."""
    mean = values[:, valid].mean(axis=1, dtype=np.float64).astype(np.float32)
    return np.where(valid, values, mean[:, None, None])
