"""Whether the stated wavelengths of a scene fit what it shows: the red edge, and the oxygen line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.errors import SceneError
from spectile.pipeline.spectra.hyperspectral import Hyperspectral

RED_EDGE_NM = (705.0, 738.0)
"""Where the reflectance of green vegetation rises most over 30 nm."""
RED_EDGE = 722.0
"""The usual place, to name a shift by."""
OXYGEN_NM = (755.0, 768.0)
"""Where what a correction leaves of the O2-A line lies."""
OXYGEN = 761.0
"""The middle of that line."""
VEGETATION = 0.6
"""Least NDVI of a pixel that counts as green vegetation, if it is not dark in the near infrared too."""
LEAST_NEAR_INFRARED = 0.1
LEAST_PIXELS = 20
LEAST_LINE = 0.04
"""A line is visible if its band stands out by this share of the signal …"""
LEAST_CONTRAST = 2.5
"""… and so many times as much as any band further from it."""


def check_wavelengths(scene: Hyperspectral, where: str) -> None:
    """Refuse a scene whose bands are shifted. One without vegetation or a visible oxygen line passes.

    Raises
    ------
    SceneError : the red edge, or the oxygen line, lies elsewhere; the message names the shift.
    """
    for what, found, (low, high), usual in (
        ("the red edge", red_edge_nm(scene), RED_EDGE_NM, RED_EDGE),
        ("the oxygen line", oxygen_line_nm(scene), OXYGEN_NM, OXYGEN),
    ):
        if found is not None and not low <= found <= high:
            raise SceneError(
                f"its wavelengths are shifted by about {found - usual:+.0f} nm: {what} is elsewhere",
                where=where,
                got=f"{found:.0f} nm",
                expected=f"{low:g} to {high:g} nm",
                remedy="check its wavelengths (bands_of, first_bands, band_numbers)",
            )


def red_edge_nm(scene: Hyperspectral) -> float | None:
    """Where the mean of vegetation rises most within 30 nm, nm; None without vegetation or bands there."""
    nm = _covered(scene, 635.0, 815.0, spacing=16.0)
    if nm is None:
        return None
    red, infrared = (
        scene.cube[(nm >= first) & (nm <= last)].mean(axis=0) for first, last in ((650, 680), (780, 815))
    )
    green = scene.valid & (infrared - red > VEGETATION * (infrared + red)) & (infrared > LEAST_NEAR_INFRARED)
    if green.sum() < LEAST_PIXELS:
        return None
    mean = scene.cube[:, green].mean(axis=1)
    at = np.arange(650.0, 801.0)
    rise = np.interp(at + 15.0, nm, mean) - np.interp(at - 15.0, nm, mean)
    return float(at[rise.argmax()])


def oxygen_line_nm(scene: Hyperspectral) -> float | None:
    """Where a narrow peak or dip lies that stands out between 738 and 788 nm, nm; None if none does."""
    nm = _covered(scene, 700.0, 850.0, spacing=12.0)
    if nm is None:
        return None
    spectra = scene.cube[:, scene.valid]
    middle = np.median(spectra / np.maximum(spectra.mean(axis=0), 1e-6), axis=1)
    # Curvature is alike in neighbouring bands, a narrow line's has the other sign beside it.
    curved = middle[1:-1] - np.array(
        [np.interp(nm[i], nm[[i - 1, i + 1]], middle[[i - 1, i + 1]]) for i in range(1, len(nm) - 1)]
    )
    line = np.zeros_like(middle)
    line[2:-2] = (curved[1:-1] - (curved[:-2] + curved[2:]) / 2) / np.maximum(middle[2:-2], 1e-6)
    strong = line**2 * ((nm >= 738.0) & (nm <= 788.0))
    near = np.abs(nm - nm[strong.argmax()]) <= 12.0
    if strong.max() < LEAST_LINE**2:
        return None
    centre = float((line**2 * nm)[near].sum() / (line**2)[near].sum())
    others = np.abs(line[(nm > 700.0) & (nm < 850.0) & (np.abs(nm - centre) > 25.0)])
    return centre if strong.max() > (LEAST_CONTRAST * others.max()) ** 2 else None


def _covered(
    scene: Hyperspectral, first: float, last: float, *, spacing: float
) -> NDArray[np.float64] | None:
    """(B,) the centres of all bands, nm, if they cover a range with no larger step."""
    nm = np.asarray(scene.bands.centre_nm)
    within = nm[(nm > first - spacing) & (nm < last + spacing)]
    covered = within.size > 6 and within[0] <= first and within[-1] >= last
    return nm if covered and np.diff(within).max() <= spacing else None
