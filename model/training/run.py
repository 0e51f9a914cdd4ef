"""A training run on disk: its steps, its log, and a state that continues to the same weights.

No random state is kept: everything random in step i is a function of the seed and i alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spectile.catalog.errors import CheckpointError
from spectile.model import checkpoint
from spectile.model.data.crops import TrainingScene
from spectile.model.facts import FILE
from spectile.model.training.ema import Ema

STATE = "state.safetensors"
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
    finish: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]] | None = None,
    stop_after: int | None = None,
) -> None:
    """Train the model from where ``out_dir`` left off to the end, in place.

    A process may be killed at any point: each file is replaced whole, the state comes before the checkpoint
    that is made of it, and what follows a state is done again when the run goes on.

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
    finish : makes tensors and further facts of the last checkpoint; None takes the average as it is.
    stop_after : end early after this step, as an interruption would.

    Raises
    ------
    CheckpointError
        Where the state in ``out_dir`` is of another identity, or damaged; where there is a checkpoint
        without a state.
    """
    check_folder(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    first = _restore(out_dir, plain, model, optimiser, ema)
    began = time.monotonic()
    _drop_part_of_a_line(out_dir / LOG)
    with (out_dir / LOG).open("a", encoding="utf-8") as log:

        def record(line: dict[str, Any]) -> None:
            log.write(json.dumps(line) + "\n")
            log.flush()
            progress(line)

        def follow(done: int) -> None:
            """What follows a state: the checkpoint, and then a call to the observer, which finds both."""
            measured = validate()
            tensors, more = finish() if finish is not None and done == steps else (ema.state()[0], {})
            checkpoint.save(out_dir, tensors, {**facts, **more, "trained_steps": done})
            record({"step": done, **measured})

        if first:
            follow(first)
        for number in range(first, steps):
            losses = step(number)
            ema.update(model)
            done = number + 1
            if done % log_every == 0:
                seconds = (time.monotonic() - began) / (done - first)
                record({"step": done, "of": steps, **losses, "seconds_a_step": round(seconds, 4)})
            if done % validate_every == 0 or done == steps:
                _save_state(out_dir, plain, model, optimiser, ema)
                follow(done)
            if done == stop_after:
                break


def check_folder(out_dir: Path) -> None:
    """Raise CheckpointError where a training would write over a checkpoint that it did not make."""
    if (out_dir / FILE).exists() and not (out_dir / STATE).exists():
        raise CheckpointError(
            "the folder holds a checkpoint but no state of its training",
            where=str(out_dir),
            remedy="use another --out, or remove it",
        )


def _drop_part_of_a_line(path: Path) -> None:
    """Cut off a log's last line where a process was killed within it."""
    if path.exists():
        whole = path.read_bytes()
        os.truncate(path, whole.rfind(b"\n") + 1)


def scene_facts(scenes: Sequence[TrainingScene]) -> list[dict[str, Any]]:
    """The part of a state's identity from the scenes: everything, their values as a sha256."""
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
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def generator_of(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator that a key seeds; each kind of device draws other numbers."""
    seed = int(np.random.default_rng(key).integers(2**62))
    return torch.Generator(device).manual_seed(seed)


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
    checkpoint.write(out_dir / STATE, tensors, identity)


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
    saved = checkpoint.read_json(out_dir / STATE)
    if saved != identity:
        known = saved if isinstance(saved, dict) else {}
        changed = [key for key in identity if known.get(key) != identity[key]]
        raise CheckpointError(
            "the folder holds a training run of another configuration",
            where=str(out_dir),
            got=f"other {', '.join(changed)}",
            remedy="use another --out, or remove it",
        )
    tensors = checkpoint.read_tensors(out_dir / STATE)
    try:
        step = int(tensors.pop("step"))
        model.load_state_dict(_below(tensors, "model/"))
        ema.restore(_below(tensors, "ema/"), step)
    except (KeyError, RuntimeError, ValueError) as err:
        reason = " ".join(str(err).split())[:200]
        raise CheckpointError(
            f"the state of the training does not fit the model: {reason}",
            where=str(out_dir / STATE),
            remedy="use another --out, or remove it",
        ) from err
    for name, parameter in model.named_parameters():
        state = _below(tensors, f"optimiser/{name}/")
        optimiser.state[parameter] = {
            key: value.clone() if value.dim() == 0 else torch.empty_like(parameter).copy_(value)
            for key, value in state.items()
        }
    return step


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
