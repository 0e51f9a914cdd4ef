"""The evaluation protocols, from the file to the JSON, on synthetic scenes of the real ones' shapes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from spectile.catalog.bands import RGB_CAMERA, VNIR48
from spectile.catalog.errors import UsageError
from spectile.flows.commands import app as cli
from spectile.flows.evaluation import evaluate
from spectile.flows.evaluation.evaluate import evaluate_counts, evaluate_folder, find_data, summarise, table
from spectile.flows.evaluation.protocols import PROTOCOLS, read_counts
from spectile.model import checkpoint
from spectile.model.cascade.cascade import CascadeConfig, SpectralCascade, StageConfig
from spectile.model.measure.ladder_networks import trained
from spectile.model.registry import load_network

SCORES = {"rmse", "sam", "mpsnr", "mssim", "mrae", "ergas"}
CALIBRATION = {"spread_skill", "coverage", "crps", "energy_score"}


def _counts(bands: int, rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """(rows, cols, bands) uint16: mixtures of three smooth spectra in patches of 8 px."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, bands)
    spectra = np.exp(-((at - np.array([0.1, 0.5, 0.9])[:, None]) ** 2) / 0.1) + 0.1
    amount = rng.uniform(200, 2500, (-(-rows // 8), -(-cols // 8), 3)).repeat(8, 0).repeat(8, 1)[:rows, :cols]
    return (amount @ spectra).astype(np.uint16)


@pytest.fixture(scope="module")
def crop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crop") / "houston_dataset.mat"
    rgb = np.zeros((32, 32, 3), dtype=np.uint8)
    savemat(path, {"hyprImg": _counts(48, 128, 128), "rgbImg": rgb})
    return path


@pytest.fixture(scope="module")
def pavia(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pavia") / "Pavia.mat"
    savemat(path, {"pavia": _counts(102, 1096, 715)})
    return path


def _run(*arguments: object) -> int:
    return cli.main(["evaluate", *map(str, arguments)])


@pytest.mark.slow
def test_the_pavia_protocol_runs_on_a_file_of_its_shape_and_prints_the_papers_row(
    pavia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pavia.json"
    assert _run("--protocol", "pavia-pc40-8", "--data", pavia, "--rungs", "ridge", "--json", out) == 0
    printed = capsys.readouterr().out
    assert "the paper's SCDM" in printed
    assert "172.42" in printed
    assert "[8000.0, 10000.0]" in printed
    report = json.loads(out.read_text())
    assert set(report["models"]["ridge"]["mean"]) >= SCORES | {"without_input", "mpsnr_at"}
    assert len(report["models"]["ridge"]["rmse_by_band"]) == 102
    assert report["models"]["ridge"]["mean"]["sam"] < 0.01


def test_nothing_that_is_chosen_depends_on_the_test_columns(crop: Path) -> None:
    protocol = PROTOCOLS["houston-crop"]
    cube = read_counts(crop, 48)
    other = cube.copy()
    other[:, :, 96:] = other[:, :, 96:][:, ::-1] * 0.5
    for rung in ("polynomial_2", "knn"):
        chosen = [
            evaluate.evaluate_rung(protocol, protocol.cut(scene), rung, seed=0, samples=2).facts["chosen"]
            for scene in (cube, other)
        ]
        assert chosen[0] == chosen[1]


def test_the_first_seed_chooses_the_length_of_training_for_all(
    crop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []

    def build(name: str, *, steps: int | None, length: int | None) -> object:
        lengths.append(length)
        return trained(name, steps=steps, length=length)

    monkeypatch.setattr(evaluate, "trained", build)
    report, _, _ = evaluate_counts(PROTOCOLS["houston-crop"], crop, rungs=["mlp"], seeds=3, training_steps=4)
    chosen = [row["chosen"]["steps"] for row in report["models"]["mlp"]["seeds"]]
    assert lengths == [None, chosen[0], chosen[0]]
    assert set(chosen) == {chosen[0]}


@pytest.mark.slow
def test_the_report_has_every_score_of_a_sampler_and_the_mean_alone_of_others(
    crop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "crop.json"
    code = _run(
        "--protocol", "houston-crop", "--data", crop, "--rungs", "knn,cascade", "--seeds", 2,
        "--samples", 3, "--training-steps", 1, "--json", out, "--report", tmp_path / "report",
        "--keep", tmp_path / "kept",
    )  # fmt: skip
    assert code == 0
    assert load_network(checkpoint.load(tmp_path / "kept" / "cascade")).config.members == 4
    models = json.loads(out.read_text())["models"]
    cascade, knn = models["cascade"], models["knn"]
    assert cascade.keys() >= CALIBRATION | {"sample", "mean", "one_step"}
    assert cascade["coverage"].keys() == {"50", "80", "90", "95"}
    assert cascade["sample"].keys() >= SCORES
    assert len(cascade["seeds"]) == 2
    assert len(knn["seeds"]) == 1
    assert not knn.keys() & (CALIBRATION | {"sample"})
    assert cascade["mean"]["rmse"] == pytest.approx(
        np.mean([row["mean"]["rmse"] for row in cascade["seeds"]])
    )
    assert (tmp_path / "report" / "houston-crop.png").read_bytes()[:4] == b"\x89PNG"
    assert "cascade, mean of 3" in capsys.readouterr().out


def test_the_headline_psnr_of_the_houston_crop_leaves_the_input_bands_out(crop: Path) -> None:
    report, _, _ = evaluate_counts(PROTOCOLS["houston-crop"], crop, rungs=["ridge"])
    scores = report["models"]["ridge"]["mean"]
    assert scores["mpsnr"] == scores["without_input"]["mpsnr"]
    assert scores["rmse"] < scores["without_input"]["rmse"]


def test_seeds_are_averaged_entry_by_entry() -> None:
    rows = [
        {"chosen": {"steps": n}, "mean": {"rmse": 10.0 * n}, "coverage": {"90": 0.5 * n}, "curve": [n, 2 * n]}
        for n in (1, 2)
    ]
    summary = summarise(rows)
    assert summary["mean"] == {"rmse": 15.0}
    assert summary["coverage"] == {"90": 0.75}
    assert summary["curve"] == [1.5, 3.0]
    assert summary["rmse_sd_over_seeds"] == 5.0
    assert summary["seeds"] == rows


def test_the_table_is_sorted_by_error(crop: Path) -> None:
    report, _, _ = evaluate_counts(PROTOCOLS["houston-crop"], crop, rungs=["mean", "ridge", "knn"])
    errors = [float(line[1]) for line in table(report)]
    assert errors == sorted(errors)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    config = CascadeConfig(
        VNIR48, RGB_CAMERA, stages=(StageConfig(2, 8, 1, 8, kernels=8), StageConfig(2, 8, 1, 8))
    )
    metadata = {"name": "tiny", "fill": [0.1, 0.1, 0.1], "cascade": config.to_json()}
    checkpoint.save(folder, SpectralCascade(config).state_dict(), metadata)
    return folder


def _neon(path: Path, size: int = 24) -> None:
    wavelengths = np.linspace(384, 1100, 140)
    counts = _counts(140, size, size).astype(np.int16)
    with h5py.File(path, "w") as file:
        group = file.create_group("SITE/Reflectance")
        data = group.create_dataset("Reflectance_Data", data=counts)
        data.attrs["Scale_Factor"], data.attrs["Data_Ignore_Value"] = 10000.0, -9999.0
        group["Metadata/Spectral_Data/Wavelength"] = wavelengths
        group["Metadata/Spectral_Data/FWHM"] = np.full(140, 6.0)


def test_a_reflectance_model_is_measured_on_a_folder_of_scenes(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.h5", "b.h5"):
        _neon(tmp_path / name)
    out = tmp_path / "folder.json"
    code = _run(
        "--protocol", "folder", "--data", tmp_path, "--model", tiny_model, "--samples", 2, "--json", out
    )
    assert code == 0, capsys.readouterr().err
    row = json.loads(out.read_text())["models"][str(tiny_model)]
    assert row.keys() >= CALIBRATION | {"sample", "mean"}
    assert [scene["scene"] for scene in row["scenes"]] == ["a.h5", "b.h5"]
    assert row["mean"].keys() >= SCORES


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--protocol", "houston-crop", "--rungs", "nonsense"), "unknown rung"),
        (("--protocol", "houston-crop", "--model", "vnir48"), "sensor counts"),
        (("--protocol", "pavia-pc40-8"), "needs its data"),
        (("--protocol", "folder", "--model", "vnir48"), "no folder of scenes"),
        (("--protocol", "folder", "--rungs", "mean"), "not an option of the protocol"),
        (("--protocol", "houston-crop", "--peak", "-1"), "positive"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: tuple[str, ...], complaint: str, crop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", crop) if "houston-crop" in arguments else ()
    assert _run(*arguments, *data) == 2
    assert complaint in capsys.readouterr().err


def test_a_baseline_is_measured_by_its_name(tmp_path: Path) -> None:
    _neon(tmp_path / "a.h5")
    report = evaluate_folder(tmp_path, ["vnir48", "vnir48:ridge"], samples=2, peak=1.0, announce=print)
    models = report["models"]
    assert set(models) == {"vnir48", "vnir48/ridge", "vnir48/lookup", "vnir48:ridge"}
    assert models["vnir48:ridge"] == models["vnir48/ridge"]
    assert {line[0] for line in table(report)} >= {"vnir48:ridge", "vnir48/ridge"}


def test_a_folder_without_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no scene there"):
        evaluate_folder(tmp_path, ["vnir48"], samples=2, peak=1.0, announce=lambda line: None)


def test_the_houston_crop_is_found_below_the_data_folder(tmp_path: Path) -> None:
    assert find_data("houston-crop", None, str(tmp_path)).name == "houston_dataset.mat"
    assert find_data("houston-crop", tmp_path, None) == tmp_path


@pytest.mark.data
def test_the_mean_of_the_real_crop_has_the_known_error() -> None:
    root = os.environ.get("SPECTILE_DATA")
    if not root:
        pytest.skip("SPECTILE_DATA names no folder of real imagery")
    data = find_data("houston-crop", None, root)
    report, _, _ = evaluate_counts(PROTOCOLS["houston-crop"], data, rungs=["mean"])
    # An independent computation on the same columns gave 3455 DN and 0.1827 rad.
    assert report["models"]["mean"]["mean"]["rmse"] == pytest.approx(3455, abs=1)
    assert report["models"]["mean"]["mean"]["sam"] == pytest.approx(0.1827, abs=1e-4)


def test_an_evaluation_that_was_stopped_goes_on_with_the_same_report(
    crop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, measured = evaluate.evaluate_rung, []

    def stopping(protocol: object, split: object, rung: str, **how: object) -> object:
        measured.append((rung, how["seed"]))
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(protocol, split, rung, **how)  # type: ignore[arg-type]

    def report(keep: str | None, *more: object) -> dict[str, object]:
        out = tmp_path / (keep or "") / "report.json"
        given = () if keep is None else ("--keep", tmp_path / keep, "--report", tmp_path / keep)
        code = _run(
            "--protocol", "houston-crop", "--data", crop, "--rungs", "mean,ridge,mlp", "--seeds", 2,
            "--samples", 2, "--training-steps", 4, "--json", out, *given, *more,
        )  # fmt: skip
        return json.loads(out.read_text()) if code == 0 else {"code": code}

    monkeypatch.setattr(evaluate, "evaluate_rung", stopping)
    (tmp_path / "kept").mkdir()
    assert report("kept")["code"] != 0
    capsys.readouterr()
    assert report("kept", "--json", tmp_path / "kept" / "rows.json")["code"] == 2
    assert "would overwrite" in capsys.readouterr().err
    # Cheap rungs first, and of what has no seed one row.
    resumed = report("kept")
    assert measured == [("mean", 0), ("ridge", 0), ("mlp", 0), ("mlp", 0), ("mlp", 1)]
    assert report("kept") == resumed
    assert len(measured) == 5
    whole = report(None)
    for found in (resumed, whole):
        for model in found["models"].values():
            for row in (model, *model["seeds"]):
                del row["fit_seconds"], row["predict_seconds"]
    assert resumed == whole
    assert (tmp_path / "kept" / "houston-crop.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    assert report("kept", "--training-steps", 5)["code"] == 2
    assert "of another evaluation (got training_steps 4" in capsys.readouterr().err
    kept = json.loads((tmp_path / "kept" / "rows.json").read_text())
    older = {**kept, "of": {**kept["of"], "code": "older"}}
    (tmp_path / "kept" / "rows.json").write_text(json.dumps(older))
    assert report("kept")["code"] == 2
    assert "of another evaluation (got code older" in capsys.readouterr().err
    (tmp_path / "kept" / "rows.json").write_text("{")
    assert report("kept")["code"] == 2
    assert "the rows cannot be read" in capsys.readouterr().err
