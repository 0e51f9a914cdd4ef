"""The closed-form means of a cascade, and the coarse bands as an imperfect first stage gives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import UsageError
from spectile.model.cascade.cascade import Stage, StageConfig
from spectile.model.cascade.means import perturb, training_pixels
from spectile.model.closed.closed_form import Prepared
from spectile.model.data.crops import CropSource, TrainingScene


def test_scenes_that_each_lack_a_band_give_no_pixels_to_fit() -> None:
    bands = VNIR48.subset(range(40))
    scene = TrainingScene("short", np.full((40, 20, 20), 0.2, np.float32), bands, np.ones((20, 20), bool))
    with pytest.raises(UsageError, match="every band"):
        training_pixels(CropSource([scene], VNIR48, RGB_CAMERA), 0, None, crop=16)


def _perturbed(scale: float) -> torch.Tensor:
    torch.manual_seed(0)
    stage = Stage(StageConfig(2, 8, 1, 8), 3, 6)
    stage.closed.basis.copy_(torch.linalg.qr(torch.randn(6, 6))[0])
    coarse = torch.full((3, 6, 16, 16), 5.0)
    known = Prepared(torch.zeros_like(coarse), torch.ones(3, 1, 16, 16), torch.zeros(3, 1, 16, 16))
    return perturb(stage, known, coarse, scale, torch.Generator().manual_seed(1)) - coarse


def test_perturbed_bands_err_within_the_diffused_components_and_by_the_scale() -> None:
    assert torch.equal(_perturbed(0.0), torch.zeros(3, 6, 16, 16))
    error = _perturbed(0.5)
    torch.testing.assert_close(_perturbed(1.0), 2.0 * error, atol=1e-5, rtol=1e-4)
    rank = torch.linalg.matrix_rank(error.movedim(1, 0).flatten(1), rtol=1e-3)
    assert int(rank) == 2
    # Half of the variance is shared by a crop.
    assert float(error.mean(dim=(2, 3)).abs().max()) > 0.05 * float(error.std())
