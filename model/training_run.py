"""A training run on disk: its steps, its log, and a state that continues to the same weights.

Nothing random is kept: what is random in step i is a function of the seed and i alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from catalog.errors import CheckpointError
from model import checkpoint
from model.dataset import TrainingScene
from model.ema import Ema

STATE = "state.safetensors"
PROGRESS = "state.json"
LOG = "log.jsonl"

Progress = Callable[[Mapping[str, Any]], None]


def run_steps(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: Ema,
    out_dir: Path,
    *,
    identity: Mapping[str, Any],
    facts: Mapping[str, Any],
    steps: int,
    log_every: int,
    validate_every: int,
    step: Callable[[int], dict[str, float]],
    validate: Callable[[], dict[str, float]],
    progress: Progress,
    stop_after: int | None = None,
) -> None:
    """Train the model from where ``out_dir`` left off to the end, in place.

    Parameters
    ----------
    model, optimiser, ema : what is trained, and its average, which is what the checkpoint holds.
    out_dir : the checkpoint's folder, with the log and the state beside it.
    identity : what a state must agree on to be continued.
    facts : for the checkpoint.
    steps : of the whole run.
    log_every, validate_every : steps between lines of the log; between validations and saved states.
    step : takes the step of a number, from 0; returns the losses.
    validate : measures the average.
    progress : is called with each record that goes to the log.
    stop_after : end early after this step, as an interruption would.

    Raises
    ------
    CheckpointError
        Where the state in ``out_dir`` is of another identity, or damaged.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    first = _restore(out_dir, plain, model, optimiser, ema)
    began = time.monotonic()
    with (out_dir / LOG).open("a", encoding="utf-8") as log:

        def record(line: dict[str, Any]) -> None:
            log.write(json.dumps(line) + "\n")
            log.flush()
            progress(line)

        for number in range(first, steps):
            losses = step(number)
            ema.update(model)
            done = number + 1
            if done % log_every == 0:
                seconds = (time.monotonic() - began) / (done - first)
                record({"step": done, "of": steps, **losses, "seconds_a_step": round(seconds, 4)})
            if done % validate_every == 0 or done == steps:
                measured = validate()
                _save_state(out_dir, plain, model, optimiser, ema)
                checkpoint.save(out_dir, ema.state()[0], {**facts, "trained_steps": done})
                # Last, so that whoever is told finds the checkpoint that was measured.
                record({"step": done, **measured})
            if done == stop_after:
                break


def scene_facts(scenes: Sequence[TrainingScene]) -> list[dict[str, Any]]:
    """What of the scenes a state must agree on: everything, their values as a sha256."""
    return [
        {
            "name": scene.name,
            "shape": list(scene.cube.shape),
            "weight": scene.weight,
            "site": scene.site,
            "bands": scene.bands.to_json(),
            "sha256": _digest(scene.cube, scene.valid),
        }
        for scene in scenes
    ]


def _digest(*arrays: NDArray[Any]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def generator_of(*key: int) -> torch.Generator:
    """The generator that a key seeds."""
    seed = int(np.random.default_rng(key).integers(2**62))
    return torch.Generator().manual_seed(seed)


def _save_state(
    out_dir: Path,
    identity: Mapping[str, Any],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: Ema,
) -> None:
    """Everything that the next step depends on; random numbers depend on the step alone."""
    average, step = ema.state()
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema/{name}": value for name, value in average.items()}
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state[parameter].items():
            tensors[f"optimiser/{name}/{key}"] = value
    tensors["step"] = torch.tensor(step)
    # Channels-last weights are not contiguous, which safetensors refuses. The step travels with the
    # tensors, so that the two files cannot disagree.
    checkpoint.write_json(out_dir / PROGRESS, identity)
    checkpoint.write_tensors(out_dir / STATE, {name: value.contiguous() for name, value in tensors.items()})


def _restore(
    out_dir: Path,
    identity: Mapping[str, Any],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: Ema,
) -> int:
    """Continue from the state in ``out_dir``; returns the next step, zero where there is none."""
    if not (out_dir / STATE).exists():
        return 0
    saved = checkpoint.read_json(out_dir / PROGRESS)
    if saved != identity:
        changed = [key for key in identity if saved.get(key) != identity[key]]
        raise CheckpointError(
            "the folder holds a training run of another configuration",
            where=str(out_dir),
            got=f"other {', '.join(changed)}",
            remedy="use another --out, or remove it",
        )
    tensors = checkpoint.read_tensors(out_dir / STATE)
    step = int(tensors.pop("step"))
    model.load_state_dict(_below(tensors, "model/"))
    ema.restore(_below(tensors, "ema/"), step)
    for name, parameter in model.named_parameters():
        state = _below(tensors, f"optimiser/{name}/")
        optimiser.state[parameter] = {
            key: value.clone() if value.dim() == 0 else torch.empty_like(parameter).copy_(value)
            for key, value in state.items()
        }
    return step


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
