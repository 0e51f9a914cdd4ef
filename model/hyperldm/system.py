"""HyperLDM as an entry of the registry."""

from __future__ import annotations

from spectile.model.hyperldm.network import HyperLdm
from spectile.model.hyperldm.preset import HyperConfig, hyperldm_paper
from spectile.model.hyperldm.train import KIND, train
from spectile.model.system import System

SYSTEM = System(
    kind=KIND,
    title="a HyperLDM",
    config=lambda facts: HyperConfig.from_json(facts["preset"]),
    build=HyperLdm,
    train=train,
    prediction="the noise of a code, or its v; a decoder gives abundances",
    scaling="reflectance in, reflectance out; scaling is in the preset and the tensors",
    published=hyperldm_paper,
    preset="hyperldm-paper",
)
