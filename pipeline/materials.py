"""Materials as spectra: parametric reflectance models from the literature, 380 to 1100 nm.

Every model is a closed form in numpy, written from its paper; ``docs/simulator.md`` lists them. A
material is a short path of spectra (its states: sparse to dense, wet to dry, worn to fresh), so that
what varies inside an object is the spectrum and not only its brightness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import exp1

from catalog.bands import Bands, resampling_matrix
from catalog.errors import UsageError

Array = NDArray[np.float64]

FINE = Bands.from_arrays(np.arange(340.0, 1101.0, 2.0), np.full(381, 2.0))
"""The bands on which the models are evaluated."""

_NM = np.asarray(FINE.centre_nm)

_BINS = 16
"""Every parameter's range is cut into this many bins; "train" draws from even ones, "demo" from odd."""


@dataclass(frozen=True, eq=False)
class Material:
    """A material: a path of reflectance spectra through its states."""

    name: str
    """What it is, unique within a scene."""
    family: str
    """What it is used as: one of ``FAMILIES``, which decides where the landscape puts it."""
    spectra: NDArray[np.float64]
    """(S, B) reflectance in 0 to 1.2, one row a state, first to last; S = 1 for a single spectrum."""
    bands: Bands = FINE
    """The bands of ``spectra``."""
    parameters: tuple[float, ...] = ()
    """The fractions of their ranges at which a model's parameters were drawn, in order."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UsageError(
                f"material {self.name} has an unknown family",
                got=self.family,
                expected=", ".join(FAMILIES),
            )
        if self.spectra.ndim != 2 or self.spectra.shape[1] != len(self.bands):
            raise UsageError(
                f"material {self.name} has spectra of the wrong shape",
                got=self.spectra.shape,
                expected=f"(states, {len(self.bands)})",
            )

    def resampled(self, bands: Bands) -> Array:
        """The (S, B) float64 reflectance of its states in ``bands``.

        Raises
        ------
        UsageError : a band lies outside the material's own.
        """
        matrix, supported = resampling_matrix(self.bands, bands)
        if not supported.all():
            missing = np.asarray(bands.centre_nm)[~supported]
            raise UsageError(
                f"material {self.name} is not known at every band",
                got=f"{self.bands.centre_nm[0]:g} to {self.bands.centre_nm[-1]:g} nm",
                expected=f"bands up to {missing[0]:g} nm",
                remedy="leave that spectrum out or take fewer bands",
            )
        return np.asarray(self.spectra @ matrix.T)


class Draw:
    """Draws parameters from the half of their ranges that belongs to a set, and remembers them."""

    def __init__(self, rng: np.random.Generator, materials: str) -> None:
        self._rng = rng
        self._odd = int(materials == "demo")
        self.fractions: list[float] = []

    def __call__(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        fraction = (2 * self._rng.integers(_BINS // 2) + self._odd + self._rng.random()) / _BINS
        self.fractions.append(float(fraction))
        return float(low + (high - low) * fraction)


def _gaussians(*terms: tuple[float, float, float]) -> Array:
    """The sum of Gaussians given as (centre nm, sigma nm, height)."""
    return np.asarray(sum(h * np.exp(-0.5 * ((_NM - c) / s) ** 2) for c, s, h in terms))


def _edge(centre: float, width: float) -> Array:
    """A logistic step from 0 to 1 at ``centre``, nm."""
    return np.asarray(1.0 / (1.0 + np.exp(-(_NM - centre) / width)))


# Pure water, 1/m: Pope & Fry (1997) to 720 nm, Kou, Labrie & Chylek (1993) beyond.
_WATER_NM = (340, 380, 400, 420, 440, 460, 480, 500, 520, 540, 560, 580, 600, 620, 640, 660, 680, 700, 720,
             740, 760, 780, 800, 820, 840, 860, 880, 900, 920, 940, 950, 960, 970, 980, 990, 1000, 1020,
             1040, 1060, 1080, 1100)  # fmt: skip
_WATER_PER_M = (0.02, 0.0114, 0.0066, 0.0045, 0.0064, 0.0098, 0.0127, 0.0204, 0.0409, 0.0474, 0.0619,
                0.0896, 0.222, 0.275, 0.31, 0.41, 0.465, 0.624, 1.23, 2.38, 2.55, 2.3, 2.05, 2.4, 3.6, 4.5,
                5.5, 6.7, 11.0, 26.0, 38.0, 42.5, 45.0, 43.5, 40.5, 36.0, 25.5, 16.0, 12.2, 13.0,
                17.0)  # fmt: skip
_WATER = np.interp(_NM, _WATER_NM, _WATER_PER_M)

# Specific absorption in leaves as sums of Gaussians, after the shapes in Feret et al. (2008, 2017).
_CHLOROPHYLL = _gaussians(
    (380, 32, 0.045), (435, 22, 0.052), (470, 20, 0.040), (505, 22, 0.008), (580, 32, 0.011),
    (622, 18, 0.015), (650, 14, 0.022), (677, 11.5, 0.050), (694, 13, 0.011),
)  # fmt: skip
_CAROTENOID = _gaussians((420, 22, 0.035), (452, 15, 0.045), (483, 13, 0.042))
_ANTHOCYANIN = _gaussians((535, 33, 0.055), (420, 40, 0.012))
_BROWN = 0.55 * np.exp(-np.maximum(_NM - 400.0, 0.0) / 130.0)
_DRY_MATTER = 1.2 + 9.0 * np.exp(-(_NM - 380.0) / 90.0)
_INDEX = 1.53 - 0.08 * (_NM - 400.0) / 650.0


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


def canopy(leaf_rt: tuple[Array, Array], ground: Array, lai: float, *, shade: float = 0.2) -> Array:
    """Reflectance (W,) of leaves over ``ground``: two-stream with area index ``lai`` (Kubelka-Munk).

    ``shade`` is the fraction that is mutual shadow between leaves and crowns (Li & Strahler 1985).
    """
    r, t = leaf_rt
    m = np.sqrt(np.maximum((1.0 - t) ** 2 - r**2, 1e-9))
    deep = (1.0 - t - m) / r
    below = (ground - deep) / (1.0 - ground * deep) * np.exp(-1.4 * m * lai)
    gap = np.exp(-0.7 * lai)
    return np.asarray((1.0 - shade * (1.0 - gap)) * (deep + below) / (1.0 + deep * below))


def soil(*, brightness: float, iron: float, goethite: float, organic: float, moisture: float) -> Array:
    """Reflectance (W,) of a soil: a rising continuum, ferric bands, humus, and darkening by water.

    Ferric bands near 490, 540, 650 and 870-920 nm as in Hunt (1977), Torrent & Barron (2002); humus flattens the
    visible (Baumgardner et al. 1985); moisture after Lobell & Asner (2002).
    """
    rise = 0.25 + 0.75 * (1.0 - np.exp(-np.maximum(_NM - 330.0, 0.0) / 330.0)) / (1.0 - np.exp(-2.0))
    ferric = (1.0 - _edge(560.0 - 25.0 * goethite, 24.0)) * 1.1 + _gaussians(
        (490, 30, 0.25 * goethite), (650, 38, 0.14), (875 + 40 * goethite, 60, 0.16)
    )
    humus = 0.55 * _gaussians((640, 230, 1.0)) + 0.3
    dry = brightness * rise * np.exp(-iron * ferric - organic * humus)
    wet = 0.38 * dry**1.08
    return np.asarray((wet + (dry - wet) * np.exp(-3.0 * moisture)) * np.exp(-0.004 * moisture * _WATER))


def water(*, chlorophyll: float, cdom: float, sediment: float, glint: float = 0.008) -> Array:
    """Reflectance (W,) of deep water: Gordon et al. (1988) over absorption and backscattering, Lee et al. (1999).

    ``chlorophyll`` in mg/m3, ``cdom`` in 1/m at 440 nm, ``sediment`` in g/m3; ``glint`` is reflected sky.
    """
    pigment = (
        0.055
        * chlorophyll**0.65
        * _gaussians((440, 32, 1.0), (490, 30, 0.45), (675, 11, 0.45), (620, 25, 0.12))
    )
    organic = cdom * np.exp(-0.0145 * (_NM - 440.0)) + 0.02 * sediment * np.exp(-0.011 * (_NM - 440.0))
    particles = (0.0025 * chlorophyll**0.6 + 0.012 * sediment) * (550.0 / _NM) ** 0.7
    back = 0.00072 * (500.0 / _NM) ** 4.32 + particles
    u = back / (_WATER + pigment + organic + back)
    below = 0.0895 * u + 0.1247 * u**2
    return np.asarray(np.pi * 0.52 * below / (1.0 - 1.7 * below) + glint * (0.6 + 0.4 * (450.0 / _NM) ** 4))


def mineral(*, level: float, slope: float, iron: float, knee_nm: float = 420.0) -> Array:
    """Reflectance (W,) of asphalt, concrete and stone: a knee in the blue, a linear rise, weak ferric bands.

    Shapes after Herold et al. (2004), Kotthaus et al. (2014).
    """
    rise = (0.68 + 0.32 * _edge(knee_nm, 55.0)) * (1.0 + slope * (_NM - 600.0) / 450.0)
    ferric = (1.0 - _edge(555.0, 35.0)) * 0.5 + _gaussians((660, 45, 0.05), (880, 70, 0.10))
    return np.asarray(level * rise * np.exp(-iron * ferric))


def clay_tile(*, level: float, edge_nm: float, hematite: float, soot: float) -> Array:
    """Reflectance (W,) of fired clay: hematite's edge near 560 nm and its bands at 530, 650, 870 nm."""
    body = level * (0.16 + 0.84 * _edge(edge_nm, 26.0)) * (0.78 + 0.30 * _edge(760.0, 90.0))
    bands = _gaussians((530, 28, 0.25), (655, 35, 0.20), (870, 55, 0.26))
    return np.asarray((1.0 - soot) * body * np.exp(-hematite * bands) + soot * 0.05)


def metal(*, level: float, slope: float, dip: float, dip_nm: float, rust: float) -> Array:
    """Reflectance (W,) of bare metal: nearly flat, an interband dip (Al 825, Zn 1000 nm), and some rust."""
    clean = level * (1.0 + slope * (_NM - 600.0) / 450.0) - level * _gaussians((dip_nm, 65, dip))
    rusty = 0.30 * _edge(590, 30) * (1.0 - _gaussians((870, 60, 0.3))) + 0.04
    return np.asarray((1.0 - rust) * clean + rust * rusty)


def coating(absorbs: Array, *, strength: float, white: float, gloss: float = 0.03) -> Array:
    """Reflectance (W,) of a paint or plastic: Kubelka-Munk over relative pigment absorption K/S.

    ``white`` is the share of titanium dioxide, which scatters and absorbs below 400 nm.
    """
    k_over_s = strength * (absorbs + 0.02) * (1.0 - white) + 0.004 + 4.0 * (1.0 - _edge(394.0, 8.0))
    k_over_s = k_over_s + 0.002 * _gaussians((930, 18, 1.0))
    return np.asarray(gloss + (0.93 - gloss) * (1.0 + k_over_s - np.sqrt(k_over_s**2 + 2.0 * k_over_s)))


Model = Callable[[Draw], Sequence[Array]]


def _ground(draw: Draw) -> Array:
    return soil(
        brightness=draw(0.25, 0.5), iron=draw(0.1, 0.7), goethite=0.4, organic=draw(0.1, 0.9), moisture=0.2
    )


def _foliage(
    chlorophyll: tuple[float, float],
    lai: tuple[float, float],
    *,
    anthocyanin: tuple[float, float] = (0.0, 1.0),
    brown: tuple[float, float] = (0.0, 0.08),
    carotenoid: tuple[float, float] = (0.18, 0.28),
    shade: tuple[float, float] = (0.1, 0.3),
    nir: tuple[float, float] = (1.4, 2.2),
) -> Model:
    """Leaves over soil: from paler and sparser to greener and denser."""

    def model(draw: Draw) -> list[Array]:
        green, ground = draw(*chlorophyll), _ground(draw)
        leaves = dict(
            layers=draw(*nir), brown=draw(*brown), water_cm=draw(0.006, 0.02), dry=draw(0.003, 0.011)
        )
        share, red, area, dark = draw(*carotenoid), draw(*anthocyanin), draw(*lai), draw(*shade)
        return [
            canopy(
                leaf(
                    chlorophyll=green * f, carotenoid=green * f**0.4 * share + 1.0, anthocyanin=red, **leaves
                ),
                ground,
                area * g,
                shade=dark,
            )
            for f, g in ((0.55, 0.45), (0.9, 0.95), (1.2, 1.5))
        ]

    return model


def _straw(draw: Draw) -> list[Array]:
    ground, brown, layers = _ground(draw), draw(0.15, 0.9), draw(1.8, 2.8)
    green, dry = draw(0.5, 3.0), draw(0.006, 0.014)
    return [
        canopy(
            leaf(layers=layers, chlorophyll=green * f, carotenoid=1.5, brown=brown, water_cm=0.002, dry=dry),
            ground,
            g,
            shade=0.1,
        )
        for f, g in ((0.3, 0.9), (0.8, 1.6), (2.5, 2.4))
    ]


def _soil(brightness: tuple[float, float], iron: tuple[float, float], organic: tuple[float, float]) -> Model:
    def model(draw: Draw) -> list[Array]:
        base = dict(
            brightness=draw(*brightness), iron=draw(*iron), goethite=draw(0.0, 1.0), organic=draw(*organic)
        )
        return [soil(moisture=m, **base) for m in (0.9, 0.3, 0.0)]

    return model


def _water(
    chlorophyll: tuple[float, float], cdom: tuple[float, float], sediment: tuple[float, float]
) -> Model:
    def model(draw: Draw) -> list[Array]:
        chl, dissolved, load = draw(*chlorophyll), draw(*cdom), draw(*sediment)
        return [water(chlorophyll=chl, cdom=dissolved, sediment=load * f) for f in (0.6, 1.0, 1.5)]

    return model


def _mineral(level: tuple[float, float], slope: tuple[float, float], iron: tuple[float, float]) -> Model:
    def model(draw: Draw) -> list[Array]:
        height, tilt, rust, knee = draw(*level), draw(*slope), draw(*iron), draw(400.0, 450.0)
        return [
            mineral(level=height * f, slope=tilt, iron=rust * g, knee_nm=knee)
            for f, g in ((0.72, 1.4), (1.0, 1.0), (1.25, 0.6))
        ]

    return model


def _tile(draw: Draw) -> list[Array]:
    body = dict(level=draw(0.28, 0.55), edge_nm=draw(555, 595), hematite=draw(0.5, 1.3))
    soot = draw(0.0, 0.25)
    return [clay_tile(soot=soot + s, **body) for s in (0.35, 0.12, 0.0)]


def _metal(draw: Draw) -> list[Array]:
    body = dict(level=draw(0.28, 0.6), slope=draw(-0.05, 0.2), dip=draw(0.0, 0.12), dip_nm=draw(830, 1000))
    rust = draw(0.0, 0.15)
    return [metal(rust=rust + r, **body) for r in (0.3, 0.06, 0.0)]


def _coated(
    pigment: Callable[[Draw], Array], strength: tuple[float, float], white: tuple[float, float]
) -> Model:
    """A paint from soiled to clean; soil on it is a thin mineral layer mixed in."""

    def model(draw: Draw) -> list[Array]:
        paint = coating(pigment(draw), strength=draw(*strength), white=draw(*white))
        dirt = mineral(level=draw(0.1, 0.25), slope=0.3, iron=0.3)
        return [(1.0 - d) * paint + d * dirt for d in (0.45, 0.15, 0.0)]

    return model


def _long_pass(low: float, high: float) -> Callable[[Draw], Array]:
    return lambda draw: 1.0 - _edge(draw(low, high), draw(7.0, 16.0))


def _phthalo_blue(draw: Draw) -> Array:
    return _gaussians((draw(605, 630), 38, 0.9), (draw(685, 710), 30, 1.0), (560, 35, 0.25), (350, 35, 0.4))


def _phthalo_green(draw: Draw) -> Array:
    return _gaussians((draw(640, 665), 36, 0.9), (draw(715, 745), 32, 1.0), (430, 45, 0.6), (590, 30, 0.3))


def _cobalt(draw: Draw) -> Array:
    return _gaussians((draw(540, 555), 24, 0.6), (590, 24, 0.9), (draw(625, 640), 24, 1.0), (380, 30, 0.1))


def _chrome_oxide(draw: Draw) -> Array:
    return _gaussians((draw(455, 470), 38, 0.9), (draw(595, 612), 42, 1.0), (350, 40, 1.0), (700, 18, 0.15))


def _carbon(draw: Draw) -> Array:
    return 1.0 - draw(0.0, 0.25) * _edge(750.0, 90.0)


def _photovoltaic(draw: Draw) -> list[Array]:
    blue, level = draw(0.02, 0.06), draw(0.03, 0.05)
    cell = level + blue * np.exp(-np.maximum(_NM - 400.0, 0.0) / 60.0) + 0.25 * _edge(1075.0, 22.0)
    return [0.85 * cell + 0.15 * 0.2, 0.95 * cell + 0.05 * 0.3, cell]


def _turf(draw: Draw) -> list[Array]:
    pile = coating(_chrome_oxide(draw) + 0.6 * (1 - _edge(760.0, 25.0)), strength=draw(4.0, 12.0), white=0.1)
    infill = draw(0.04, 0.08)
    return [(1.0 - d) * pile + d * infill for d in (0.45, 0.25, 0.1)]


FAMILIES = (
    "crop",
    "grass",
    "tree",
    "straw",
    "soil",
    "water",
    "road",
    "paving",
    "tile",
    "roof",
    "paint",
    "marking",
)
"""Where the landscape puts a material."""

# name: (family, draws in "train", draws in "demo", model). A model with no draws in one set is known
# to the other alone.
MODELS: dict[str, tuple[str, int, int, Model]] = {
    "cereal": ("crop", 4, 3, _foliage((22, 50), (1.2, 4.5))),
    "beet": ("crop", 2, 1, _foliage((35, 65), (0.8, 4.0), nir=(1.6, 2.6))),
    "young_crop": ("crop", 2, 1, _foliage((25, 45), (0.3, 1.0))),
    "ripening_crop": ("crop", 2, 2, _foliage((5, 16), (1.5, 3.5), brown=(0.05, 0.4), carotenoid=(0.3, 0.6))),
    "vine_in_flush": ("crop", 0, 2, _foliage((18, 35), (0.8, 2.5), anthocyanin=(2.0, 9.0))),
    "meadow": ("grass", 3, 2, _foliage((18, 45), (1.5, 4.0), brown=(0.02, 0.25))),
    "lawn": ("grass", 2, 2, _foliage((25, 50), (2.0, 4.5), shade=(0.1, 0.25))),
    "dry_grass": ("grass", 2, 1, _foliage((4, 14), (0.8, 2.2), brown=(0.15, 0.6))),
    "artificial_turf": ("grass", 0, 1, _turf),
    "broadleaf": ("tree", 4, 3, _foliage((30, 60), (3.0, 6.0), shade=(0.25, 0.5))),
    "conifer": ("tree", 3, 2, _foliage((40, 70), (3.0, 6.0), shade=(0.5, 0.7), nir=(1.8, 3.0), brown=(0.05, 0.3))),
    "copper_tree": ("tree", 0, 1, _foliage((25, 40), (3.0, 5.0), anthocyanin=(12, 30), shade=(0.25, 0.45))),
    "autumn_tree": ("tree", 0, 1, _foliage((2, 8), (2.5, 4.5), anthocyanin=(0, 6), brown=(0.1, 0.5), shade=(0.25, 0.45))),
    "bare_tree": ("tree", 1, 0, _straw),
    "stubble": ("straw", 3, 2, _straw),
    "loam": ("soil", 3, 2, _soil((0.3, 0.55), (0.2, 0.9), (0.1, 0.9))),
    "sand": ("soil", 1, 1, _soil((0.5, 0.75), (0.1, 0.5), (0.0, 0.2))),
    "humus": ("soil", 2, 1, _soil((0.2, 0.35), (0.1, 0.4), (0.9, 1.8))),
    "ferric_clay": ("soil", 1, 0, _soil((0.4, 0.6), (0.8, 1.3), (0.0, 0.4))),
    "laterite": ("soil", 0, 1, _soil((0.4, 0.65), (1.5, 2.2), (0.0, 0.2))),
    "lake": ("water", 2, 1, _water((1, 15), (0.1, 1.5), (0.2, 4.0))),
    "green_pond": ("water", 1, 0, _water((15, 60), (0.3, 1.5), (1.0, 6.0))),
    "silty_river": ("water", 0, 1, _water((1, 8), (0.3, 1.2), (12, 30))),
    "asphalt": ("road", 4, 3, _mineral((0.07, 0.19), (0.1, 0.45), (0.05, 0.4))),
    "concrete": ("paving", 3, 2, _mineral((0.22, 0.42), (0.05, 0.25), (0.2, 0.7))),
    "gravel": ("paving", 2, 2, _mineral((0.18, 0.35), (0.1, 0.4), (0.2, 0.9))),
    "brick_paving": ("paving", 1, 0, _tile),
    "clay_tile": ("tile", 4, 3, _tile),
    "slate": ("tile", 2, 2, _mineral((0.07, 0.14), (-0.1, 0.15), (0.0, 0.2))),
    "membrane": ("roof", 2, 2, _mineral((0.3, 0.65), (-0.05, 0.1), (0.0, 0.2))),
    "bitumen": ("roof", 2, 1, _mineral((0.05, 0.11), (0.1, 0.4), (0.0, 0.2))),
    "sheet_metal": ("roof", 2, 2, _metal),
    "green_coated_roof": ("roof", 1, 0, _coated(_phthalo_green, (1, 5), (0.1, 0.5))),
    "blue_coated_roof": ("roof", 1, 1, _coated(_phthalo_blue, (1, 5), (0.1, 0.5))),
    "chrome_oxide_roof": ("roof", 0, 1, _coated(_chrome_oxide, (1, 5), (0.05, 0.3))),
    "photovoltaic": ("roof", 0, 2, _photovoltaic),
    "red_paint": ("paint", 2, 1, _coated(_long_pass(585, 610), (3, 14), (0.0, 0.25))),
    "yellow_paint": ("paint", 1, 1, _coated(_long_pass(500, 530), (3, 12), (0.0, 0.4))),
    "brown_paint": ("paint", 1, 0, _coated(_long_pass(560, 640), (2, 6), (0.0, 0.2))),
    "phthalo_blue_paint": ("paint", 2, 1, _coated(_phthalo_blue, (2, 12), (0.0, 0.4))),
    "phthalo_green_paint": ("paint", 1, 1, _coated(_phthalo_green, (2, 10), (0.0, 0.4))),
    "cobalt_paint": ("paint", 0, 1, _coated(_cobalt, (2, 10), (0.0, 0.4))),
    "black_paint": ("paint", 2, 1, _coated(_carbon, (3, 12), (0.0, 0.1))),
    "grey_paint": ("paint", 2, 1, _coated(_carbon, (0.1, 0.9), (0.2, 0.6))),
    "white_paint": ("marking", 2, 1, _coated(_carbon, (0.02, 0.12), (0.6, 0.9))),
}  # fmt: skip
"""The models by name."""

SETS = ("train", "demo")
"""The two sets; no material of one can be drawn in the other."""


def draw_materials(seed: int, materials: str) -> tuple[Material, ...]:
    """The materials of one scene, drawn from the set "train" or "demo".

    Raises
    ------
    UsageError : there is no such set.
    """
    if materials not in SETS:
        raise UsageError("there is no such set of materials", got=materials, expected=" or ".join(SETS))
    drawn = []
    for index, (name, (family, *counts, model)) in enumerate(MODELS.items()):
        rng = np.random.default_rng([seed, SETS.index(materials), index])
        for number in range(int(counts[SETS.index(materials)])):  # type: ignore[call-overload]
            draw = Draw(rng, materials)
            spectra = np.clip(np.stack(list(model(draw))), 0.001, 1.0)  # type: ignore[operator]
            drawn.append(Material(f"{name}_{number}", family, spectra, FINE, tuple(draw.fractions)))
    return tuple(drawn)
