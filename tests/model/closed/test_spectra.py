"""Spectra of which bands are missing."""

from __future__ import annotations

import torch

from spectile.model.closed.spectra import complete_spectra, components


def test_bands_that_a_scene_lacks_follow_from_those_it_has() -> None:
    base = torch.rand(400, 2)
    spectra = base @ torch.rand(2, 6) + 0.1
    bands = torch.ones(400, 6)
    bands[200:300, 0], bands[300:, 4:] = 0.0, 0.0
    filled = complete_spectra(spectra * bands, bands)
    assert torch.equal(filled[:200], spectra[:200])
    assert torch.allclose(filled, spectra, atol=2e-3)


def test_components_that_the_bands_show_are_found_and_others_are_said_to_be_unknown() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 2, generator=generator))[0]
    truth = torch.randn(1, 2, 3, 3, generator=generator)
    residual = torch.einsum("tk,nkhw->nthw", basis, truth)
    found, known = components(basis, residual, torch.ones(1, 6))
    torch.testing.assert_close(found, truth, rtol=0.02, atol=1e-3)
    assert bool((known > 0.98).all())
    _, unknown = components(basis, torch.zeros_like(residual), torch.zeros(1, 6))
    assert bool((unknown == 0).all())
