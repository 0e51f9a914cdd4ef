"""The protocols of fusion from the file to the table, on small stand-ins with the real ones' bands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from spectile.flows.commands import app as cli
from spectile.flows.commands.models import Fusion
from spectile.flows.evaluation import fusion
from spectile.flows.evaluation.fusion import NAMES, evaluate_fusion, table
from spectile.model.sdp.train import train
from tests.model.hsr_diff.fusions import BANDS, scene
from tests.model.sdp.priors import tiny_prior

CLOSED = {"fuse", "fuse:cubic", "fuse:glp-hs", "fuse:gsa", "fuse:linear", "fuse:sylvester", "fuse:mixture"}
SHAPES = {
    "paviau-x8": (103, 64, 32), "paviau-x4": (103, 40, 40), "ksc": (176, 64, 32), "dc": (191, 64, 32),
    "chikusei-x4": (128, 64, 64), "wald": (40, 32, 64), "cave-x32": (31, 128, 128),
}  # fmt: skip
SLOW = ("cave-x32", "chikusei-x4")
"""Those with many or large test images."""


def counts(bands: int, rows: int, cols: int, seed: int = 0) -> NDArray[np.uint16]:
    """(bands, rows, cols): shaded fields of three smooth spectra."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, bands)
    spectra = np.exp(-((at - np.array([0.1, 0.5, 0.9])[:, None]) ** 2) / 0.1) + 0.1
    fields = np.stack([gaussian_filter(rng.standard_normal((rows, cols)), 3.0) for _ in range(3)])
    amount = np.eye(3)[fields.argmax(axis=0)] * (1.0 + 4.0 * fields[:1].transpose(1, 2, 0))
    return (3000.0 * np.clip(amount @ spectra, 0.05, None).transpose(2, 0, 1)).astype(np.uint16)


def stand_in(name: str, folder: Path) -> list[str]:
    """The options that name a small data set with the bands of the protocol's."""
    bands, rows, cols = SHAPES[name]
    if name == "cave-x32":
        for number, where in enumerate(("a_ms", "b_ms")):
            (folder / where).mkdir()
            for band, page in enumerate(counts(bands, rows, cols, number)):
                with rasterio.open(
                    folder / where / f"{band:02}.png", "w", driver="PNG", height=rows, width=cols, count=1,
                    dtype="uint16",
                ) as file:  # fmt: skip
                    file.write(page, 1)
        return [str(folder)]
    path = folder / f"{name}.mat"
    savemat(path, {"scene": counts(bands, rows, cols).transpose(1, 2, 0), "gt": np.ones((rows, cols))})
    if name not in ("dc", "wald"):
        return [str(path)]
    lines = [f"{nm:.2f},10" for nm in np.linspace(400, 2400 if name == "dc" else 900, bands)]
    (folder / "bands.csv").write_text("\n".join(["wavelength,fwhm", *lines]))
    return [str(path), "--wavelengths", str(folder / "bands.csv")]


def run(name: str, folder: Path) -> dict[str, Any]:
    given = stand_in(name, folder)
    options = ["--seeds", "1", "--samples", "2", "--json", str(folder / "scores.json")]
    assert cli.main(["evaluate", "--protocol", name, "--data", *given, *options]) == 0
    report: dict[str, Any] = json.loads((folder / "scores.json").read_text())
    for tgt in ("without", "with"):
        rows = {row["method"]: row for row in report["methods"] if row["tgt"] == tgt}
        assert set(rows) == set(fusion.method_names())
        assert rows["fuse:mixture"]["psnr"] > rows["fuse:cubic"]["psnr"] + 2
    return report


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(
    "name",
    ["paviau-x8", "paviau-x4", "ksc", "dc", *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)],
)
def test_a_protocol_fuses_its_data_and_shows_the_papers_rows(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "method_names", lambda: ("fuse:cubic", "fuse:mixture"))
    report = run(name, tmp_path)
    printed = capsys.readouterr().out
    assert report["paper"]
    for row in report["paper"]:
        line = next(line for line in printed.splitlines() if row["where"] in line)
        assert f"{row['psnr']:.2f}" in line
        assert f"{row['sam']:.2f}" in line
    assert "smaller than the paper's" in report["remarks"]
    taps, centre = (15, 0.0) if report["ratio"] == 8 else (None, (report["ratio"] - 1) / 2)
    assert (report["psf_taps"], report["psf_centre_fine_px"]) == (taps, centre)


def test_any_scene_is_fused_by_every_closed_form(tmp_path: Path) -> None:
    report = run("wald", tmp_path)
    assert {row["method"] for row in report["methods"]} == CLOSED
    assert report["paper"] == []
    assert next(row for row in report["methods"] if row["method"] == "fuse")["took"]


@pytest.mark.slow
def test_a_trained_prior_is_scored_beside_the_closed_forms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "method_names", lambda: ("fuse:cubic",))
    folder = tmp_path / "sdp"
    train(tiny_prior(), [scene()], [scene(1)], folder, metadata={"name": "tiny"}, device="cpu")
    path, bands = tmp_path / "scene.mat", tmp_path / "bands.csv"
    savemat(path, {"scene": scene(2, (24, 48)).cube.transpose(1, 2, 0)})
    lines = [f"{nm:.2f},{width:.2f}" for nm, width in zip(BANDS.centre_nm, BANDS.fwhm_nm, strict=True)]
    bands.write_text("\n".join(["wavelength,fwhm", *lines]))
    report = evaluate_fusion(
        "wald", path, models=[str(folder)], seeds=1, wavelengths=bands, ratio=4, device="cpu"
    )
    by_tgt = {(row["method"], row["tgt"]) for row in report["methods"]}
    assert by_tgt == {("fuse:cubic", "without"), ("fuse:cubic", "with"), (str(folder), "its training")}
    assert [line[0] for line in table(report)][-1] == str(folder)


def test_the_command_knows_every_protocol() -> None:
    assert get_args(Fusion) == NAMES


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("paviau-x8", [], r"not the protocol's scene \(got 31×8×8, expected one of 103 bands\)"),
        ("chikusei-x4", [], r"expected one of 128 or 110 bands"),
        ("cave-x32", [], r"no folder of scenes"),
        ("wald", [], r"the file does not say its wavelengths"),
        ("wald", ["--ratio", "70"], r"ratio of 2 to 64"),
        ("ksc", ["--fwhm", "1"], r"ksc has its own ratio, PSF and noise"),
        ("wald", ["--model", "fuse:cubic"], r"no folder of a trained SDP or HSR-Diff"),
        ("ksc", ["--rungs", "ridge"], r"not an option of the protocol ksc \(got --rungs\)"),
        ("folder", ["--snr", "20,30"], r"not an option of the protocol folder \(got --snr\)"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    name: str, options: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scene.mat"
    savemat(path, {"scene": np.ones((8, 8, 31))})
    assert cli.main(["evaluate", "--protocol", name, "--data", str(path), *options]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert re.search(line, told[-1]), told


def test_wavelengths_of_other_bands_and_scenes_that_are_too_small_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dc.mat"
    savemat(path, {"scene": np.ones((64, 32, 191))})
    with pytest.raises(fusion.SceneError, match=r"does not say its wavelengths .*--wavelengths"):
        evaluate_fusion("dc", path)
    savemat(path, {"scene": np.ones((30, 32, 191))})
    with pytest.raises(fusion.SceneError, match=r"too small for the protocol \(got test images of 8×32 px"):
        evaluate_fusion("dc", path)
    with pytest.raises(fusion.UsageError, match="needs its data"):
        evaluate_fusion("dc", None)
