"""HSR-Diff as an entry of the registry."""

from __future__ import annotations

from spectile.model.hsr_diff.fusion import HsrDiff
from spectile.model.hsr_diff.preset import HsrDiffConfig, hsr_diff_paper
from spectile.model.hsr_diff.train import KIND, train
from spectile.model.system import System

SYSTEM = System(
    kind=KIND,
    title="HSR-Diff",
    config=lambda facts: HsrDiffConfig.from_json(facts["preset"]),
    build=HsrDiff,
    # The preset says how to train it too.
    train=lambda config, training, *scenes_and_folder, **named: train(config, *scenes_and_folder, **named),
    prediction="x0",
    scaling="reflectance in, reflectance out; normalisation is in the preset",
    published=hsr_diff_paper,
)
