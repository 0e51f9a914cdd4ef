"""Spectral indices: formula, wavelengths and reference of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Index:
    """A number computed from the reflectance in a few bands."""

    title: str
    """Its full name."""
    formula: str
    """The formula as text; R860 is the reflectance at 860 nm."""
    wavelength_nm: tuple[float, ...]
    """The wavelengths it uses, in the order of the function's arguments, nm."""
    function: Callable[..., Array]
    """The formula."""
    reference: str
    """The publication that defined it."""

    def of(self, *reflectance: Array) -> Array:
        """The index, float32, of arrays of one shape; NaN where it is not finite, e.g. of two zero bands."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = self.function(*reflectance)
        return np.where(np.isfinite(value), value, np.nan).astype(np.float32, copy=False)


def _difference(a: Array, b: Array) -> Array:
    value: Array = (a - b) / (a + b)
    return value


def _evi(infrared: Array, red: Array, blue: Array) -> Array:
    value: Array = 2.5 * (infrared - red) / (infrared + 6.0 * red - 7.5 * blue + 1.0)
    return value


def _savi(infrared: Array, red: Array) -> Array:
    return 1.5 * (infrared - red) / (infrared + red + 0.5)


def _mcari(edge: Array, red: Array, green: Array) -> Array:
    value: Array = ((edge - red) - 0.2 * (edge - green)) * (edge / red)
    return value


def _chlorophyll(infrared: Array, edge: Array) -> Array:
    return infrared / edge - 1.0


INDICES: dict[str, Index] = {
    "ndvi": Index(
        "normalised difference vegetation index", "(R865 − R665) / (R865 + R665)", (865.0, 665.0),
        _difference, "Rouse et al. 1974, Third ERTS Symposium; Tucker 1979, Remote Sens. Environ. 8",
    ),
    "gndvi": Index(
        "green normalised difference vegetation index", "(R865 − R550) / (R865 + R550)", (865.0, 550.0),
        _difference, "Gitelson, Kaufman & Merzlyak 1996, Remote Sens. Environ. 58",
    ),
    "ndre": Index(
        "normalised difference red edge", "(R790 − R720) / (R790 + R720)", (790.0, 720.0), _difference,
        "Barnes et al. 2000, 5th Int. Conf. on Precision Agriculture",
    ),
    "ci_red_edge": Index(
        "red edge chlorophyll index", "R780 / R710 − 1", (780.0, 710.0), _chlorophyll,
        "Gitelson, Gritz & Merzlyak 2003, J. Plant Physiol. 160",
    ),
    "mcari": Index(
        "modified chlorophyll absorption in reflectance index",
        "((R700 − R670) − 0.2 (R700 − R550)) · R700 / R670", (700.0, 670.0, 550.0), _mcari,
        "Daughtry et al. 2000, Remote Sens. Environ. 74",
    ),
    "evi": Index(
        "enhanced vegetation index", "2.5 (R858 − R645) / (R858 + 6 R645 − 7.5 R469 + 1)",
        (858.0, 645.0, 469.0), _evi, "Huete et al. 2002, Remote Sens. Environ. 83 (bands of MODIS)",
    ),
    "savi": Index(
        "soil-adjusted vegetation index, L = 0.5", "1.5 (R865 − R665) / (R865 + R665 + 0.5)", (865.0, 665.0),
        _savi, "Huete 1988, Remote Sens. Environ. 25",
    ),
    "pri": Index(
        "photochemical reflectance index", "(R531 − R570) / (R531 + R570)", (531.0, 570.0), _difference,
        "Gamon, Peñuelas & Field 1992, Remote Sens. Environ. 41; Gamon, Serrano & Surfus 1997, Oecologia 112",
    ),
    "ndwi_mcfeeters": Index(
        "normalised difference water index of open water", "(R560 − R865) / (R560 + R865)", (560.0, 865.0),
        _difference, "McFeeters 1996, Int. J. Remote Sens. 17",
    ),
    "ndwi_gao": Index(
        "normalised difference water index of leaves", "(R860 − R1240) / (R860 + R1240)", (860.0, 1240.0),
        _difference, "Gao 1996, Remote Sens. Environ. 58",
    ),
    "nbr": Index(
        "normalised burn ratio", "(R865 − R2200) / (R865 + R2200)", (865.0, 2200.0), _difference,
        "López García & Caselles 1991, Geocarto Int. 6; Key & Benson 2006, RMRS-GTR-164",
    ),
}  # fmt: skip
"""Indices by name."""
