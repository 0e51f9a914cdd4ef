"""Every system by its kind: the only place to enter a new one."""

from __future__ import annotations

from spectile.catalog.errors import CheckpointError
from spectile.model.cascade.system import SYSTEM as CASCADE
from spectile.model.checkpoint import Checkpoint, load_module, reading_configuration
from spectile.model.hsr_diff.system import SYSTEM as HSR_DIFF
from spectile.model.hyperldm.system import SYSTEM as HYPERLDM
from spectile.model.kernel.system import SYSTEM as KERNEL
from spectile.model.scdm.system import SYSTEM as SCDM
from spectile.model.sdp.system import SYSTEM as SDP
from spectile.model.system import Config, Network, System

SYSTEMS = {system.kind: system for system in (CASCADE, KERNEL, SCDM, HYPERLDM, HSR_DIFF, SDP)}


def system_of(loaded: Checkpoint) -> System:
    """The system that a checkpoint is of; CheckpointError where there is none of that kind."""
    kind = loaded.metadata.get("kind") or CASCADE.kind
    if kind not in SYSTEMS:
        raise CheckpointError(
            "unknown kind of model", where=str(loaded.folder), got=kind, expected=", ".join(SYSTEMS)
        )
    return SYSTEMS[kind]


def load_config(loaded: Checkpoint) -> Config:
    """The configuration of a checkpoint; CheckpointError where it cannot be used."""
    system = system_of(loaded)
    with reading_configuration(loaded, system.title):
        return system.config(loaded.metadata)


def load_network(loaded: Checkpoint) -> Network:
    """The network of a checkpoint, in evaluation mode on the CPU; of an outline it has no weights.

    Raises
    ------
    CheckpointError
        Where its kind is unknown, or its configuration and its tensors do not make a network.
    """
    system = system_of(loaded)
    return load_module(loaded, lambda: system.build(system.config(loaded.metadata)), system.title)
