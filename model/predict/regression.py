"""The baselines of a checkpoint as predictors of their own: they draw nothing, and cost next to nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.catalog.inputs import Batch, InputSpec
from spectile.model import checkpoint
from spectile.model.closed.baselines import Baseline, baselines_of
from spectile.model.predict.predictor import RUNTIME_BYTES, fill_of, load_network

KINDS = ("ridge", "lookup")
BATCH = 4
WORKING_BYTES = 1024
"""A pixel's terms, or its nearest codes and their spectra, while a tile is made."""


def split_name(model: str) -> tuple[str, str | None]:
    """``vnir48:ridge`` → (``vnir48``, ``ridge``); of a model without a colon the second is None."""
    name, colon, kind = model.rpartition(":")
    return (name, kind) if colon and kind in KINDS else (model, None)


class RegressionPredictor:
    """A per-pixel estimate of the mean; implements the pipeline's ``Predictor``."""

    def __init__(self, model: str, kind: str, *, batch: int | None = None) -> None:
        """Load ``ridge`` or ``lookup`` of a shipped model's name or of a checkpoint folder.

        Raises
        ------
        CheckpointError
            Where the checkpoint or its baselines are missing or damaged.
        UsageError
            Where the batch is less than 1.
        """
        if batch is not None and batch < 1:
            raise UsageError("batch", got=batch, expected="1 or more")
        loaded = checkpoint.load(model)
        config = load_network(loaded).config
        self.bands: Bands = config.bands
        """The bands of what it predicts."""
        fill = tuple(map(float, fill_of(loaded)))
        self.inputs = (InputSpec("rgb", config.response, fill),)
        """A colour scene as the model's camera sees it; masked pixels hold the training data's mean."""
        self.stride = 1
        """It looks at single pixels."""
        self.batch = batch or BATCH
        """How many tiles a call takes best."""
        self.calibration: Calibration | None = None
        """None: it has no samples."""
        if not (found := baselines_of(loaded)):
            raise CheckpointError("no baselines in the checkpoint", where=model)
        self.regression: Baseline = found[kind]
        """What predicts the pixels of a tile."""
        self._check_bands(model)
        self._settings: dict[str, object] = {
            "name": f"{loaded.metadata['name']}:{kind}",
            "digest": checkpoint.digest_of({}, loaded.baselines),
            "steps": 0, "sampler": "none", "estimate": "regression", "seed": 0, "dtype": "float32",
            "device": "cpu",
        }  # fmt: skip

    def _check_bands(self, model: str) -> None:
        count = len(self.regression.predict(np.zeros((3, 1, 1), dtype=np.float32)))
        if count != len(self.bands):
            raise CheckpointError(
                "the baselines are for other bands", where=model, got=count, expected=len(self.bands)
            )

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that can change a value, as plain JSON values."""
        return dict(self._settings)

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield the same (N, B, h, w) float32 reflectance for each sample; one tile is made at a time."""
        out = np.stack(
            [np.ascontiguousarray(self.regression.predict(tile)) for tile in batch.rasters["rgb"].values]
        )
        for _ in samples:
            yield out

    def memory(self, tile: int) -> int:
        """Bytes that a call takes at its peak for square tiles of ``tile`` pixels."""
        output = 2 * self.batch * len(self.bands) * 4 * tile**2
        return int(RUNTIME_BYTES + output + WORKING_BYTES * tile**2)
