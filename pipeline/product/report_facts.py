"""What a report says of a cube."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spectile.catalog.redaction import redact
from spectile.pipeline.product.report_measures import (
    Agreement,
    Point,
    SeamFigures,
    Statistics,
    Timing,
)
from spectile.pipeline.product.view import Resolution, View

LIMITS = (
    "Three colours do not determine a spectrum. These spectra are a model's estimates of what usually goes "
    "with such colours: plausible, on average close, and for any one pixel possibly wrong in ways that no "
    "colour shows. Do not use them to identify minerals, paints or species, to detect a target, to measure a "
    "concentration, to calibrate or validate a sensor, or as evidence that something was there. They are of "
    "use for teaching, for trying out software and downlinks, as a starting point that measurements correct, "
    "and for coarse land cover where you have checked it yourself (docs/cube.md)."
)


@dataclass(frozen=True)
class PairFacts:
    """What a report says of a pair."""

    estimates: dict[str, str]
    """What was estimated, for people."""
    scores: tuple[str, ...]
    """The names of the scores."""
    wald: dict[str, tuple[str, ...]]
    """By method, its scores where both scenes are degraded once more and the HSI is the truth."""


@dataclass(frozen=True)
class Report:
    """What a report says."""

    name: str
    """What people call the cube."""
    settings: dict[str, str]
    """How it was made."""
    warnings: tuple[str, ...]
    """What to know before it is used."""
    view: View
    """The cube."""
    level: Resolution
    """The resolution of its maps."""
    points: tuple[Point, ...]
    """Pixels that are spread over the valid ones."""
    statistics: Statistics
    """Of each band."""
    flags: dict[str, float]
    """The share of the map's pixels that have a flag of ``quality``, by its meaning."""
    agreement: Agreement | None
    """None where the cube does not hold it."""
    seams: SeamFigures | None
    """None where one tile is all that there is."""
    timing: Timing
    """Of its blocks."""
    pair: PairFacts | None = None
    """Of the pair from which it is fused; None of the cube of a scene or a flight line."""

    @property
    def valid_pixels(self) -> int:
        """Pixels that hold a spectrum, as the run counted them."""
        return int(self.view.facts.get("valid_pixels", 0))


def shown(text: object) -> str:
    """A text without what a report must not tell: folders of a machine, and secrets in URLs."""
    without = redact(str(text))
    return re.sub(r"(?<![\w:/.])(?:[A-Za-z]:)?[/\\](?:[^/\\\s'\"]+[/\\])+", "", without)
