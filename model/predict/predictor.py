"""The predictor of a model's name, such as ``vnir48``, ``vnir48:ridge`` or a folder."""

from __future__ import annotations

from spectile.catalog.errors import UsageError
from spectile.catalog.limits import check_seed
from spectile.model import checkpoint
from spectile.model.device import limit_threads, resolve_device
from spectile.model.facts import split_name
from spectile.model.predict.acceleration import accelerate, resolve_dtype
from spectile.model.predict.network import NetworkPredictor, check_steps, fill_of, load_calibration
from spectile.model.predict.regression import RegressionPredictor
from spectile.model.registry import load_network, system_of
from spectile.model.system import Config

DEFAULT_BATCH = {"cpu": 1, "cuda": 4}


def load_predictor(
    model: str,
    *,
    steps: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    batch: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    compiled: bool = False,
    threads: int | None = None,
    weights: bool = True,
) -> NetworkPredictor | RegressionPredictor:
    """The predictor of a shipped model's name or of a checkpoint folder.

    Parameters
    ----------
    model : ``vnir48``, or the path of a folder that ``spectile train`` wrote, of any kind; with ``:ridge`` or
        ``:lookup`` a regression that comes with it.
    steps : solver steps a stage; 1 gives the posterior mean. None is 1 where one sample is drawn, since the
        mean errs less than a sample, and else the checkpoint's default.
    samples : how many will be drawn; None does not say.
    seed : of the noise, in [0, 2**32).
    batch : tiles a call; None is 1 on a CPU and 4 on CUDA. Changes no value on a CPU.
    device : ``auto``, ``cpu`` or ``cuda``.
    dtype : ``float32``, ``bfloat16`` for the networks, or ``auto``: bfloat16 for a system that was tried in
        it on a device that computes in it, else float32.
    compiled : compile the networks, which takes a minute or two before the first tile.
    threads : torch's on the CPU, in this process; None leaves them as they are.
    weights : False reads none: the predictor then knows its settings, and cannot predict.

    Raises
    ------
    CheckpointError
        Where the checkpoint is missing, damaged or of an unknown kind.
    UsageError
        Where a setting cannot be used.
    """
    check_seed(seed)
    if batch is not None and batch < 1:
        raise UsageError("batch", got=batch, expected="1 or more")
    name, regression = split_name(model)
    if regression is not None and steps is not None:
        raise UsageError("a regression takes no steps", got=f"--model {model} --steps {steps}")
    loaded = checkpoint.load(name) if weights else checkpoint.outline(name)
    if regression is not None:
        return RegressionPredictor(loaded, regression, batch=batch)
    kind = resolve_device(device)
    limit_threads(threads)
    fill, network = fill_of(loaded), load_network(loaded)
    config = network.config
    count = _default_steps(config, samples) if steps is None else steps
    check_steps(config, count)
    number = resolve_dtype(dtype, kind, tried=system_of(loaded).bfloat16)
    if weights:
        accelerate(network, device=kind, dtype=number, compiled=compiled)
        network.to(kind)
    return NetworkPredictor(
        network,
        name=str(loaded.metadata["name"]),
        digest=loaded.digest,
        fill=fill,
        steps=count,
        seed=seed,
        batch=DEFAULT_BATCH[kind] if batch is None else batch,
        device=kind,
        dtype=number,
        compiled=compiled,
        # Fitted at the checkpoint's own steps; with others the samples spread by another amount.
        calibration=load_calibration(loaded, config.bands) if count == config.steps else None,
    )


def _default_steps(config: Config, samples: int | None) -> int:
    means = config.estimate(1) == "posterior mean"
    return 1 if samples == 1 and means else config.steps
