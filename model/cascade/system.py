"""The compact cascade as an entry of the registry."""

from __future__ import annotations

from collections.abc import Mapping

from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade
from spectile.model.cascade.shuffle import shuffle_factor
from spectile.model.cascade.train import train
from spectile.model.data.crops import Batch
from spectile.model.system import System


def _checks(model: SpectralCascade, batch: Batch, seed: int) -> Mapping[str, float]:
    """Whether the second stage uses the first, if every crop has every band."""
    if float(batch.bands.min()) == 0.0:
        return {}
    return {"shuffle_factor": round(shuffle_factor(model, batch, seed=seed), 2)}


SYSTEM = System(
    kind="cascade",
    title="a spectral cascade",
    config=lambda facts: CascadeConfig.from_json(facts["cascade"]),
    build=SpectralCascade,
    train=lambda config, training, *scenes_and_folder, **named: train(
        training, config, *scenes_and_folder, **named
    ),
    prediction="v",
    scaling="reflectance in, reflectance out; whitening is among the tensors",
    bfloat16=True,  # docs/benchmarks.md
    checks=_checks,
)
