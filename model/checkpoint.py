"""Weights on disk: a folder with safetensors and JSON, under one digest. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from spectile.catalog.errors import CheckpointError

TENSORS = "model.safetensors"
METADATA = "model.json"
FORMAT = 1
SHIPPED = ("vnir48",)
"""Names of the weights inside the package."""
UNSHIPPED = ("scdm-paper",)
"""Presets whose weights are far too large to ship."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint folder holds, verified."""

    metadata: Mapping[str, Any]
    """Model, bands, response, training data, held-out metrics, as plain JSON values."""
    tensors: dict[str, Tensor]
    """The weights by name."""
    digest: str
    """sha256 over the metadata and the tensors."""
    folder: Path
    """Where it was read from."""


def digest_of(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of canonical JSON and of each tensor's name, type, shape and bytes, in order of name."""
    facts = {key: value for key, value in metadata.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Write a checkpoint folder and return its digest; each file is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    facts: dict[str, Any] = json.loads(json.dumps({**metadata, "format": FORMAT}))
    facts["digest"] = digest_of(facts, plain)
    write_tensors(folder / TENSORS, plain)
    write_json(folder / METADATA, facts)
    return str(facts["digest"])


def load(name: str | Path) -> Checkpoint:
    """The checkpoint of a shipped name or of a folder.

    Raises
    ------
    CheckpointError
        Where it is missing, damaged, of another format, or does not match its digest.
    """
    folder = locate(name)
    metadata = read_json(folder / METADATA)
    tensors = read_tensors(folder / TENSORS)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        got = metadata.get("format") if isinstance(metadata, dict) else type(metadata).__name__
        raise CheckpointError("unknown checkpoint format", where=str(name), got=got, expected=FORMAT)
    digest = digest_of(metadata, tensors)
    if digest != metadata.get("digest"):
        raise CheckpointError(
            "the checkpoint does not match its digest",
            where=str(name),
            got=digest[:12],
            expected=str(metadata.get("digest"))[:12],
            remedy="it was changed or damaged: fetch it again",
        )
    return Checkpoint(metadata, tensors, digest, folder)


def locate(name: str | Path) -> Path:
    """The folder of a shipped name or of a path."""
    if str(name) in UNSHIPPED:
        recipe = files("spectile.model") / "recipes" / f"{name}.toml"
        raise CheckpointError(
            f"no weights are shipped for {name}",
            remedy=f"train them with `spectile train {recipe} --out FOLDER`, then use --model FOLDER",
        )
    if str(name) in SHIPPED:
        with as_file(files("spectile.model") / "weights" / str(name)) as folder:
            return Path(folder)
    folder = Path(name)
    if not folder.is_dir():
        known = ", ".join((*SHIPPED, *UNSHIPPED))
        raise CheckpointError("unknown model", got=str(name), expected=f"{known} or a checkpoint folder")
    return folder


def read_json(path: Path) -> Any:
    """What a JSON file holds; CheckpointError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise CheckpointError("not in the checkpoint folder", where=str(path)) from err
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as err:
        raise CheckpointError(f"damaged file: {err}", where=str(path), remedy="fetch it again") from err


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What a safetensors file holds; CheckpointError where it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError as err:
        raise CheckpointError("not in the checkpoint folder", where=str(path)) from err
    except (SafetensorError, OSError) as err:
        raise CheckpointError(f"damaged file: {err}", where=str(path), remedy="fetch it again") from err


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors beside the path and move them onto it, so that a crash leaves the old file."""
    part = path.with_name(path.name + ".part")
    save_file(dict(tensors), part)
    os.replace(part, path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON the same way."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(part, path)
