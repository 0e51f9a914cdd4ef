"""Where networks run, by the name that a user gives."""

from __future__ import annotations

import os

import torch

from spectile.catalog.errors import UsageError


def visible_gpus() -> list[str]:
    """The CUDA devices that this process sees, each as CUDA_VISIBLE_DEVICES names it."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(number) for number in range(count)])[:count]


def limit_threads(count: int | None) -> None:
    """Let torch use so many CPU threads in this process; None leaves them as they are."""
    if count is not None:
        torch.set_num_threads(count)


def resolve_device(name: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` is CUDA where there is one.

    Raises
    ------
    UsageError
        Where the name is another, or there is no CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError("unknown device", got=name, expected="auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device was found", remedy="use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
