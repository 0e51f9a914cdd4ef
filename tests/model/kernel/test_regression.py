"""The mean of two regressions and what is drawn around it."""

from __future__ import annotations

import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.sensors import FILE_SENSORS
from spectile.model.kernel.config import KernelConfig
from spectile.model.kernel.regression import KernelRegression


def _model(response=RGB_CAMERA) -> KernelRegression:
    torch.manual_seed(0)
    model = KernelRegression(KernelConfig(VNIR48, response, degree=2, kernels=6, components=3)).eval()
    closed = model.only.closed
    closed.weight.copy_(0.02 * torch.randn_like(closed.weight))
    closed.bias.copy_(torch.linspace(0.1, 0.4, 49))
    closed.kernel_bias.fill_(-1.0)
    closed.basis.copy_(0.01 * torch.linalg.qr(torch.randn(48, 48))[0])
    return model


def _draw(value: float):
    return lambda stage, step: torch.full((2, 3, 8, 8), value)


def test_one_step_gives_the_mean_and_draws_nothing() -> None:
    model, scene = _model(), torch.rand(2, 3, 8, 8)

    def refuse(stage: int, step: int) -> torch.Tensor:
        raise AssertionError("the mean draws no noise")

    mean = model.sample(scene, refuse, steps=1)
    above, below = model.sample(scene, _draw(1.0)), model.sample(scene, _draw(-1.0))
    assert mean.shape == (2, 48, 8, 8)
    torch.testing.assert_close((above + below) / 2, mean, atol=1e-5, rtol=0)
    assert float((above - below).abs().max()) > 1e-3


def test_colours_beyond_training_are_clipped_to_it() -> None:
    model = _model()
    model.only.low.fill_(0.1)
    model.only.high.fill_(0.6)
    inside, beyond = torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 50.0)
    assert torch.equal(model.begin(beyond).mean, model.begin(inside).mean)


def test_a_pixel_depends_on_itself_alone() -> None:
    model, scene = _model(), torch.rand(1, 3, 8, 8)
    other = scene.clone()
    other[..., 0] = 0.9
    assert torch.equal(model.begin(other).mean[..., 4], model.begin(scene).mean[..., 4])


def test_any_number_of_channels_goes_in() -> None:
    sensor = FILE_SENSORS["sentinel2"].bands.subset([1, 2, 3, 7])
    model = _model(sensor)
    (spec,) = model.inputs([0.1, 0.2, 0.3, 0.4])
    assert (spec.name, len(spec.bands)) == ("scene", 4)
    assert model.sample(torch.rand(2, 4, 8, 8), _draw(0.5)).shape == (2, 48, 8, 8)
