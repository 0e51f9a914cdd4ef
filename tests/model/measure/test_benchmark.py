"""What is counted is what the networks do; what is timed is all of a call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import CheckpointError, UsageError
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, StageConfig
from spectile.model.measure.benchmark import REST, count, matmul_speed, open_model, probed, threads, time_pass
from spectile.model.networks.unet_shared_encoder import SharedEncoderConfig
from spectile.model.predict.network import NetworkPredictor
from spectile.model.registry import SYSTEMS
from spectile.model.scdm.cascade import ScdmCascade
from spectile.model.scdm.preset import ScdmPreset, scdm_paper

TILE = 16


def _compact() -> SpectralCascade:
    stages = StageConfig(2, 8, 1, 8, kernels=16), StageConfig(3, 8, 1, 8)
    return SpectralCascade(CascadeConfig(VNIR48, RGB_CAMERA, stages=stages)).eval()


def _preset(**changes: Any) -> ScdmPreset:
    """The published Houston cascade over networks without attention, one level and one block."""
    sizes: dict[str, Any] = {
        "width": 8, "multipliers": (1,), "blocks": 1, "attention_levels": (), "time_width": 16, "groups": 4,
    } | changes  # fmt: skip
    preset = scdm_paper("houston")
    stages = tuple(replace(stage, network=replace(stage.network, **sizes)) for stage in preset.stages)
    return replace(preset, stages=stages)


def _predictor(cascade: SpectralCascade | ScdmCascade) -> NetworkPredictor:
    return NetworkPredictor(
        cascade, name="tiny", digest="", fill=np.zeros(3, np.float32), steps=2, seed=0, batch=2, device="cpu",
        dtype="float32",
    )  # fmt: skip


def test_multiply_adds_of_a_tiny_network_are_those_counted_by_hand() -> None:
    def by_hand(network: SharedEncoderConfig) -> tuple[float, float]:
        width, time = network.width, network.time_width
        pixels = TILE * TILE
        embedding = width * time + time * time
        # A block: two 3×3 convolutions, a bias from the time, and a 1×1 shortcut where widths differ.
        encoder = 2 * 9 * width * width * pixels + time * width
        middle = 2 * encoder
        wide = (9 * 3 * width * width + 9 * width * width + 3 * width * width) * pixels + time * width
        condition = 9 * network.condition_channels * width * pixels + encoder
        denoiser = 9 * network.channels * width * pixels + encoder
        # The middle's first block has attention: 1×1 projections to 3 widths and back, and two products.
        attention = (3 * width * width + width * width) * pixels + 2 * pixels * pixels * width
        denoiser += middle + attention + 2 * wide + 9 * width * network.channels * pixels
        return (condition + embedding) / pixels, (denoiser + embedding) / pixels

    preset = _preset()
    counted = count(ScdmCascade(preset), tile=TILE, steps=1)
    first, second = (by_hand(stage.network) for stage in preset.stages)
    assert counted == pytest.approx(
        {
            (1, "condition branch"): first[0],
            (1, "denoiser"): first[1],
            (2, "condition branch"): 2 * second[0],  # guidance: with the condition and without
            (2, "denoiser"): 2 * second[1],
        }
    )


def test_the_published_cascade_has_its_known_cost() -> None:
    with torch.device("meta"):
        cascade = ScdmCascade(scdm_paper("houston"))
    counted = count(cascade, tile=512, steps=1)
    first, second = (sum(value for key, value in counted.items() if key[0] == stage) for stage in (1, 2))
    assert first * 512**2 == pytest.approx(2186.6e9, rel=0.01)
    assert second * 512**2 == pytest.approx(2 * 2211.1e9, rel=0.01)
    assert 1000 * (first + second) == pytest.approx(25.2e9, rel=0.01)


def test_steps_cost_the_denoiser_alone() -> None:
    two, five = (count(_compact(), tile=TILE, steps=steps) for steps in (2, 5))
    for stage in (1, 2):
        assert five[stage, "denoiser"] == pytest.approx(2.5 * two[stage, "denoiser"])
        assert five[stage, "condition branch"] == two[stage, "condition branch"] > 0
        assert five[stage, "closed form"] == two[stage, "closed form"] > 0
        assert (stage, "noise") not in two


def test_a_condition_of_a_fixed_time_is_counted_once() -> None:
    counted = [count(ScdmCascade(_preset(condition_time="fixed")), tile=TILE, steps=n) for n in (1, 3)]
    for stage in (1, 2):
        assert counted[0][stage, "condition branch"] == counted[1][stage, "condition branch"]
        assert counted[1][stage, "denoiser"] == pytest.approx(3 * counted[0][stage, "denoiser"])


@pytest.mark.parametrize("cascade", [_compact(), ScdmCascade(_preset()).eval()], ids=["compact", "published"])
def test_a_pass_is_the_sum_of_its_parts(cascade: SpectralCascade | ScdmCascade) -> None:
    timed = time_pass(_predictor(cascade), tile=TILE, tiles=2)
    assert timed.seconds == pytest.approx(sum(timed.parts.values()))
    assert set(count(cascade, tile=TILE, steps=2)) < set(timed.parts)
    assert {(1, "noise"), (2, "noise"), REST} <= set(timed.parts)
    assert all(value > 0 for value in timed.parts.values())
    # Two tiles, each by itself on a CPU, two steps; the published second stage is guided.
    assert timed.forwards == ((4, 4) if isinstance(cascade, SpectralCascade) else (4, 8))


def test_probes_leave_the_model_as_it_was() -> None:
    cascade = _compact()
    before = [dict(vars(module)) for module in cascade.modules()]
    with probed(cascade, lambda: 0), pytest.raises(RuntimeError, match="stop"):
        raise RuntimeError("stop")
    assert [dict(vars(module)) for module in cascade.modules()] == before


def test_threads_are_set_inside_and_restored() -> None:
    before = torch.get_num_threads()
    with threads(1) as count_inside:
        assert count_inside == torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(UsageError, match="threads"), threads(10_000):
        pass


def test_a_product_of_matrices_has_a_speed() -> None:
    assert matmul_speed("cpu", "float32", side=64, times=1) > 0


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="unknown model"):
        open_model("vnir49", batch=1, device="cpu", dtype="auto")


def test_the_published_model_needs_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(SYSTEMS["scdm-paper"], published=_preset)
    monkeypatch.setitem(SYSTEMS, "scdm-paper", tiny)
    predictor = open_model("scdm-paper", batch=None, device="cpu", dtype="auto")
    assert predictor.settings["name"] == "scdm-paper"
    assert predictor.settings["dtype"] == "float32"
    assert predictor.with_steps(1).settings["steps"] == 1
