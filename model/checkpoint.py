"""Weights on disk: one safetensors file in a folder, with everything known of them in its header.

One file and one rename: whenever a process is killed, a folder holds either the old checkpoint or the new
one. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spectile.catalog.errors import CheckpointError, UsageError
from spectile.model.facts import (
    FILE,
    FORMAT,
    KEY,
    SHIPPED,
    UNSHIPPED,
    damaged,
    first_error,
    parse,
    read_facts,
    read_header,
)

BASELINES = "baselines/"
"""Prefix of the names of the baselines' tensors."""
TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
"""What tensors may be of."""


M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint folder holds, verified."""

    metadata: Mapping[str, Any]
    """Model, bands, response, training data, held-out metrics, as plain JSON values; see ``Facts``."""
    tensors: dict[str, Tensor]
    """The weights by name."""
    baselines: dict[str, Tensor]
    """Tensors of the baselines by name; empty if it has none."""
    digest: str
    """sha256 over the metadata and all tensors."""
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


def save(
    folder: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    baselines: Mapping[str, Tensor] | None = None,
) -> str:
    """Write a checkpoint into a folder, whole or not at all; returns its digest.

    Parameters
    ----------
    folder : is made where it is not there; a checkpoint in it is replaced.
    tensors, baselines : by name.
    metadata : ``Facts`` without format and digest, which are added.
    """
    folder.mkdir(parents=True, exist_ok=True)
    everything = {**tensors, **{BASELINES + name: value for name, value in (baselines or {}).items()}}
    facts: dict[str, Any] = json.loads(json.dumps({**metadata, "format": FORMAT}))
    facts["digest"] = digest_of(facts, everything)
    write(folder / FILE, everything, facts)
    return str(facts["digest"])


def load(name: str | Path) -> Checkpoint:
    """The checkpoint of a shipped name or of a folder.

    Raises
    ------
    CheckpointError
        Where it is missing, damaged, of another format, holds what no checkpoint of ours holds, does not
        match its digest, or has weights that are no finite numbers.
    """
    folder = locate(name)
    metadata = read_facts(folder / FILE)
    everything = read_tensors(folder / FILE)
    digest = digest_of(metadata, everything)
    if digest != metadata["digest"]:
        raise CheckpointError(
            "the checkpoint does not match its digest",
            where=str(name),
            got=digest[:12],
            expected=str(metadata["digest"])[:12],
            remedy="it was changed or damaged: fetch it again",
        )
    weights = {key: value for key, value in everything.items() if not _is_baseline(key)}
    baselines = {key.removeprefix(BASELINES): everything[key] for key in everything if _is_baseline(key)}
    return Checkpoint(metadata, weights, baselines, digest, folder)


def outline(name: str | Path) -> Checkpoint:
    """A checkpoint whose weights are shapes alone, on the meta device, with its baselines, which are small.

    The digest is not checked: that needs all weights.

    Raises
    ------
    CheckpointError
        Where it is missing, damaged, of another format or holds what no checkpoint of ours holds.
    """
    folder = locate(name)
    metadata = read_facts(folder / FILE)
    shapes: dict[str, Tensor] = {}
    with _reading(folder / FILE), safe_open(folder / FILE, framework="pt") as file:
        names = list(file.keys())
        baselines = {key.removeprefix(BASELINES): file.get_tensor(key) for key in names if _is_baseline(key)}
        for key in names:
            if not _is_baseline(key):
                shapes[key] = torch.empty(file.get_slice(key).get_shape(), device="meta")
    return Checkpoint(metadata, shapes, baselines, str(metadata["digest"]), folder)


def _is_baseline(name: str) -> bool:
    return name.startswith(BASELINES)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors of a missing or damaged file into ours."""
    try:
        yield
    except FileNotFoundError as err:
        raise CheckpointError("not in the checkpoint folder", where=str(path)) from err
    except (SafetensorError, OSError, RuntimeError, ValueError, MemoryError) as err:
        raise damaged(path, err) from err


@contextmanager
def reading_configuration(loaded: Checkpoint, what: str) -> Iterator[None]:
    """Turn errors of an invalid configuration into ours; ``what`` it should be."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, UsageError) as err:
        reason = first_error(err) if isinstance(err, ValidationError) else " ".join(str(err).split())[:200]
        raise CheckpointError(f"not the weights of {what}: {reason}", where=str(loaded.folder)) from err


def load_module(loaded: Checkpoint, build: Callable[[], M], what: str) -> M:
    """A module with a checkpoint's weights, in evaluation mode on the CPU; of an outline it has none.

    Shapes are compared before anything is allocated, so the file's size limits the memory.

    Parameters
    ----------
    build : makes the module from the checkpoint's configuration.
    what : the weights are taken to be of, for the error.

    Raises
    ------
    CheckpointError
        Where the configuration cannot be used, or the tensors are not those of the module.
    """
    with reading_configuration(loaded, what):
        with torch.device("meta"):
            module = build()
        expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        stored = {key: tuple(value.shape) for key, value in loaded.tensors.items()}
        for key in sorted(expected.keys() | stored.keys()):
            if expected.get(key) != stored.get(key):
                raise ValueError(f"{key} has shape {stored.get(key)}, expected {expected.get(key)}")
        if not any(value.is_meta for value in loaded.tensors.values()):
            module = build()
            module.load_state_dict(loaded.tensors)
    return module.eval()


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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What a safetensors file holds.

    Raises
    ------
    CheckpointError
        Where it is missing or damaged, or a value is no finite number.
    """
    with _reading(path):
        tensors = load_file(path)
    for name, value in tensors.items():
        if value.dtype not in TYPES:
            raise CheckpointError(f"{name} has an unsupported type", where=str(path), got=value.dtype)
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{name} holds NaN or infinity", where=str(path), remedy="fetch or train it again"
            )
    return tensors


def read_json(path: Path) -> Any:
    """The JSON in the header of a file that ``write`` wrote; CheckpointError where it has none."""
    text = read_header(path)
    if text is None:
        raise CheckpointError("not a file of spectile", where=str(path), expected=f"{KEY} in its header")
    return parse(text, path)


def write(path: Path, tensors: Mapping[str, Tensor], value: Mapping[str, Any]) -> None:
    """Write tensors and JSON as one file, beside the path and then onto it: a crash leaves the old file."""
    part = path.with_name(path.name + ".part")
    part.touch()
    mode = part.stat().st_mode  # by the umask; the library's own files can be read only by their owner
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, part, metadata={KEY: json.dumps(value, sort_keys=True)})
    part.chmod(mode)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
