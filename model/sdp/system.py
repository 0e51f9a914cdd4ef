"""SDP as an entry of the registry."""

from __future__ import annotations

from spectile.model.sdp.fusion import Sdp
from spectile.model.sdp.preset import SdpConfig, sdp_paper
from spectile.model.sdp.train import KIND, train
from spectile.model.system import System

SYSTEM = System(
    kind=KIND,
    title="an SDP prior",
    config=lambda facts: SdpConfig.from_json(facts["preset"]),
    build=Sdp,
    # The preset says how to train it too.
    train=lambda config, training, *scenes_and_folder, **named: train(config, *scenes_and_folder, **named),
    prediction="eps",
    scaling="reflectance in, reflectance out; the prior's scale is among the tensors",
    published=sdp_paper,
)
