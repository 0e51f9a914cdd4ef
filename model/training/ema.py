"""The exponential moving average of a network's weights, which is what samples are drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Ema:
    """A moving average of the floating-point entries of a module's state.

    Before step ``start`` it is a plain copy: an average that began at the initial weights would carry
    them for about 1 / (1 - decay) steps. The step is part of the state, because a run that resumes
    without it would copy over its average. With ``part``, a child of the module, that alone is averaged,
    under its own names.
    """

    def __init__(
        self, module: nn.Module, *, decay: float = 0.9999, start: int = 2000, part: str = ""
    ) -> None:
        self.decay = decay
        self.start = start
        self.step = 0
        self.part = part
        self.tensors: dict[str, Tensor] = _copy(module.get_submodule(part).state_dict())

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Update with the module's weights after one step of the optimiser."""
        self.step += 1
        for name, value in module.get_submodule(self.part).state_dict().items():
            average = self.tensors[name]
            if self.step >= self.start and average.is_floating_point():
                average.lerp_(value, 1.0 - self.decay)
            else:
                average.copy_(value)

    def averaged(self, module: M) -> M:
        """A module of the same structure with the averaged weights, in evaluation mode."""
        module.load_state_dict(self.tensors)
        return module.eval()

    def state(self) -> tuple[dict[str, Tensor], int]:
        """The averaged tensors, copied, and the number of updates so far."""
        return _copy(self.tensors), self.step

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Continue from what ``state`` returned; names and shapes must be the module's."""
        if tensors.keys() != self.tensors.keys():
            raise KeyError(f"average of other weights: {sorted(tensors.keys() ^ self.tensors.keys())}")
        for name, value in tensors.items():
            self.tensors[name].copy_(value)
        self.step = step


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
