"""The predictor that settings name."""

from __future__ import annotations

import time

from spectile.catalog.inputs import even_batch
from spectile.flows.run.settings import FusionNetwork, Settings
from spectile.pipeline.block.predict import BandsRepeat, Predictor


def predictor_of(settings: Settings, *, weights: bool = True) -> Predictor:
    """The predictor that the settings name, loaded in this process; without weights it cannot predict."""
    if is_repeat(settings.model):
        return BandsRepeat(batch=settings.batch or 1, sensor=settings.model.partition(":")[2])
    if isinstance(settings, FusionNetwork):
        from spectile.flows.run.fused import load_fused

        return load_fused(settings)
    # torch takes seconds to import; nothing that needs no network should wait for it.
    from spectile.model.predict.predictor import load_predictor

    predictor: Predictor = load_predictor(
        settings.model,
        steps=settings.steps,
        samples=settings.samples,
        seed=settings.seed,
        batch=settings.batch,
        device=settings.device,
        dtype=settings.dtype,
        compiled=settings.compiled,
        threads=settings.threads,
        weights=weights,
    )
    return predictor


def is_repeat(model: str) -> bool:
    """Whether a model is ``bands-repeat``, or that of a sensor's bands, ``bands-repeat:SENSOR``."""
    return model.partition(":")[0] == "bands-repeat"


def time_tile(predictor: Predictor, tile: int) -> float:
    """Seconds of a tile of ``tile`` pixels and one sample, the best of three calls."""
    batch = even_batch(predictor.inputs, predictor.batch, tile)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in predictor.predict(batch, range(1)):
            pass
        times.append(time.perf_counter() - start)
    return min(times) / predictor.batch
