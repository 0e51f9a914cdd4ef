"""The compact network's shapes, reach and cost."""

from __future__ import annotations

import pytest
import torch

from spectile.model.networks.unet_compact import CompactConfig, CompactUNet, fold, unfold


def _network(norm: str = "channel") -> CompactUNet:
    torch.manual_seed(0)
    config = CompactConfig(5, 4, 3, condition_width=16, condition_blocks=1, width=16, norm=norm)  # type: ignore[arg-type]
    network = CompactUNet(config).to(memory_format=torch.channels_last).eval()
    # Zero at the start of training, which would hide everything.
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.1)
    return network


@torch.inference_mode()
def _run(
    network: CompactUNet, condition: torch.Tensor, noisy: torch.Tensor, t: float = 500.0
) -> torch.Tensor:
    return network(noisy, torch.full((len(noisy),), t), network.encode(fold(condition))[1])


def test_the_output_has_the_shape_of_what_is_diffused() -> None:
    assert _run(_network(), torch.randn(2, 5, 32, 40), torch.randn(2, 3, 32, 40)).shape == (2, 3, 32, 40)


def test_an_untrained_network_predicts_zero() -> None:
    torch.manual_seed(0)
    network = CompactUNet(CompactConfig(5, 4, 3, condition_width=16, condition_blocks=1, width=16))
    assert not _run(network, torch.randn(1, 5, 16, 16), torch.randn(1, 3, 16, 16)).any()
    assert not network.encode(fold(torch.randn(1, 5, 16, 16)))[0].any()


def test_the_correction_has_the_targets_channels_and_no_time() -> None:
    correction = unfold(_network().encode(fold(torch.randn(2, 5, 32, 40)))[0])
    assert correction.shape == (2, 4, 32, 40)
    assert correction.std() > 0.0


def test_shifting_the_input_by_the_stride_shifts_the_output() -> None:
    network = _network()
    condition, noisy = torch.randn(1, 5, 160, 160), torch.randn(1, 3, 160, 160)
    whole = _run(network, condition, noisy)
    shifted = _run(network, condition[:, :, 8:, 8:], noisy[:, :, 8:, 8:])
    assert torch.allclose(whole[:, :, 72:-64, 72:-64], shifted[:, :, 64:-64, 64:-64], atol=1e-5)


@pytest.mark.parametrize(("norm", "reaches"), [("channel", False), ("group", True)])
def test_only_the_group_norm_carries_far_pixels_across_the_tile(norm: str, reaches: bool) -> None:
    network = _network(norm)
    condition, noisy = torch.randn(1, 5, 160, 160), torch.randn(1, 3, 160, 160)
    changed = condition.clone()
    changed[:, :, :8, :8] += 5.0
    difference = _run(network, condition, noisy) - _run(network, changed, noisy)
    assert (difference[:, :, -8:, -8:].abs().max() > 1e-5) == reaches


def test_folding_is_undone_by_unfolding() -> None:
    image = torch.randn(2, 3, 8, 6)
    folded = fold(image)
    assert folded.shape == (2, 12, 4, 3)
    assert folded.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(folded[0, 4:8, 1, 2], image[0, 1, 2:4, 4:6].flatten())
    assert torch.equal(unfold(folded), image)


def test_the_time_and_the_condition_change_the_output() -> None:
    network = _network()
    condition, noisy = torch.randn(1, 5, 32, 32), torch.randn(1, 3, 32, 32)
    first = _run(network, condition, noisy)
    assert not torch.allclose(first, _run(network, condition, noisy, t=10.0), atol=1e-3)
    assert not torch.allclose(first, _run(network, -condition, noisy), atol=1e-3)
