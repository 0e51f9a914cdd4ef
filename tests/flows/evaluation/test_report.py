"""The picture of an evaluation, for any number of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spectile.flows.evaluation.report import _places, draw_report


@pytest.mark.parametrize("count", [1, 6])
def test_models_with_and_without_samples_share_a_picture(tmp_path: Path, count: int) -> None:
    truth = np.random.default_rng(0).uniform(100, 900, (4, 12, 10)).astype(np.float32)
    names = [f"model {n}" for n in range(count)]
    rows = {name: {"mean": {"rmse": 10.0 * n}, "rmse_by_band": [1.0 + n] * 4} for n, name in enumerate(names)}
    pictures = {name: {"estimate": truth + n} for n, name in enumerate(names)}
    pictures[names[-1]] |= {"low": truth - 5, "high": truth + 5}
    report = {"models": rows, "rgb_bands": (3, 2, 1), "protocol": "made-up"}
    draw_report(tmp_path / "a.png", report, truth, pictures)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height > 800


def test_the_spectra_are_of_dark_middling_and_bright_pixels() -> None:
    truth = np.arange(120, dtype=np.float32).reshape(1, 12, 10)[:, ::-1]
    brightness = [truth[0][place] for place in _places(truth)]
    assert brightness == [11, 59, 107]
