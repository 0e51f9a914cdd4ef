"""Faster networks with the same interface: bfloat16 and compilation.

Only the calls that a ``Denoiser`` names are touched. What a system computes around them (the closed form,
the solver, truncation) stays in float32, where bfloat16 would cost accuracy and gain nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spectile.catalog.errors import UsageError
from spectile.model.networks.denoiser import Denoiser

DTYPES = ("float32", "bfloat16")

Call = Callable[..., Any]


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 itself; where it does not, float32 is as fast or faster."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older versions of torch do not say.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def resolve_dtype(name: str, device: str, *, tried: bool) -> str:
    """``float32`` or ``bfloat16``; ``auto`` is bfloat16 where that is native and the model ``tried`` in it.

    Raises
    ------
    UsageError
        Where the name is another.
    """
    if name not in ("auto", *DTYPES):
        raise UsageError("unknown dtype", got=name, expected=", ".join(("auto", *DTYPES)))
    return ("bfloat16" if tried and has_bfloat16(device) else "float32") if name == "auto" else name


def denoisers(model: nn.Module) -> list[Denoiser]:
    """The denoisers of a model, in the order of its stages."""
    return [module for module in model.modules() if isinstance(module, Denoiser)]


def accelerate(model: nn.Module, *, device: str, dtype: str, compiled: bool) -> None:
    """Put faster calls in the place of the networks' own; their weights stay as they are. Once a model.

    Parameters
    ----------
    model : in evaluation mode.
    device : ``cpu`` or ``cuda``.
    dtype : ``bfloat16`` for convolutions, matrix products and the features between them.
    compiled : compile each call for the shapes that it sees; one more shape compiles it once more.
    """
    for denoiser in denoisers(model):
        for name in denoiser.calls:
            call = getattr(denoiser, name)
            if dtype == "bfloat16":
                call = _in_bfloat16(call, device, results=name not in denoiser.narrow)
            if compiled:
                call = _compiled(call)
            setattr(denoiser, name, call)


def _in_bfloat16(call: Call, device: str, *, results: bool) -> Call:
    """The call under autocast; with ``results``, what comes out at the input's size is float32 again."""

    def run(first: Tensor, *rest: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16):
            out = call(first, *rest)
        return _widen(out, first.shape[-2:]) if results else out

    return run


def _widen(value: Any, size: torch.Size) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.shape[-2:] == size else value
    return tuple(_widen(part, size) for part in value)


def _compiled(call: Call) -> Call:
    compiled = torch.compile(call, dynamic=False)

    def run(*arguments: Any) -> Any:
        try:
            return compiled(*arguments)
        except torch._dynamo.exc.BackendCompilerFailed as err:
            reason = str(err.inner_exception).strip().splitlines()[0]
            raise UsageError(
                "torch cannot compile the network here", got=reason, remedy="leave out --compile"
            ) from err

    return run
