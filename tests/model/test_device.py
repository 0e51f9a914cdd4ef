"""The name that a user gives becomes a device that is there."""

from __future__ import annotations

import pytest
import torch

from spectile.catalog.errors import UsageError
from spectile.model.device import resolve_device, visible_gpus


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_where_there_is_one(there: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == "cpu"


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        resolve_device("cuda")
    with pytest.raises(UsageError, match="unknown device"):
        resolve_device("tpu")


@pytest.mark.parametrize(
    ("named", "expected"), [(None, ["0", "1"]), ("5,GPU-7", ["5", "GPU-7"]), ("5,6,7", ["5", "6"])]
)
def test_gpus_are_called_as_this_process_was_given_them(
    named: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == expected
