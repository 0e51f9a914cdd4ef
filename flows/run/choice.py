"""Which model a run takes if none is named: the best one for the bands that the scene has."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TypeVar

from spectile.catalog.bands import Bands
from spectile.catalog.errors import SceneError
from spectile.catalog.inputs import InputSpec
from spectile.catalog.redaction import redact_url
from spectile.flows.run.settings import Settings
from spectile.model.facts import FILE, read_facts
from spectile.pipeline.scene.source import open_source

LOG = logging.getLogger("spectile")

AUTO = "auto"
CANDIDATES = ("vnir48-s2", "vnir48-rgbn", "vnir48-rgb")
"""Of several that a scene has all bands for, the first errs least on places left out (docs/evaluation.md)."""

S = TypeVar("S", bound=Settings)


def with_model(settings: S, scene: str) -> S:
    """The settings with a model's name in place of ``auto``, and a line that says which.

    Parameters
    ----------
    scene : path or URL; of several the first.
    """
    if settings.model != AUTO:
        return settings
    name = next((name for name in CANDIDATES[:-1] if _has_bands(settings, scene, name)), CANDIDATES[-1])
    LOG.info("model %s, chosen by the bands of %s", name, redact_url(scene).rpartition("/")[2])
    return replace(settings, model=name)


def input_of(name: str) -> InputSpec:
    """What a candidate takes, from the facts of its checkpoint; torch is not needed."""
    with as_file(files("spectile.model") / "weights" / name) as folder:
        facts = read_facts(Path(folder) / FILE)
    bands = Bands.from_json(facts["preset"]["response"])
    return InputSpec(name, bands, tuple(facts["fill"]))


def candidate_digests() -> tuple[str, ...]:
    """The digests of all candidates: what ``auto`` may give changes with them alone."""
    with as_file(files("spectile.model") / "weights") as folder:
        return tuple(str(read_facts(Path(folder) / name / FILE)["digest"]) for name in CANDIDATES)


def _has_bands(settings: Settings, scene: str, name: str) -> bool:
    radiometry = getattr(settings, "radiometry", None)
    try:
        open_source(
            scene,
            input_of(name),
            radiometry=radiometry if isinstance(radiometry, str) else None,
            sensor=settings.sensor,
            bands=settings.bands,
            measure=False,
            allow_vrt=getattr(settings, "allow_vrt", False),
            allow_private=settings.allow_private,
        )
    except SceneError:
        return False  # the last candidate says what is wrong with the scene, if something is
    return True
