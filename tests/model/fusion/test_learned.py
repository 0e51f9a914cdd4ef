"""Trained networks as methods for a pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from spectile.catalog.bands import Bands
from spectile.catalog.errors import UsageError
from spectile.catalog.inputs import Batch, Raster
from spectile.model import checkpoint
from spectile.model.data.degrade import degrade
from spectile.model.fusion.estimate import estimate_pair
from spectile.model.fusion.pair import PairModel, PairWindow
from spectile.model.fusion.predictor import load_fusion
from spectile.model.hsr_diff.train import train as train_hsr_diff
from spectile.model.registry import load_network
from spectile.model.sdp.fusion import Sdp, fuse_sdp
from spectile.model.sdp.train import train as train_sdp
from tests.model.hsr_diff.fusions import BANDS, MSI, scene, tiny_config
from tests.model.sdp.priors import tiny_prior

SIDE = 48


def _window() -> PairWindow:
    network = Sdp(tiny_prior())
    cube = scene(3, (SIDE, SIDE)).cube.astype(np.float64)
    made = degrade(cube, 4, (1.7, 1.7), network.response.numpy(), snr_db=(35.0, 40.0), seed=0)
    masks = np.ones((SIDE // 4, SIDE // 4), bool), np.ones((SIDE, SIDE), bool)
    return PairWindow(made.hsi.astype(np.float32), masks[0], made.msi.astype(np.float32), masks[1])


@pytest.fixture(scope="module")
def pair() -> PairModel:
    response = Sdp(tiny_prior()).response.numpy().astype(np.float64)
    return estimate_pair([_window()], 4, BANDS, MSI, response=response, psf=(1.7, 1.7), scaled=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("learned")
    given = {"metadata": {"name": "tiny"}, "device": "cpu"}
    train_sdp(tiny_prior(), [scene()], [scene(1)], root / "sdp", **given)  # type: ignore[arg-type]
    train_hsr_diff(tiny_config(), [scene()], [scene(1)], root / "hsr-diff", **given)  # type: ignore[arg-type]
    return {name: str(root / name) for name in ("sdp", "hsr-diff")}


def _batch(origin: tuple[int, int] = (0, 0), masked: bool = False) -> Batch:
    window = _window()
    msi_valid = window.msi_valid.copy()
    msi_valid[:8, :8] = not masked
    rasters = {
        "msi": Raster(window.msi[None], msi_valid[None]),
        "hsi": Raster(window.hsi[None], window.hsi_valid[None]),
    }
    return Batch(rasters, np.array([origin], np.int64), 1)


@pytest.mark.parametrize("kind", ["sdp", "hsr-diff"])
def test_a_folder_is_a_method_whose_samples_repeat_on_their_place(
    kind: str, pair: PairModel, folders: dict[str, str]
) -> None:
    predictor = load_fusion(folders[kind], pair, seed=1, device="cpu")
    assert predictor.stride == 4
    assert predictor.settings["model_digest"] == checkpoint.load(folders[kind]).digest
    assert predictor.settings["digest"] == pair.digest
    first, second = predictor.predict(_batch(), range(2))
    assert first.shape == (1, 6, SIDE, SIDE)
    assert not np.array_equal(first, second)
    assert np.array_equal(next(predictor.predict(_batch(), range(1))), first)
    elsewhere = next(predictor.predict(_batch((0, 4)), range(1)))
    assert not np.array_equal(elsewhere, first), "the noise is that of the place"
    assert np.isfinite(next(predictor.predict(_batch(masked=True), range(1)))).all()
    assert predictor.memory(64) > load_fusion("fuse:cubic", pair, device="cpu").memory(64)


def test_sdp_fuses_with_what_was_estimated_of_the_pair(pair: PairModel, folders: dict[str, str]) -> None:
    fused = next(load_fusion(folders["sdp"], pair, seed=0, device="cpu").predict(_batch(), range(1)))
    prior = load_network(checkpoint.load(folders["sdp"]))
    assert isinstance(prior, Sdp)
    window = _window()
    expected = fuse_sdp(
        torch.from_numpy(window.hsi)[None], torch.from_numpy(window.msi)[None], response=prior.response,
        gain=torch.tensor(pair.gain).float(), offset=torch.tensor(pair.offset).float(),
        psf_sigma=pair.psf_sigma, ratio=4, prior=prior, steps=None, origins=torch.tensor([[0, 0]]), seed=0,
    )  # fmt: skip
    changed = load_fusion("fuse:cubic", pair, device="cpu").inspect(_batch(), fused).changed
    # Where the scenes are taken to differ, and a coarse pixel about it, the upsampled HSI stands.
    same = ~binary_dilation(changed[0], iterations=8)
    assert same.mean() > 0.3
    np.testing.assert_allclose(fused[0][:, same], expected.numpy()[0][:, same], atol=1e-5)


def test_a_network_for_another_pair_is_refused_in_a_line(pair: PairModel, folders: dict[str, str]) -> None:
    other = replace(pair, hsi_bands=Bands.evenly_spaced(1200.0, 1700.0, 6))
    for kind in ("sdp", "hsr-diff"):
        with pytest.raises(UsageError, match="other bands of the HSI"):
            load_fusion(folders[kind], other, device="cpu")
    with pytest.raises(UsageError, match="other bands of the MSI"):
        load_fusion(folders["hsr-diff"], replace(pair, msi_bands=MSI.subset([0, 1])), device="cpu")
    with pytest.raises(UsageError, match="another ratio"):
        load_fusion(folders["hsr-diff"], replace(pair, ratio=8), device="cpu")
    with pytest.raises(UsageError, match=r"centre in the middle \(got a centre 0 px"):
        load_fusion(folders["hsr-diff"], replace(pair, psf_phase=0.0), device="cpu")


def test_a_model_that_fuses_nothing_is_refused(pair: PairModel, tmp_path: Path) -> None:
    shipped = checkpoint.load("vnir48")
    checkpoint.save(tmp_path, shipped.tensors, shipped.metadata)
    with pytest.raises(UsageError, match="fuses nothing"):
        load_fusion(str(tmp_path), pair, device="cpu")
