"""The published cascade as an entry of the registry."""

from __future__ import annotations

from functools import partial

from spectile.model.scdm.cascade import ScdmCascade
from spectile.model.scdm.preset import ScdmPreset, scdm_paper
from spectile.model.scdm.train import KIND, train
from spectile.model.system import System

SYSTEM = System(
    kind=KIND,
    title=KIND,
    config=lambda facts: ScdmPreset.from_json(facts["preset"]),
    build=ScdmCascade,
    # The preset says how to train it too.
    train=lambda config, training, *scenes_and_folder, **named: train(config, *scenes_and_folder, **named),
    prediction="eps",
    scaling="reflectance in, reflectance out; normalisation is in the preset",
    published=partial(scdm_paper, "houston"),
    preset=KIND,
)
