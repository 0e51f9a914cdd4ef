"""The layers of uncertainty: spread and quantiles of a cube's samples, calibrated for each band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from spectile.catalog.calibration import Calibration
from spectile.catalog.choices import Choice, Layer
from spectile.catalog.counts import Part
from spectile.catalog.errors import UsageError

LAYERS: tuple[Layer, ...] = get_args(Layer)

QUANTILE_SAMPLES = 4
"""With fewer samples a standard deviation is too rough for a quantile."""
_LONG_NAMES: dict[Layer, str] = {
    "sd": "standard deviation of the estimated surface reflectance",
    "q05": "5 % quantile of the estimated surface reflectance",
    "q95": "95 % quantile of the estimated surface reflectance",
}


def choose_layers(wanted: Sequence[Choice] | None, samples: int) -> tuple[Layer, ...]:
    """The layers of the samples beside their mean, in the order of LAYERS, each once.

    Parameters
    ----------
    wanted : None takes ``sd`` where there are samples to take it of, else nothing.
    samples : number of samples drawn at each pixel.

    Raises
    ------
    UsageError : there is no such layer, or it takes more samples.
    """
    if wanted is None:
        return ("sd",) if samples > 1 else ()
    asked = f"--layers {','.join(wanted)}"
    if unknown := set(wanted) - set(get_args(Choice)):
        raise UsageError(
            f"unknown layer {min(unknown)!r}", got=asked,
            expected=f"{','.join(get_args(Choice))} or some of them",
        )  # fmt: skip
    quantiles = bool(set(wanted) & {"q05", "q95"})
    needed = QUANTILE_SAMPLES if quantiles else 2
    if set(wanted) & set(LAYERS) and samples < needed:
        what = "quantile layers take" if quantiles else "the layer sd takes"
        raise UsageError(
            f"{what} {needed} samples or more", got=f"{asked} --samples {samples}",
            remedy=f"use --samples {needed} or more, or fewer layers",
        )  # fmt: skip
    return tuple(layer for layer in LAYERS if layer in wanted)


def array_name(layer: Layer) -> str:
    """The name of a layer's array in the cube."""
    return f"reflectance_{layer}"


def part_name(part: Part) -> str:
    """The name of the array of a part of the samples."""
    return "reflectance" if part == "mean" else array_name(part)


def layer_attributes(layer: Layer, *, samples: int, calibration: Calibration | None) -> dict[str, Any]:
    """The attributes of a layer, without those of how its counts are stored."""
    if calibration is None:
        how = "taken as it is" if layer == "sd" else "a normal distribution is assumed"
    else:
        how = "with factors fitted band by band where the truth is known; they promise nothing elsewhere"
    method = {"cell_methods": "realization: standard_deviation"} if layer == "sd" else {}
    fitted = {} if calibration is None else {"calibration_samples": calibration.samples}
    return {
        "long_name": _LONG_NAMES[layer],
        "comment": f"from the standard deviation of {samples} samples, {how}",
        **method,
        "samples": samples,
        "calibrated": calibration is not None,
        **fitted,
    }
