"""Reflectance models from the literature, in closed form, at 340 to 1100 nm.

Each is written in numpy from its paper; ``docs/simulator.md`` lists the sources. All spectra are (W,)
float64 on the bands ``FINE``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import exp1

from spectile.catalog.bands import Bands

Array = NDArray[np.float64]

FINE = Bands.from_arrays(np.arange(340.0, 1101.0, 2.0), np.full(381, 2.0))
"""The bands on which the models are evaluated."""

NM = np.asarray(FINE.centre_nm)
"""Their centres, nm."""


def gaussians(*terms: tuple[float, float, float]) -> Array:
    """The sum of Gaussians given as (centre nm, sigma nm, height)."""
    return np.asarray(sum(h * np.exp(-0.5 * ((NM - c) / s) ** 2) for c, s, h in terms))


def edge(centre: float, width: float) -> Array:
    """A logistic step from 0 to 1 at ``centre``, nm."""
    return np.asarray(1.0 / (1.0 + np.exp(-(NM - centre) / width)))


# Pure water, 1/m: Pope & Fry (1997) to 720 nm, Kou, Labrie & Chylek (1993) beyond.
_WATER_NM = (340, 380, 400, 420, 440, 460, 480, 500, 520, 540, 560, 580, 600, 620, 640, 660, 680, 700, 720,
             740, 760, 780, 800, 820, 840, 860, 880, 900, 920, 940, 950, 960, 970, 980, 990, 1000, 1020,
             1040, 1060, 1080, 1100)  # fmt: skip
_WATER_PER_M = (0.02, 0.0114, 0.0066, 0.0045, 0.0064, 0.0098, 0.0127, 0.0204, 0.0409, 0.0474, 0.0619,
                0.0896, 0.222, 0.275, 0.31, 0.41, 0.465, 0.624, 1.23, 2.38, 2.55, 2.3, 2.05, 2.4, 3.6, 4.5,
                5.5, 6.7, 11.0, 26.0, 38.0, 42.5, 45.0, 43.5, 40.5, 36.0, 25.5, 16.0, 12.2, 13.0,
                17.0)  # fmt: skip
_WATER = np.interp(NM, _WATER_NM, _WATER_PER_M)

# Specific absorption in leaves as sums of Gaussians, after the shapes in Feret et al. (2008, 2017).
_CHLOROPHYLL = gaussians(
    (380, 32, 0.045), (435, 22, 0.052), (470, 20, 0.040), (505, 22, 0.008), (580, 32, 0.011),
    (622, 18, 0.015), (650, 14, 0.022), (677, 11.5, 0.050), (694, 13, 0.011),
)  # fmt: skip
_CAROTENOID = gaussians((420, 22, 0.035), (452, 15, 0.045), (483, 13, 0.042))
_ANTHOCYANIN = gaussians((535, 33, 0.055), (420, 40, 0.012))
_BROWN = 0.55 * np.exp(-np.maximum(NM - 400.0, 0.0) / 130.0)
_DRY_MATTER = 1.2 + 9.0 * np.exp(-(NM - 380.0) / 90.0)
_INDEX = 1.53 - 0.08 * (NM - 400.0) / 650.0


def _interface(index: Array, degrees: float) -> Array:
    """Transmissivity of a plane into ``index``, averaged over incidence up to ``degrees`` (Allen 1973)."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    sine2 = 0.5 * (nodes + 1.0) * np.sin(np.radians(degrees)) ** 2
    outside = np.sqrt(1.0 - sine2)[:, None]
    inside = np.sqrt(1.0 - sine2[:, None] / index**2)
    across = (outside - index * inside) / (outside + index * inside)
    along = (inside - index * outside) / (inside + index * outside)
    return np.asarray(0.5 * weights @ (1.0 - 0.5 * (across**2 + along**2)))


_T40 = _interface(_INDEX, 40.0)
_T90 = _interface(_INDEX, 90.0)


def leaf(
    *,
    layers: float,
    chlorophyll: float,
    carotenoid: float,
    anthocyanin: float = 0.0,
    brown: float = 0.0,
    water_cm: float = 0.012,
    dry: float = 0.006,
) -> tuple[Array, Array]:
    """Reflectance and transmittance, each (W,), of a leaf: the plate model of Allen et al. (1969).

    In PROSPECT's generalisation to ``layers`` plates (Jacquemoud & Baret 1990, Eqs. 1-5). Pigments in
    ug/cm2, water in cm, dry matter in g/cm2, brown pigment relative.
    """
    content = (
        chlorophyll * _CHLOROPHYLL
        + carotenoid * _CAROTENOID
        + anthocyanin * _ANTHOCYANIN
        + brown * _BROWN
        + water_cm * _WATER / 100.0
        + dry * _DRY_MATTER
    )
    k = np.maximum(content / layers, 1e-6)
    theta = (1.0 - k) * np.exp(-k) + k**2 * exp1(k)
    t12, t21, r21 = _T90, _T90 / _INDEX**2, 1.0 - _T90 / _INDEX**2
    inner = theta**2 * t21 / (1.0 - r21**2 * theta**2)
    first_r, first_t = 1.0 - _T40 + _T40 * inner * r21, _T40 * t21 * theta / (1.0 - r21**2 * theta**2)
    r, t = 1.0 - t12 + t12 * inner * r21, t12 * t21 * theta / (1.0 - r21**2 * theta**2)
    # Stokes (1862): a pile of layers - 1 identical plates under the first.
    root = np.sqrt(np.maximum((t**2 - r**2 - 1.0) ** 2 - 4.0 * r**2, 1e-12))
    a = (1.0 + r**2 - t**2 + root) / (2.0 * r)
    b = (1.0 - r**2 + t**2 + root) / (2.0 * t)
    power = b ** (layers - 1.0)
    bottom = a**2 * power**2 - 1.0
    pile_r, pile_t = a * (power**2 - 1.0) / bottom, power * (a**2 - 1.0) / bottom
    under = 1.0 - pile_r * r
    return first_r + first_t * t * pile_r / under, first_t * pile_t / under


SCATTERED = 0.8
"""Light on leaves in mutual shadow relative to sunlit leaves, if leaves absorbed nothing."""


def canopy(
    leaf_rt: tuple[Array, Array],
    ground: Array,
    lai: float,
    *,
    shade: float = 0.2,
    wood: Array | float = 0.0,
    bare: float = 0.0,
    gloss: float = 0.0,
) -> Array:
    """Reflectance (W,) of leaves over ``ground``: two-stream with area index ``lai`` (Kubelka-Munk).

    Parameters
    ----------
    shade : the fraction of mutual shadow between leaves and crowns (Li & Strahler 1985). Leaves in shadow get
        light scattered by others: much in the near infrared, little in the visible (Knyazikhin et al. 2011).
    wood : reflectance (W,) of stems, twigs and dead leaves; ``bare`` is the fraction of the area that they
        take from the leaves.
    gloss : reflectance of the leaves' cuticle, equal at all wavelengths (Vanderbilt & Grant 1985).
    """
    r, t = leaf_rt
    m = np.sqrt(np.maximum((1.0 - t) ** 2 - r**2, 1e-9))
    deep = (1.0 - t - m) / r
    below = (ground - deep) / (1.0 - ground * deep) * np.exp(-1.4 * m * lai)
    gap = np.exp(-0.7 * lai)
    leaves = (deep + below) / (1.0 + deep * below)
    covered = (1.0 - bare) * leaves + bare * wood + gloss
    return np.asarray(covered * (1.0 - shade * (1.0 - gap) * (1.0 - SCATTERED * (r + t))))


def soil(*, brightness: float, iron: float, goethite: float, organic: float, moisture: float) -> Array:
    """Reflectance (W,) of a soil: a rising continuum, ferric bands, humus, and darkening by water.

    Ferric bands near 490, 540, 650 and 870-920 nm as in Hunt (1977) and Torrent & Barron (2002); humus
    flattens the visible (Baumgardner et al. 1985); moisture after Lobell & Asner (2002).
    """
    rise = 0.25 + 0.75 * (1.0 - np.exp(-np.maximum(NM - 330.0, 0.0) / 330.0)) / (1.0 - np.exp(-2.0))
    ferric = (1.0 - edge(560.0 - 25.0 * goethite, 24.0)) * 1.1 + gaussians(
        (490, 30, 0.25 * goethite), (650, 38, 0.14), (875 + 40 * goethite, 60, 0.16)
    )
    humus = 0.55 * gaussians((640, 230, 1.0)) + 0.3
    dry = brightness * rise * np.exp(-iron * ferric - organic * humus)
    wet = 0.38 * dry**1.08
    return np.asarray((wet + (dry - wet) * np.exp(-3.0 * moisture)) * np.exp(-0.004 * moisture * _WATER))


def water(*, chlorophyll: float, cdom: float, sediment: float, glint: float = 0.008) -> Array:
    """Reflectance (W,) of deep water from its absorption and backscattering (Gordon et al. 1988).

    Constituents after Lee et al. (1999): ``chlorophyll`` in mg/m3, ``cdom`` in 1/m at
    440 nm, ``sediment`` in g/m3. ``glint`` is reflected sky.
    """
    pigment = (
        0.055
        * chlorophyll**0.65
        * gaussians((440, 32, 1.0), (490, 30, 0.45), (675, 11, 0.45), (620, 25, 0.12))
    )
    organic = cdom * np.exp(-0.0145 * (NM - 440.0)) + 0.02 * sediment * np.exp(-0.011 * (NM - 440.0))
    particles = (0.0025 * chlorophyll**0.6 + 0.012 * sediment) * (550.0 / NM) ** 0.7
    back = 0.00072 * (500.0 / NM) ** 4.32 + particles
    u = back / (_WATER + pigment + organic + back)
    below = 0.0895 * u + 0.1247 * u**2
    return np.asarray(np.pi * 0.52 * below / (1.0 - 1.7 * below) + glint * (0.6 + 0.4 * (450.0 / NM) ** 4))


def mineral(*, level: float, slope: float, iron: float, knee_nm: float = 420.0) -> Array:
    """Reflectance (W,) of asphalt, concrete and stone: a knee, a linear rise, weak ferric bands.

    Shapes after Herold et al. (2004), Kotthaus et al. (2014).
    """
    rise = (0.68 + 0.32 * edge(knee_nm, 55.0)) * (1.0 + slope * (NM - 600.0) / 450.0)
    ferric = (1.0 - edge(555.0, 35.0)) * 0.5 + gaussians((660, 45, 0.05), (880, 70, 0.10))
    return np.asarray(level * rise * np.exp(-iron * ferric))


def clay_tile(*, level: float, edge_nm: float, hematite: float, soot: float) -> Array:
    """Reflectance (W,) of fired clay: hematite's edge near 560 nm and its bands at 530, 650, 870 nm."""
    body = level * (0.16 + 0.84 * edge(edge_nm, 26.0)) * (0.78 + 0.30 * edge(760.0, 90.0))
    bands = gaussians((530, 28, 0.25), (655, 35, 0.20), (870, 55, 0.26))
    return np.asarray((1.0 - soot) * body * np.exp(-hematite * bands) + soot * 0.05)


def metal(*, level: float, slope: float, dip: float, dip_nm: float, rust: float) -> Array:
    """Reflectance (W,) of bare metal: nearly flat, an interband dip (Al 825, Zn 1000 nm), and some rust."""
    clean = level * (1.0 + slope * (NM - 600.0) / 450.0) - level * gaussians((dip_nm, 65, dip))
    rusty = 0.30 * edge(590, 30) * (1.0 - gaussians((870, 60, 0.3))) + 0.04
    return np.asarray((1.0 - rust) * clean + rust * rusty)


def coating(absorbs: Array, *, strength: float, white: float, gloss: float = 0.03) -> Array:
    """Reflectance (W,) of a paint or plastic: Kubelka-Munk over relative pigment absorption K/S.

    ``white`` is the share of titanium dioxide, which scatters and absorbs below 400 nm.
    """
    k_over_s = strength * (absorbs + 0.02) * (1.0 - white) + 0.004 + 4.0 * (1.0 - edge(394.0, 8.0))
    k_over_s = k_over_s + 0.002 * gaussians((930, 18, 1.0))
    return np.asarray(gloss + (0.93 - gloss) * (1.0 + k_over_s - np.sqrt(k_over_s**2 + 2.0 * k_over_s)))
