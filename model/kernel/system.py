"""Kernel ridge regression as an entry of the registry."""

from __future__ import annotations

from spectile.model.kernel.config import KernelConfig
from spectile.model.kernel.regression import KernelRegression
from spectile.model.kernel.train import train
from spectile.model.system import System

SYSTEM = System(
    kind="kernel-ridge",
    title="a kernel ridge regression",
    config=lambda facts: KernelConfig.from_json(facts["preset"]),
    build=KernelRegression,
    train=train,
    prediction="the mean spectrum, and the size and components of what it leaves",
    scaling="reflectance in, reflectance out; whitening is among the tensors",
)
