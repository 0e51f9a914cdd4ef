"""The fusion of a pair, from two files to a finished cube; the model's part is a stand-in here."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine

import spectile
from spectile.catalog.errors import CheckpointError, CubeError, SpectileError, UsageError
from spectile.flows.commands.app import main
from spectile.flows.run import fused, fusion, predictors
from spectile.flows.run.execute import start_cube
from spectile.flows.run.fusion import prepare_fusion, run_fusion
from spectile.flows.run.repair import repair_cube
from spectile.flows.run.settings import FuseSettings
from spectile.pipeline.cube.record import PAIR, load_plan, open_cube
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.pair.drift import Drift
from spectile.pipeline.pair.source import open_pair
from spectile.pipeline.plan.quality_layers import FLAGS
from spectile.pipeline.store.opening import open_storage
from tests.flows.run.pairs import HSI, NORTH_UP, RATIO, Repeated, write_bands, write_pair


def damaged():
    raise CheckpointError("damaged")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """Estimates that say little, and a fusion that repeats the HSI."""
    estimates = {"digest": "1" * 64, "method": "fuse:repeated", "shift_fine_px": [0.0, 0.0]}
    model = SimpleNamespace(facts=lambda: dict(estimates), method="fuse:repeated", digest="1" * 64)
    monkeypatch.setattr(fusion, "shift_of", lambda *_, **__: fused.Shift(Drift(), np.zeros((0, 4))))
    monkeypatch.setattr(fusion, "estimate", lambda *_, **__: (model, {}))
    monkeypatch.setattr(fusion, "write_pair", lambda _: b"estimates")
    monkeypatch.setattr(fusion, "read_pair", lambda value: model if value == b"estimates" else damaged())
    monkeypatch.setattr(predictors, "predictor_of", lambda *_, **__: Repeated())


@pytest.fixture
def settings(tmp_path) -> FuseSettings:
    hsi, msi, _ = write_pair(tmp_path, (20, 24))
    return FuseSettings(hsi=hsi, msi=msi, out=str(tmp_path / "cube.zarr"), tile=128, halo=16, block=512)


def test_a_fused_cube_lies_on_the_divided_grid_with_its_layers(settings):
    prepared, result = run_fusion(settings)
    cube = open_cube(settings.out)
    assert cube.reflectance.shape == (12, 80, 96)
    assert cube.wavelength.values.tolist() == list(HSI.centre_nm)
    assert cube.rio.transform() == NORTH_UP @ Affine.scale(1 / RATIO)
    hsi = open_pair(settings.hsi, settings.msi).hsi.read(prepared.source.hsi.grid.window).values
    np.testing.assert_allclose(cube.reflectance.values, hsi.repeat(4, axis=1).repeat(4, axis=2), atol=1.1e-4)
    # What is found in a tile stands in its core: 96 px, from 16 px after its first pixel.
    rows, cols = np.indices((80, 96)) // 96 * 96 - 16
    np.testing.assert_allclose(cube.hsi_consistency.values, (rows + 3 * cols) % 7 * 0.01, atol=1e-4)
    assert result.blocks_done == 1
    assert verify_cube(open_storage(settings.out)) == []
    plan = load_plan(open_storage(settings.out))
    assert plan.settings["pair"]["estimates"]["method"] == "fuse:repeated"
    assert len(plan.settings["pair"]["estimates"]["windows"]) == 1
    assert open_storage(settings.out).get(PAIR) == b"estimates"


def test_changed_places_are_flagged_by_core_whatever_the_block(settings, tmp_path):
    found = []
    hsi, msi, _ = write_pair(tmp_path, (40, 135))
    settings = replace(settings, hsi=hsi, msi=msi)
    part = {"region": (401_000.0, 5_798_900.0, 404_000.0, 5_799_800.0)}
    for block, changes in ((512, {}), (1024, {}), (512, part)):
        out = str(tmp_path / f"{block}{len(changes)}.zarr")
        run_fusion(replace(settings, out=out, block=block, layers=("quality", "hsi_consistency"), **changes))
        group = zarr.open_group(out, mode="r")
        found.append({name: group[name][:] for name in ("reflectance", "quality", "hsi_consistency")})
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name])
    window = load_plan(open_storage(tmp_path / "5121.zarr")).window
    changed = found[0]["quality"] & FLAGS["changed"] > 0
    msi = open_pair(hsi, msi).msi.read(Window(0, 0, 160, 540)).values[0]
    np.testing.assert_array_equal(changed, msi > 0.08)
    assert 0.1 < changed.mean() < 0.9
    rows, cols = np.indices(changed.shape) // 96 * 96 - 16
    np.testing.assert_array_equal(found[0]["hsi_consistency"], (rows + 3 * cols) % 7 * 100)
    for name in ("reflectance", "hsi_consistency"):
        np.testing.assert_array_equal(found[0][name][(..., *window.slices)], found[2][name])
    meant = zarr.open_group(str(tmp_path / "5120.zarr"), mode="r")["quality"].attrs["flag_meanings"].split()
    assert meant == list(FLAGS)


def test_a_run_goes_on_with_the_estimates_that_the_cube_keeps(settings, monkeypatch):
    prepared = prepare_fusion(settings)
    start_cube(prepared)
    monkeypatch.setattr(fusion, "sample_windows", lambda *_: pytest.fail("it was estimated again"))
    again, result = run_fusion(replace(settings, resume=True))
    assert again.plan.digest == prepared.plan.digest
    assert result.blocks_failed == 0
    with pytest.raises(
        CubeError, match=r"started with other settings .*pair\.asked\.response table instead of fit"
    ):
        run_fusion(replace(settings, resume=True, response="table"))


@pytest.mark.parametrize("damage", ["shard", "pair"])
def test_a_damaged_cube_is_made_again_from_both_scenes(settings, damage):
    run_fusion(settings)
    storage = open_storage(settings.out)
    key = (
        PAIR if damage == "pair" else next(key for key in storage.walk() if key.startswith("reflectance/c/"))
    )
    before = storage.get(key)
    storage.put(key, b"damaged")
    assert len(verify_cube(storage)) == 1
    with pytest.raises(UsageError, match=r"does not know in which folder its scene is"):
        repair_cube(settings.out)
    with pytest.raises(
        UsageError, match=r"fused from two scenes \(got 1\); name them with --scene HSI --scene MSI"
    ):
        repair_cube(settings.out, [settings.hsi])
    found, left = repair_cube(settings.out, settings.places)
    assert found.problems
    assert not left.problems
    assert storage.get(key) == before


def test_a_cube_whose_hsi_needed_wavelengths_is_repaired_by_those_of_its_plan(settings, tmp_path):
    with rasterio.open(settings.hsi) as source:
        values, transform = source.read(), source.transform
    hsi = write_bands(tmp_path / "bare.tif", values, None, transform)
    lines = [f"{nm},{width}" for nm, width in zip(HSI.centre_nm, HSI.fwhm_nm, strict=True)]
    table = tmp_path / "bands.csv"
    table.write_text("\n".join(["wavelength,fwhm", *lines]))
    settings = replace(settings, hsi=hsi, wavelengths=str(table))
    run_fusion(settings)
    storage = open_storage(settings.out)
    table.unlink()
    for key in (PAIR, next(key for key in storage.walk() if key.startswith("reflectance/c/"))):
        before = storage.get(key)
        storage.put(key, b"damaged")
        _, left = repair_cube(settings.out, [hsi, settings.msi])
        assert not left.problems
        assert storage.get(key) == before


def test_tiles_are_whole_pixels_of_the_hsi(settings):
    plan = prepare_fusion(replace(settings, tile=101, halo=9), dry=True).plan
    assert (plan.tiling.tile, plan.tiling.halo) == (104, 12)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"steps": 4}, r"^a fusion takes no --steps"),
        ({"compiled": True}, r"^a fusion takes no --compile"),
        ({"region": (0.0, 0.0, 10.0, 10.0)}, r"^the region does not overlap the scene"),
        ({"ratio": 65}, r"--ratio 64 or less"),
        ({"hsi": "no.tif"}, r"no such file"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings, changes, line):
    with pytest.raises(SpectileError, match=line) as caught:
        prepare_fusion(replace(settings, **changes), dry=True)
    assert "\n" not in str(caught.value)


def test_a_notebook_gets_the_cube(settings):
    cube = spectile.fuse(settings.hsi, settings.msi, settings.out, tile=128, halo=16)
    assert cube.reflectance.shape == (12, 80, 96)


@pytest.mark.usefixtures("with_quicklooks", "with_reports")
def test_report_and_item_tell_of_the_pair(settings):
    _, result = run_fusion(settings)
    assert result.report is not None
    page = Path(result.report).read_text()
    assert "A hyperspectral cube fused from two scenes" in page
    assert "Every pixel of the hyperspectral scene has been divided" in page
    assert "Difference from the hyperspectral scene" in page
    assert "hsi.tif" in page
    assert "msi.tif" in page
    item = json.loads(Path(result.item).read_text())
    assert item["properties"]["spectile:ratio"] == RATIO
    assert item["properties"]["spectile:shift"] == [0.0, 0.0]
    sources = [link["title"] for link in item["links"] if link["rel"] == "derived_from"]
    assert sources == ["hsi.tif", "msi.tif"]


def test_the_commands_fuse_and_plan_a_pair(settings, tmp_path, capsys):
    both = ["--hsi", settings.hsi, "--msi", settings.msi, "--out", settings.out]
    assert main(["fuse", *both, "--tile", "128", "--halo", "16"]) == 0
    assert verify_cube(open_storage(settings.out)) == []
    assert main(["fuse", *both, "--overwrite", "--dry-run"]) == 0
    assert "HSI: 12 bands from 450 to 890 nm" in capsys.readouterr().out
    out = tmp_path / "plan.geojson"
    assert main(["plan", settings.hsi, "--msi", settings.msi, "--out", str(out)]) == 0
    assert len(json.loads(out.read_text())["features"]) == 1
    assert main(["plan", settings.hsi, "--ratio", "4", "--out", str(out)]) == 2
    assert "a fusion has one hyperspectral scene and one other" in capsys.readouterr().err
    assert main(["plan", settings.hsi, "--flight-line", "--msi", settings.msi, "--out", str(out)]) == 2


def test_a_method_that_is_neither_a_name_nor_a_folder_is_refused_before_the_scenes_are_read(settings):
    with pytest.raises(UsageError, match=r"unknown method of fusion \(got vnir48, expected fuse"):
        prepare_fusion(replace(settings, model="vnir48", hsi="missing.tif"))
