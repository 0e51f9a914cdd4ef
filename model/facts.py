"""The facts of a checkpoint: JSON in the header of its file, checked before any weight is read.

Free of torch, so that models can be listed without it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from spectile.catalog.errors import CheckpointError

FILE = "model.safetensors"
"""The one file of a checkpoint, in its folder."""
FORMAT = 2
KEY = "spectile"
"""The entry of a file's header that holds our JSON."""
HEADER_LIMIT = 8 * 2**20
"""Most bytes of a header; that of the shipped weights has 80 kB."""
SHIPPED = ("vnir48-rgb", "vnir48-rgbn", "vnir48-s2", "vnir48", "hyperldm48")
"""Names of the weights inside the package."""
UNSHIPPED = {
    "scdm-paper": "48 or 102", "hyperldm-paper": "48", "hsr-diff-paper": "103", "sdp-paper": "103"
}  # fmt: skip
"""Presets without weights, with their bands: far too large to ship, or for one scene alone."""
REGRESSIONS = {"ridge": "regression", "lookup": "nearest-neighbour table"}
"""The baselines in a checkpoint; each is also a model with the name ``MODEL:ridge``."""


def split_name(model: str) -> tuple[str, str | None]:
    """``vnir48:ridge`` → (``vnir48``, ``ridge``); of a model without a colon the second is None."""
    name, colon, kind = model.rpartition(":")
    return (name, kind) if colon and kind in REGRESSIONS else (model, None)


class Closed(BaseModel):
    """Values of a checkpoint's JSON, each of its own type and no other."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class BandFactors(Closed):
    """What ``Calibration`` is made of."""

    samples: int = Field(ge=2, le=1_000_000)
    """With which it was fitted."""
    spread: list[float]
    """Of each band, as ``low`` and ``high``."""
    low: list[float]
    high: list[float]


class PlaceErrors(Closed):
    """Errors in one place, reflectance."""

    own: float
    """Of the model that was trained there."""
    left_out: float
    """Of one that was not."""


class Facts(Closed):
    """What a checkpoint's JSON may hold; anything else is refused."""

    format: Literal[2]
    """``FORMAT``."""
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """sha256 of all other facts and of the weights."""
    name: str = Field(min_length=1, max_length=200)
    """Of the model."""
    kind: str | None = Field(None, max_length=200)
    """Of the registry; None is the compact cascade."""
    fill: list[float] | None = Field(None, min_length=1, max_length=2000)
    """Reflectance per channel, of all inputs, that stands in for masked pixels."""
    cascade: dict[str, Any] | None = None
    """The compact cascade's configuration."""
    preset: dict[str, Any] | None = None
    """That of any other kind."""
    schedule: dict[str, Any] | None = None
    """Of the noise, for people."""
    prediction: str | None = None
    """What the network gives, for people."""
    scaling: str | None = None
    """What it takes, for people."""
    recipe: dict[str, Any] | None = None
    """It was trained by."""
    training: dict[str, Any] | None = None
    """The settings of training, defaults included."""
    data: list[dict[str, Any]] | None = None
    """The data that it was trained on, with licences."""
    trained_steps: int | None = Field(None, ge=0)
    """Of the optimiser."""
    chosen: dict[str, Any] | None = None
    """What an evaluation chose."""
    calibration: BandFactors | None = None
    """The calibration of each band."""
    sites: dict[str, PlaceErrors] | None = None
    """Errors of the places that were left out."""
    held_out: dict[str, dict[str, Any]] | None = None
    """Errors on scenes that training never saw."""


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint file as plain JSON values; its weights are not read.

    Raises
    ------
    CheckpointError
        Where the file is missing or damaged, or its facts are none of ours.
    """
    text = read_header(path)
    if text is None:
        raise CheckpointError(
            "not a checkpoint of spectile", where=str(path), expected=f"{KEY} in its header",
            remedy="train one with `spectile train`",
        )  # fmt: skip
    facts = parse(text, path)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        got = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        raise CheckpointError("unknown checkpoint format", where=str(path), got=got, expected=FORMAT)
    try:
        Facts.model_validate(facts)
    except ValidationError as err:
        raise CheckpointError(
            f"the checkpoint's header is invalid: {first_error(err)}", where=str(path)
        ) from err
    return facts


def first_error(err: ValidationError) -> str:
    """The first of pydantic's errors: where, what and got, short enough for a line."""
    first = err.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}, got {repr(first['input'])[:60]}"


def parse(text: str, path: Path) -> Any:
    """The values of a header's JSON; CheckpointError where it is none, or too deep or too long a number."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as err:
        raise damaged(path, err) from err


def read_header(path: Path) -> str | None:
    """Our JSON in the header of a safetensors file, as text; None where it has none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as err:
        raise CheckpointError("not in the checkpoint folder", where=str(path)) from err
    except OSError as err:
        raise damaged(path, err) from err
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise CheckpointError(
            "damaged file: impossible length of its header",
            where=str(path), got=length, expected=f"2 to {max(2, min(HEADER_LIMIT, size - 8))} bytes",
            remedy="fetch it again",
        )  # fmt: skip
    try:
        with safe_open(path, framework="numpy") as opened:
            return (opened.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as err:
        raise damaged(path, err) from err


def damaged(path: Path, err: Exception) -> CheckpointError:
    """The error of a file that cannot be read, in one line."""
    reason = str(err).partition("\n")[0][:200]
    return CheckpointError(f"damaged file: {reason}", where=str(path), remedy="fetch it again")
