from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from spectile.catalog.errors import UsageError
from spectile.model.networks.unet_shared_encoder import SharedEncoderConfig, SharedEncoderUNet

TINY: dict[str, Any] = {
    "width": 8,
    "multipliers": (1, 2, 2),
    "blocks": 1,
    "attention_levels": (1,),
    "time_width": 16,
    "groups": 4,
}


def tiny(**changes: Any) -> SharedEncoderUNet:
    torch.manual_seed(0)
    return SharedEncoderUNet(SharedEncoderConfig(channels=6, condition_channels=3, **(TINY | changes)))


@pytest.mark.parametrize(
    ("bands", "condition", "parameters", "at_128", "at_256"),
    [
        (12, 3, 77.47e6, 133.1e9, 535.4e9),
        (48, 12, 77.56e6, 134.7e9, 541.5e9),
        (17, 3, 77.48e6, 133.3e9, 536.1e9),
        (102, 17, 77.69e6, 136.8e9, 550.0e9),
    ],
)
def test_published_sizes_have_the_measured_cost(
    bands: int, condition: int, parameters: float, at_128: float, at_256: float
) -> None:
    # Measured on the authors' network, to the digits given; two operations per multiply-add.
    with torch.device("meta"):
        network = SharedEncoderUNet(SharedEncoderConfig(channels=bands, condition_channels=condition))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=1e-3)
    assert network.config.stride == 64
    for size, expected in ((128, at_128), (256, at_256)):
        state, given = (torch.empty(1, c, size, size, device="meta") for c in (bands, condition))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(state, torch.zeros(1, device="meta"), given)
        assert counter.get_total_flops() / 2 == pytest.approx(expected, rel=1e-3)


def test_every_parameter_gets_a_gradient() -> None:
    network = tiny()
    out = network(torch.randn(2, 6, 16, 16), torch.tensor([3.0, 900.0]), torch.randn(2, 3, 16, 16))
    assert out.shape == (2, 6, 16, 16)
    out.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_size_that_is_no_multiple_of_the_stride_is_refused() -> None:
    network = tiny()
    assert network.config.stride == 4
    with pytest.raises(UsageError, match="multiples of 4"):
        network.predict(torch.zeros(1, 6, 16, 18), torch.zeros(1), [])


def test_features_of_a_fixed_time_serve_every_step() -> None:
    network = tiny(condition_time="fixed").eval()
    state, condition = torch.randn(1, 6, 8, 8), torch.randn(1, 3, 8, 8)
    once = network.encode_condition(condition, torch.tensor([5.0]))
    time = torch.tensor([700.0])
    with torch.no_grad():
        assert torch.equal(network.predict(state, time, once), network(state, time, condition))


def test_features_of_the_step_s_time_change_with_it() -> None:
    network = tiny().eval()
    condition = torch.randn(1, 3, 8, 8)
    early, late = (network.encode_condition(condition, torch.tensor([t])) for t in (5.0, 700.0))
    assert torch.equal(early[0], late[0])  # the stem does not know the time
    assert not torch.allclose(early[1], late[1])


def test_state_time_and_condition_each_matter() -> None:
    network = tiny().eval()
    state, condition, time = torch.randn(1, 6, 8, 8), torch.randn(1, 3, 8, 8), torch.tensor([100.0])
    with torch.no_grad():
        base = network(state, time, condition)
        assert not torch.allclose(base, network(state + 1, time, condition))
        assert not torch.allclose(base, network(state, time + 300, condition))
        assert not torch.allclose(base, network(state, time, condition + 1))


def test_samples_of_a_batch_do_not_mix() -> None:
    network = tiny().eval()
    state, condition = torch.randn(3, 6, 8, 8), torch.randn(3, 3, 8, 8)
    time = torch.tensor([1.0, 50.0, 999.0])
    with torch.no_grad():
        batch = network(state, time, condition)
        for i in range(3):
            alone = network(state[i : i + 1], time[i : i + 1], condition[i : i + 1])
            torch.testing.assert_close(alone[0], batch[i], rtol=1e-4, atol=1e-5)
