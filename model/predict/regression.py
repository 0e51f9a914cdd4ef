"""The baselines of a checkpoint as predictors: they draw nothing, and cost almost nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from spectile.catalog.bands import Bands
from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import CheckpointError
from spectile.catalog.inputs import Batch, InputSpec
from spectile.model.checkpoint import Checkpoint, digest_of
from spectile.model.closed.baselines import Baseline, baselines_of
from spectile.model.predict.network import RUNTIME_BYTES, fill_of
from spectile.model.registry import load_config

BATCH = 1
WORKING_BYTES = 1024
"""A pixel's terms, or its nearest codes and their spectra, while a tile is made."""


class RegressionPredictor:
    """A per-pixel estimate of the mean; implements the pipeline's ``Predictor``."""

    def __init__(self, loaded: Checkpoint, kind: str, *, batch: int | None = None) -> None:
        """Take ``ridge`` or ``lookup`` from a checkpoint.

        Raises
        ------
        CheckpointError
            Where its configuration cannot be used, or its baselines are missing or damaged.
        """
        config = load_config(loaded)
        self.bands: Bands = config.bands
        """The bands of what it predicts."""
        # A fusion model's fill goes on with that of its other input, at which a regression does not look.
        fill = tuple(map(float, fill_of(loaded)[: len(config.response)]))
        self.inputs = (InputSpec("rgb", config.response, fill),)
        """A colour scene as the model's camera sees it; masked pixels hold the training data's mean."""
        self.stride = 1
        """It looks at single pixels."""
        self.reach: int | None = 0
        """It looks at single pixels."""
        self.batch = batch or BATCH
        """The best number of tiles in a call."""
        self.calibration: Calibration | None = None
        """None: it has no samples."""
        if not (baselines := baselines_of(loaded)):
            raise CheckpointError("no baselines in the checkpoint", where=str(loaded.folder))
        self.regression: Baseline = baselines[kind]
        """The regression that predicts the pixels of a tile."""
        self._check_bands(str(loaded.folder))
        self._settings: dict[str, object] = {
            "name": f"{loaded.metadata['name']}:{kind}",
            "digest": digest_of({}, loaded.baselines),
            "steps": 0, "sampler": "none", "estimate": "regression", "seed": 0, "dtype": "float32",
            "device": "cpu",
        }  # fmt: skip

    def _check_bands(self, where: str) -> None:
        count = len(self.regression.predict(np.zeros((len(self.inputs[0].bands), 1, 1), dtype=np.float32)))
        if count != len(self.bands):
            raise CheckpointError(
                "the baselines are for other bands", where=where, got=count, expected=len(self.bands)
            )

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that can change a value, as plain JSON values."""
        return dict(self._settings)

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        """Yield the same (N, B, h, w) float32 reflectance for each sample; one tile is made at a time."""
        tiles = batch.rasters[self.inputs[0].name].values
        out = np.stack([np.ascontiguousarray(self.regression.predict(tile)) for tile in tiles])
        for _ in samples:
            yield out

    def memory(self, tile: int) -> int:
        """Bytes that a call takes at its peak for square tiles of ``tile`` pixels."""
        output = 2 * self.batch * len(self.bands) * 4 * tile**2
        return int(RUNTIME_BYTES + output + WORKING_BYTES * tile**2)
