"""The published values are those of the paper and its code, and a configuration survives its JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from spectile.catalog.errors import UsageError
from spectile.model.hyperldm.network import HyperLdm
from spectile.model.hyperldm.preset import HyperConfig, hyperldm_paper
from spectile.model.measure.benchmark import count
from tests.model.hyperldm.tiny import compact, narrow_paper


@pytest.mark.parametrize(("beta_1", "last"), [(0.01, 1.255e-5), (0.001, 2.04e-5)])
def test_the_noisiest_code_is_as_noisy_as_published(beta_1: float, last: float) -> None:
    schedule = replace(hyperldm_paper(), beta_1=beta_1).schedule
    assert schedule.steps == 100
    assert schedule.alpha_bar[-1] == pytest.approx(last, rel=0.005)


def test_the_published_sizes_are_the_papers() -> None:
    preset = hyperldm_paper()
    assert (preset.autoencoder.factor, preset.components, preset.autoencoder.codes) == (4, 16, 1024)
    assert (preset.endmembers, preset.denoiser.condition, preset.denoiser.time_width) == (345, 32, 512)
    nm = preset.bands.centre_nm
    assert preset.response.centre_nm == (nm[22], nm[11], nm[4])
    with torch.device("meta"):
        network = HyperLdm(preset)
    assert network.stride == 128
    assert network.reach is None
    # 2² is the lowest level of a tile of 256 px.
    assert 256 // network.stride == 2


def test_the_published_costs_are_those_in_the_docs() -> None:
    with torch.device("meta"):
        network = HyperLdm(hyperldm_paper())
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert parts == {"autoencoder": 20_653_465, "stages": 120_569_648}
    costs = count(network, tile=256, steps=2)
    assert costs[1, "denoiser"] == pytest.approx(2 * 291.6e3, rel=0.01)
    assert costs[1, "colour"] + costs[1, "decoder"] == pytest.approx(3.826e6, rel=0.01)


@pytest.mark.parametrize("config", [compact(), narrow_paper(), hyperldm_paper()])
def test_a_configuration_survives_its_json(config: HyperConfig) -> None:
    assert HyperConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_what_does_not_fit_is_refused() -> None:
    config = compact()
    with pytest.raises(UsageError, match="endmembers"):
        replace(config, endmembers=7)
    with pytest.raises(UsageError, match="another size than the code"):
        replace(config, denoiser=replace(config.denoiser, condition_widths=(8,)))
    with pytest.raises(UsageError, match="beta"):
        replace(config, beta_1=0.3)
    with pytest.raises(UsageError, match="steps"):
        replace(config, steps=101)
    with pytest.raises(UsageError, match="other bands"):
        replace(config, bands=config.bands.subset(range(40)))
    with pytest.raises(ValueError, match=r"(?i)unexpected"):
        HyperConfig.from_json({**config.to_json(), "further": 1})
