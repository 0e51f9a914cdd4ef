"""What a report says of the pair from which a cube is fused: what was estimated, and how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product.report_facts import PairFacts, shown

LIMITS_OF_PAIRS = (
    "Every pixel of the hyperspectral scene has been divided. What is finer than its pixels comes from the "
    "few bands of the sharp scene and from spectra that are usual in this scene; bands that the sharp "
    "scene does not see, short-wave infrared most of all, are guesses there. Averaged back, the cube is the "
    "hyperspectral scene (the map of differences shows where not). Do not use single pixels to identify "
    "minerals, paints or species, to detect small targets, to measure a concentration, or as evidence that "
    "something was there. Places flagged as changed hold the upsampled hyperspectral scene alone "
    "(docs/fuse.md)."
)

PAIR_FIGURES = ("d_lambda", "d_s", "changed")
"""Figures of the windows that plans hold beside the estimates."""


def pair_of(plan: Plan) -> PairFacts | None:
    """What a report says of the pair of a plan; None where the cube is not fused."""
    facts: Any = plan.settings.get("pair")
    if not facts:
        return None
    known: Mapping[str, Any] = facts.get("estimates", {})
    estimates = {
        "ratio": f"{facts.get('ratio', 'unknown')} pixels of the cube along one of the HSI",
        "shift taken out": _numbers(facts.get("shift", ()), "px of the cube, down and right, in the middle"),
        "its change": _numbers(facts.get("slopes", ()), "down a row and a column, right a row and a column"),
        "blur of the HSI": _numbers(known.get("psf_sigma_fine_px", ()), "px of the cube, sd down and right"),
        "gain of the MSI": _numbers(known.get("gain", ()), "a band"),
        "offset of the MSI": _numbers(known.get("offset", ()), "a band, reflectance"),
        "noise of the HSI": _middle(known.get("hsi_noise", ())),
        "noise of the MSI": _numbers(known.get("msi_noise", ()), "a band, sd, reflectance"),
        "dimensions": str(known.get("subspace", "unknown")),
        "components of the mixture": str(known.get("components", "unknown")),
        "method that did best": shown(known.get("method", "unknown")),
        "estimated from": f"{len(known.get('windows', ()))} window(s)",
        **{name: f"{value:.4g}" for name, value in known.items() if name in PAIR_FIGURES},
    }  # fmt: skip
    rows: Mapping[str, Mapping[str, float]] = known.get("wald", {})
    scores = tuple(dict.fromkeys(name for scores in rows.values() for name in scores))
    wald = {shown(method): tuple(_score(row.get(name)) for name in scores) for method, row in rows.items()}
    return PairFacts(estimates, scores, wald)


def quality_of(settings: Any) -> tuple[str, ...]:
    """How good a fused cube is, in few words each; empty where it is not fused.

    D_λ and D_s (0 is best), and what the cube's method reached on the pair itself, degraded once more.

    Parameters
    ----------
    settings : of a cube's plan, which anybody may have written: what is no number is left out.
    """
    model, pair = (_inner(settings, name) for name in ("model", "pair"))
    known = _inner(pair, "estimates")
    method = str(model.get("name", "")).removeprefix("fuse:")
    scores = _inner(_inner(known, "wald"), method)
    psnr, angle = (_formatted(scores, name, digits) for name, digits in (("psnr", ".1f"), ("sam_deg", ".1f")))
    parts = [
        f"{title} {text}"
        for title, name in (("D_λ", "d_lambda"), ("D_s", "d_s"))
        if (text := _formatted(known, name, ".3g"))
    ]
    return (*parts, f"Wald on the pair itself {psnr} dB, {angle}°") if psnr and angle else tuple(parts)


def _inner(facts: Any, name: str) -> Mapping[str, Any]:
    inner = facts.get(name) if isinstance(facts, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _formatted(facts: Mapping[str, Any], name: str, form: str) -> str:
    value = facts.get(name)
    return format(value, form) if isinstance(value, int | float) else ""


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _numbers(values: Any, unit: str) -> str:
    return f"{', '.join(f'{value:.4g}' for value in values)} {unit}" if len(values) else "unknown"


def _middle(values: Any) -> str:
    if not len(values):
        return "unknown"
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"median {middle:.4g}, from {low:.4g} to {high:.4g} a band, sd, reflectance"
