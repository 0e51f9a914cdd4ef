"""Colour for the eye: sRGB, and which reflectance a picture shows as black and which as white. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TRUE_COLOUR_NM = (640.0, 550.0, 460.0)
"""The wavelengths that stand for red, green and blue."""
COLOUR_INFRARED_NM = (860.0, 650.0, 550.0)
"""The wavelengths that stand for them in a picture that shows plants red."""

Limits = tuple[float, float]
"""What the darkest and the brightest of a picture stand for."""


def srgb_to_linear(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1), float32."""
    return np.where(
        values <= 0.04045, values / 12.92, np.power((np.maximum(values, 0) + 0.055) / 1.055, 2.4)
    ).astype(np.float32)


def linear_to_srgb(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """SRGB values in [0, 1] of linear light, clipped to [0, 1] (IEC 61966-2-1), float32."""
    light = np.clip(values, 0.0, 1.0)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.power(light, 1 / 2.4) - 0.055).astype(
        np.float32
    )


def srgb_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """SRGB bytes of linear light, uint8."""
    return np.rint(linear_to_srgb(values) * 255).astype(np.uint8)


def picture_gain(known: NDArray[np.floating[Any]]) -> float:
    """The factor on reflectance with which a picture shows it as linear light: one for all of its channels.

    Black stays black, so that a picture tells what haze there is, and colours stay true. The brightest
    hundredth of what is known is at 0.9 or above.
    """
    top = float(np.percentile(known, 99)) if known.size else 1.0
    return 0.9 / max(top, 1e-3)


def stretch(values: NDArray[np.float32], *, low: float = 2.0, high: float = 98.0) -> Limits | None:
    """The percentiles of what is known, over all channels alike; None where nothing is."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    bottom, top = np.percentile(known, (low, high))
    return float(bottom), float(max(top, bottom + 1e-4))
