"""The protocol of diversity, on pixels whose scores are known."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from spectile.catalog.bands import VNIR48
from spectile.catalog.errors import UsageError
from spectile.flows.commands import app as cli
from spectile.flows.evaluation.diversity import (
    Pixels,
    at_error,
    evaluate_diversity,
    pixels_of,
    scores_of,
    table,
)
from spectile.model.measure.diversity import SpectralClassifier
from spectile.pipeline.block.predict import BandsRepeat
from spectile.pipeline.spectra.hyperspectral import Hyperspectral


def pixels(count: int = 60) -> Pixels:
    """Samples around a truth, in all bands but the first two."""
    rng = np.random.default_rng(0)
    truth = (0.3 + 0.1 * rng.standard_normal((count, 46))).astype(np.float32)
    samples = (truth + 0.02 * rng.standard_normal((6, count, 46))).astype(np.float32)
    ridge = (truth + 0.01).astype(np.float32)
    return Pixels(truth, samples, ridge, np.arange(2, 48))


def classifier() -> SpectralClassifier:
    torch.manual_seed(0)
    return SpectralClassifier(48, 3).eval()


def test_all_are_compared_at_the_same_error() -> None:
    one = pixels()
    found = at_error(one, 0.05, seed=0)
    assert list(found) == ["at equal error", "ridge + noise at equal error"]
    for drawn in found.values():
        assert np.sqrt(np.square(drawn - one.truth).mean()) == pytest.approx(0.05, rel=0.03)
    assert at_error(one, 0.001, seed=0) == {}


def test_scores_know_what_is_right_and_what_is_copied() -> None:
    one = pixels()
    known = np.zeros((4, 48), dtype=np.float32)
    row = scores_of(one, one.samples, classifier(), known)
    perfect = scores_of(one, np.stack([one.truth] * 3), classifier(), np.pad(one.truth, ((0, 0), (2, 0))))
    assert perfect["sample_rmse"] == perfect["nearest_training"] == 0.0
    assert perfect["sdm"] == pytest.approx(1.0)
    assert perfect["sd"] == pytest.approx(perfect["sd_of_truth"])
    assert perfect["spectral_fid"] == pytest.approx(0.0, abs=1e-6)
    assert perfect["class_agreement"] == 1.0
    assert row["sample_rmse"] == pytest.approx(0.02, rel=0.05)
    assert row["sdm"] > 1.0
    assert row["nearest_training"] > 0.2
    lines = table({"places": {"here": {"model": row}}})
    assert lines[0][:3] == ("here", "model", f"{row['sample_rmse']:.4f}")


def test_a_place_is_the_valid_pixels_of_its_scenes() -> None:
    rng = np.random.default_rng(0)
    cube = rng.random((48, 6, 7), dtype=np.float32)
    valid = np.ones((6, 7), dtype=bool)
    valid[0] = False
    scenes = [(f"place/{i}", Hyperspectral(cube, VNIR48, valid)) for i in range(2)]
    found = pixels_of(scenes, BandsRepeat(), {}, samples=3)
    assert found.truth.shape == (2 * 35, 48)
    assert found.samples.shape == (3, 70, 48)
    assert np.array_equal(found.ridge, found.samples.mean(axis=0))
    assert found.truth[0, 20] == pytest.approx(cube[20, 1, 0], abs=0.2)


def test_models_are_compared_on_a_folder_place_by_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nm = np.linspace(384.0, 1100.0, 140)
    with h5py.File(tmp_path / "field.h5", "w") as file:
        group = file.create_group("SITE/Reflectance")
        counts = (1000 + 4000 * rng.random((12, 12, 1)) * nm / 1000.0).astype(np.int16)
        data = group.create_dataset("Reflectance_Data", data=counts)
        data.attrs["Scale_Factor"], data.attrs["Data_Ignore_Value"] = 10000.0, -9999.0
        group["Metadata/Spectral_Data/Wavelength"] = nm
        group["Metadata/Spectral_Data/FWHM"] = np.full(140, 6.0)
    said: list[str] = []
    report = evaluate_diversity(
        tmp_path, ["vnir48-rgb", "vnir48"], samples=3, announce=said.append, data_dir=tmp_path
    )
    rows = report["places"]["field.h5"]
    assert said == ["vnir48-rgb on field.h5", "vnir48 on field.h5"]
    assert {"vnir48-rgb", "vnir48"} <= set(rows)
    assert "vnir48-rgb, at equal error" not in rows
    assert rows["vnir48"]["bands"] == 48
    assert rows["vnir48"]["pixels"] == 144
    equal = rows.get("vnir48, at equal error")
    assert equal is None or equal["sample_rmse"] == pytest.approx(rows["vnir48-rgb"]["sample_rmse"], rel=0.1)


def test_what_it_needs_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--protocol", "diversity", "--model", "vnir48"]) == 2
    assert "name a folder of scenes, or a recipe" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no model to evaluate"):
        evaluate_diversity(tmp_path, [], samples=2, announce=print, data_dir=tmp_path)
