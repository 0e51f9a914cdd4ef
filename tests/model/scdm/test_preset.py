from typing import Literal

import pytest

from spectile.model.scdm.preset import scdm_paper


@pytest.mark.parametrize(
    ("plan", "coarse", "count", "step", "p_T"),
    [("houston", 12, 48, 4, (0.96, 0.88)), ("pavia", 17, 102, 6, (0.97, 0.90))],
)
def test_stages_go_from_rgb_over_coarse_bands_to_all(
    plan: Literal["houston", "pavia"], coarse: int, count: int, step: int, p_T: tuple[float, float]
) -> None:
    preset = scdm_paper(plan)
    # SCDM equation 12.
    assert coarse == round(3 * (count / 3) ** 0.5)
    assert preset.coarse == tuple(range(0, count, step))
    assert len(preset.bands) == count
    sizes = [(stage.network.condition_channels, stage.network.channels) for stage in preset.stages]
    assert sizes == [(3, coarse), (coarse, count)]
    assert tuple(stage.p_T for stage in preset.stages) == p_T


@pytest.mark.parametrize("plan", ["houston", "pavia"])
def test_guidance_is_in_stage_two_only(plan: Literal["houston", "pavia"]) -> None:
    first, second = scdm_paper(plan).stages
    assert first.guidance == 0.0 < second.guidance


@pytest.mark.parametrize("plan", ["houston", "pavia"])
def test_the_input_s_bands_are_red_green_blue(plan: Literal["houston", "pavia"]) -> None:
    preset = scdm_paper(plan)
    red, green, blue = (preset.bands.centre_nm[i] for i in preset.rgb)
    assert 600 < red < 720
    assert 500 < green < 580
    assert 430 < blue < 500


def test_fixed_values_are_those_published() -> None:
    preset = scdm_paper("houston")
    assert preset.schedule.steps == 1000
    assert preset.schedule.alpha_bar_at(1) == pytest.approx(1 - 1e-4)
    assert (preset.offset, preset.scale) == (3693.0, 7410.0)
    training = preset.training
    assert (training.learning_rate, training.batch, training.iterations) == (1e-4, 4, 100_000)
    assert (training.condition_dropout, training.spectral_weight) == (0.1, 1.0)
    assert (training.ema_decay, training.ema_start) == (0.9999, 2000)
