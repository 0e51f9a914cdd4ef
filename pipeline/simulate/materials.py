"""Materials as spectra, drawn from the parametric models of ``spectile.pipeline.simulate.reflectance``.

A material is a short path of spectra (its states: sparse to dense, wet to dry, worn to fresh). So the
spectrum varies inside an object, not only its brightness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spectile.catalog.bands import Bands, resampling_matrix
from spectile.catalog.errors import UsageError
from spectile.pipeline.simulate.reflectance import (
    FINE,
    NM,
    Array,
    canopy,
    clay_tile,
    coating,
    edge,
    gaussians,
    leaf,
    metal,
    mineral,
    soil,
    water,
)

_BINS = 16
"""The range of each parameter has this many bins; "train" draws from even ones, "demo" from odd ones."""


@dataclass(frozen=True, eq=False)
class Material:
    """A material: a path of reflectance spectra through its states."""

    name: str
    """Its name, unique within a scene."""
    family: str
    """One of ``FAMILIES``; it decides where the landscape puts the material."""
    spectra: Array
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
        UsageError : a band lies outside the material's bands.
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
    """Draws parameters from the half of their ranges that belongs to a set, and records them."""

    def __init__(self, rng: np.random.Generator, materials: str) -> None:
        self._rng = rng
        self._odd = int(materials == "demo")
        self.fractions: list[float] = []

    def __call__(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        fraction = (2 * self._rng.integers(_BINS // 2) + self._odd + self._rng.random()) / _BINS
        self.fractions.append(float(fraction))
        return float(low + (high - low) * fraction)


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
    bare: tuple[float, float] = (0.02, 0.3),
) -> Model:
    """Leaves over soil: from paler and sparser to greener and denser."""

    def model(draw: Draw) -> list[Array]:
        green, ground = draw(*chlorophyll), _ground(draw)
        leaves = dict(
            layers=draw(*nir), brown=draw(*brown), water_cm=draw(0.006, 0.02), dry=draw(0.003, 0.011)
        )
        share, red, area, dark = draw(*carotenoid), draw(*anthocyanin), draw(*lai), draw(*shade)
        stems = mineral(level=draw(0.12, 0.3), slope=draw(0.2, 0.6), iron=draw(0.1, 0.5))
        part, gloss = draw(*bare), draw(0.004, 0.024)
        return [
            canopy(
                leaf(
                    chlorophyll=green * f, carotenoid=green * f**0.4 * share + 1.0, anthocyanin=red, **leaves
                ),
                ground,
                area * g,
                shade=dark,
                wood=stems,
                bare=part,
                gloss=gloss,
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
        glint = draw(0.006, 0.03)
        return [
            water(chlorophyll=chl, cdom=dissolved, sediment=load * f, glint=glint) for f in (0.6, 1.0, 1.5)
        ]

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
    return lambda draw: 1.0 - edge(draw(low, high), draw(7.0, 16.0))


def _phthalo_blue(draw: Draw) -> Array:
    return gaussians((draw(605, 630), 38, 0.9), (draw(685, 710), 30, 1.0), (560, 35, 0.25), (350, 35, 0.4))


def _phthalo_green(draw: Draw) -> Array:
    return gaussians((draw(640, 665), 36, 0.9), (draw(715, 745), 32, 1.0), (430, 45, 0.6), (590, 30, 0.3))


def _cobalt(draw: Draw) -> Array:
    return gaussians((draw(540, 555), 24, 0.6), (590, 24, 0.9), (draw(625, 640), 24, 1.0), (380, 30, 0.1))


def _chrome_oxide(draw: Draw) -> Array:
    return gaussians((draw(455, 470), 38, 0.9), (draw(595, 612), 42, 1.0), (350, 40, 1.0), (700, 18, 0.15))


def _carbon(draw: Draw) -> Array:
    return 1.0 - draw(0.0, 0.25) * edge(750.0, 90.0)


def _photovoltaic(draw: Draw) -> list[Array]:
    blue, level = draw(0.02, 0.06), draw(0.03, 0.05)
    cell = level + blue * np.exp(-np.maximum(NM - 400.0, 0.0) / 60.0) + 0.25 * edge(1075.0, 22.0)
    return [0.85 * cell + 0.15 * 0.2, 0.95 * cell + 0.05 * 0.3, cell]


def _turf(draw: Draw) -> list[Array]:
    green = gaussians((draw(430, 440), 50, 1.0), (draw(630, 650), 48, 1.0), (700, 30, 0.5))
    pile = coating(green, strength=draw(4.0, 10.0), white=0.1)
    infill = draw(0.04, 0.08)
    return [(1.0 - d) * 0.5 * pile + d * infill for d in (0.45, 0.25, 0.1)]


_NEEDLES = _foliage((40, 70), (3, 6), shade=(0.5, 0.8), nir=(1.8, 3), brown=(0.05, 0.3), bare=(0.05, 0.4))

FAMILIES = (
    "crop",
    "grass",
    "tree",
    "straw",
    "soil",
    "water",
    "road",
    "paving",
    "court",
    "tile",
    "roof",
    "paint",
    "marking",
)
"""Where the landscape puts a material."""

# name: (family, draws in "train", draws in "demo", model). A model with no draws in one set exists only
# in the other.
MODELS: dict[str, tuple[str, int, int, Model]] = {
    "cereal": ("crop", 4, 3, _foliage((22, 50), (1.2, 4.5))),
    "beet": ("crop", 2, 1, _foliage((35, 65), (0.8, 4.0), nir=(1.6, 2.6))),
    "young_crop": ("crop", 2, 1, _foliage((25, 45), (0.3, 1.0))),
    "ripening_crop": ("crop", 2, 2, _foliage((5, 16), (1.5, 3.5), brown=(0.05, 0.4), carotenoid=(0.3, 0.6))),
    "vine_in_flush": ("crop", 0, 2, _foliage((18, 35), (0.8, 2.5), anthocyanin=(2.0, 9.0))),
    "meadow": ("grass", 3, 2, _foliage((18, 45), (1.5, 4.0), brown=(0.02, 0.25))),
    "lawn": ("grass", 2, 2, _foliage((25, 50), (2.0, 4.5), shade=(0.1, 0.25))),
    "dry_grass": ("grass", 2, 1, _foliage((4, 14), (0.8, 2.2), brown=(0.15, 0.6))),
    "broadleaf": ("tree", 4, 3, _foliage((30, 60), (3.0, 6.0), shade=(0.35, 0.75), bare=(0.05, 0.4))),
    "conifer": ("tree", 3, 2, _NEEDLES),
    "copper_tree": ("tree", 0, 1, _foliage((25, 40), (3.0, 5.0), anthocyanin=(12, 30), shade=(0.25, 0.45))),
    "autumn_tree": ("tree", 0, 1, _foliage((2, 8), (2, 4), anthocyanin=(0, 6), brown=(0.1, 0.5))),
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
    "clay_court": ("court", 1, 0, _tile),
    "rubber_court": ("court", 1, 1, _coated(_long_pass(570, 600), (4, 14), (0.0, 0.1))),
    "artificial_turf": ("court", 0, 2, _turf),
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
    for index, (name, (family, train, demo, model)) in enumerate(MODELS.items()):
        rng = np.random.default_rng([seed, SETS.index(materials), index])
        for number in range(demo if materials == "demo" else train):
            draw = Draw(rng, materials)
            spectra = np.clip(np.stack(list(model(draw))), 0.001, 1.0)
            drawn.append(Material(f"{name}_{number}", family, spectra, FINE, tuple(draw.fractions)))
    return tuple(drawn)
