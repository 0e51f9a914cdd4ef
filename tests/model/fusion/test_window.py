"""Masked and changed places of a tile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from spectile.model.fusion.fuser import CLOSED, Fuser
from spectile.model.fusion.window import changed_pixels, prepare
from tests.model.fusion.scenes import RATIO, case, pair_of


def test_a_place_that_changed_is_found_and_little_else() -> None:
    window = case().window
    msi = window.msi.copy()
    msi[:, 24:40, 24:40] += 0.15
    changed = changed_pixels(Fuser(pair_of()), replace(window, msi=msi))
    assert changed[6:10, 6:10].all()
    outside = changed.copy()
    outside[4:12, 4:12] = False
    assert outside.mean() < 0.02


def test_a_changed_place_takes_nothing_from_the_sharp_scene() -> None:
    window, fuser = case().window, Fuser(pair_of())
    edge = fuser.margin * RATIO
    fused = []
    for step in (0.15, 0.3):
        msi = window.msi.copy()
        msi[:, 24:40, 24:40] += step
        ready = prepare(fuser, replace(window, msi=msi))
        fused.append(CLOSED["mixture"].fuse(fuser, ready)[:, edge:-edge, edge:-edge])
    middle = (slice(None), slice(28, 36), slice(28, 36))
    assert float((fused[0] - fused[1])[middle].abs().max()) < 0.01


def test_masked_pixels_do_not_pull_at_their_neighbours() -> None:
    window, fuser = case().window, Fuser(pair_of())
    edge = fuser.margin * RATIO
    hsi_valid, msi_valid = window.hsi_valid.copy(), window.msi_valid.copy()
    hsi_valid[4:6, 4:6] = False
    msi_valid[40:48, 40:48] = False
    hsi, msi = window.hsi.copy(), window.msi.copy()
    hsi[:, ~hsi_valid], msi[:, ~msi_valid] = 0.2, 0.2
    masked = replace(window, hsi=hsi, msi=msi, hsi_valid=hsi_valid, msi_valid=msi_valid)
    one, other = (
        CLOSED["mixture"].fuse(fuser, prepare(fuser, part))[:, edge:-edge, edge:-edge]
        for part in (window, masked)
    )
    apart = (one - other).square().mean(0).sqrt()
    error = float((one - torch.from_numpy(case().truth)).square().mean().sqrt())
    # Beside the holes the result moves by less than it errs anyway.
    assert float(apart[12:28, 12:16].mean()) < error
    assert float(apart[36:40, 36:52].mean()) < error
    assert float(apart[:, 56:].max()) < error
    assert not changed_pixels(fuser, masked)[10:12, 10:12].any()


def test_an_untouched_window_has_no_changes_and_is_trusted_everywhere() -> None:
    fuser = Fuser(pair_of())
    ready = prepare(fuser, case().window)
    assert bool((ready.trusted == 1).all())
    assert float(ready.changed.mean()) < 0.05
    assert ready.hsi.shape[1:] == tuple(16 + 2 * fuser.margin for _ in range(2))
    np.testing.assert_allclose(
        ready.hsi[:, fuser.margin : -fuser.margin, fuser.margin : -fuser.margin], case().window.hsi
    )
