"""Each method against what it is, and the solve against what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spectile.model.fusion.fuser import CLOSED, Fuser
from spectile.model.fusion.mixture import Mixture
from spectile.model.fusion.window import prepare
from tests.model.fusion.scenes import case, pair_of, rmse


def _fused(name: str) -> np.ndarray:
    fuser = Fuser(pair_of(), dtype=torch.float64)
    window = prepare(fuser, case().window)
    edge = fuser.margin * fuser.pair.ratio
    return CLOSED[name].fuse(fuser, window)[:, edge:-edge, edge:-edge].numpy()


def test_every_method_beats_interpolation_and_the_mixture_beats_the_others() -> None:
    truth = case().truth
    errors = {name: rmse(_fused(name), truth) for name in CLOSED}
    assert all(errors[name] < 0.6 * errors["cubic"] for name in CLOSED if name != "cubic"), errors
    assert min(errors, key=errors.__getitem__) == "mixture", errors
    assert errors["sylvester"] < errors["linear"], errors


def test_a_pixelwise_mean_and_a_correction_minimise_the_objective_of_fuse() -> None:
    """‖Y − XBD‖² and ‖Z − RX‖² over their noise, and the Gaussian prior: on a ring, any step away costs."""
    pair = pair_of()
    fuser = Fuser(pair, dtype=torch.float64)
    msi, hsi = (torch.from_numpy(one).double() for one in (case().window.msi, case().window.hsi))
    solver = fuser.solver((64, 64))
    values, axes = np.linalg.eigh(fuser.linear.left[0].numpy())
    turn = torch.from_numpy(axes)
    mean, z = fuser.pixelwise(fuser.linear, msi)
    y = torch.tensordot(fuser.analysis, hsi - fuser.centre, 1)
    sharp = (turn.T @ mean).reshape(-1, 64, 64)
    missing = torch.tensordot(turn.T, y, 1) - solver.coarsen(sharp)
    sharp = sharp + solver.correct(missing, fuser.variances("sylvester"), torch.ones(len(values)).double())
    prior_mean, prior = Mixture(pair.weights, pair.means, pair.covariances).moments()
    inverse = torch.from_numpy(np.linalg.inv(prior))
    seen = torch.from_numpy(pair.response @ pair.basis)
    noise = torch.from_numpy(np.square(pair.msi_noise))[:, None]

    def cost(rotated: torch.Tensor) -> float:
        a = torch.tensordot(turn, rotated, 1)
        flat = a.reshape(len(a), -1)
        beside = flat - torch.from_numpy(prior_mean)[:, None]
        parts = (
            (y - solver.coarsen(a)).square().sum()
            + ((z - seen @ flat).square() / noise).sum()
            + (beside * (inverse @ beside)).sum()
        )
        return float(parts)

    generator = torch.Generator().manual_seed(0)
    step = 1e-2 * torch.randn(sharp.shape, generator=generator, dtype=torch.float64)
    up, down, best = cost(sharp + step), cost(sharp - step), cost(sharp)
    assert min(up, down) > best
    # At a minimum a step and its opposite cost the same.
    assert up - down == pytest.approx(0.0, abs=1e-4 * (up + down - 2 * best))


def test_the_fused_cube_agrees_with_the_coarse_scene_up_to_its_noise() -> None:
    pair = pair_of()
    fuser = Fuser(pair, dtype=torch.float64)
    window = prepare(fuser, case().window)
    edge = fuser.margin
    left = (window.hsi - fuser.coarsen(CLOSED["mixture"].fuse(fuser, window)))[:, edge:-edge, edge:-edge]
    assert 0.5 * case().noise[0] < float(left.square().mean().sqrt()) < 1.3 * case().noise[0]


def test_draws_of_the_error_spread_as_the_posterior_does() -> None:
    fuser = Fuser(pair_of(), dtype=torch.float64)
    shape, size = (64, 64), len(fuser.variances("mixture"))
    generator = torch.Generator().manual_seed(0)
    even = torch.ones((size, *shape), dtype=torch.float64)
    drawn = torch.stack(
        [
            fuser.residual(
                even,
                torch.randn((size, 2, *shape), generator=generator, dtype=torch.float64),
                torch.randn((size, 16, 16), generator=generator, dtype=torch.float64),
            )
            for _ in range(16)
        ]
    )
    solver, variances = fuser.solver(shape), fuser.variances("mixture")
    # The posterior variance of a Gaussian field: the prior's less what the coarse scene explains.
    spectrum = torch.einsum("ks,shw->khw", variances, solver.colours)
    gain = torch.einsum("ks,shw->khw", variances, solver.aliased) + 1.0
    explained = spectrum.square() * solver.transfer.abs().square() / gain.repeat(1, 4, 4) / 16.0
    expected = (spectrum - explained).mean((1, 2))
    torch.testing.assert_close(drawn.var(0).mean((1, 2)), expected, rtol=0.12, atol=0.0)


def test_margins_hold_the_mirrored_scene() -> None:
    coarse = torch.arange(30.0).reshape(1, 5, 6)
    fuser = Fuser(pair_of())
    edge = fuser.margin
    expected = np.pad(coarse.numpy(), ((0, 0), (edge, edge), (edge, edge)), mode="symmetric")
    np.testing.assert_array_equal(fuser.with_margin(coarse), expected)
    # Centres on first pixels: the fourth to the left of the first fine pixel shows its fourth, on the first
    # coarse pixel but one.
    placed = Fuser(replace(pair_of(), psf_phase=0.0)).with_margin(coarse)[0, edge]
    assert placed[edge - 1].item() == coarse[0, 0, 1].item()
