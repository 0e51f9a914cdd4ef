"""A user's own files become scenes, or one clear line before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy.io import savemat

from spectile.catalog.bands import RGB_CAMERA, VNIR48, MeasuredBands, NearestBands
from spectile.catalog.errors import SceneError, UsageError
from spectile.flows.training.data import (
    SceneSets,
    build_scenes,
    camera_responses,
    held_out_scenes,
    held_out_spectra,
)
from spectile.flows.training.recipe import Recipe, read_recipe
from spectile.flows.training.sources import (
    LibrarySource,
    ResponseSource,
    SceneSource,
    SimulatedScenes,
    Sources,
)
from spectile.model.cascade.means import training_pixels
from spectile.model.data.crops import CameraResponse, CropSource
from spectile.pipeline.spectra.libraries import read_spectral_library, sample_of

NM = np.arange(380.0, 1070.0, 10.0)
GOOD = (380.0, 1050.0)
RECIPE = Recipe(name="own")
CASCADE = RECIPE.config()


def _counts(seed: int = 0, bands: int = len(NM), side: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 5000, (bands, side, side)).astype(np.int16)


def _tif(path: Path, counts: np.ndarray | None = None, nm: np.ndarray = NM, **profile: object) -> Path:
    counts = _counts() if counts is None else counts
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(counts), height=counts.shape[1], width=counts.shape[2],
        dtype=counts.dtype, transform=from_origin(500_000, 5_000_000, 1, 1), crs="EPSG:32618", **profile,
    ) as file:  # fmt: skip
        file.write(counts)
        for band, wavelength in enumerate(nm, start=1):
            file.update_tags(band, wavelength=str(wavelength), wavelength_units="Nanometers")
    return path


def _source(path: str, **given: object) -> SceneSource:
    return SceneSource(path=path, name="mine", licence="mine", **{"scale": 1e-4, **given})  # type: ignore[arg-type]


def _build(folder: Path, *sources: SceneSource, responses: tuple[CameraResponse, ...] = ()) -> SceneSets:
    return build_scenes(replace(RECIPE, scenes=sources), CASCADE, folder, responses)


def test_a_scene_is_divided_by_columns(tmp_path: Path) -> None:
    counts = _counts()
    _tif(tmp_path / "a.tif", counts)
    strips = {"validation_columns": 6, "held_out_columns": 4, "gap_columns": 2, "good_nm": GOOD}
    sets = _build(tmp_path, _source("a.tif", **strips))
    (training,), (validation,), (held_out,) = sets.training, sets.validation, sets.held_out
    for scene, columns in ((training, slice(0, 10)), (validation, slice(12, 18)), (held_out, slice(20, 24))):
        keep = [i for i, nm in enumerate(NM) if 380 <= nm <= 1050]
        np.testing.assert_allclose(scene.cube, counts[keep][:, :, columns] * 1e-4, rtol=1e-3)
    assert [scene.name for scene in (training, held_out)] == ["a/training", "a/held_out"]


def test_a_gap_parts_what_is_trained_on_from_what_is_measured_on(tmp_path: Path) -> None:
    _tif(tmp_path / "a.tif")
    for columns in ("validation_columns", "held_out_columns"):
        given = {columns: 6, "good_nm": GOOD}
        val = _source("a.tif", validation=True, good_nm=GOOD)
        (training,) = _build(tmp_path, _source("a.tif", **given), val).training
        assert training.valid.shape == (24, 14)
    with pytest.raises(UsageError, match=r"no column is left to train on.*24 in all, with gaps of 4"):
        _build(tmp_path, _source("a.tif", validation_columns=8, held_out_columns=8))


def test_scenes_keep_their_own_pixels_unless_told_otherwise(tmp_path: Path) -> None:
    _tif(tmp_path / "a.tif")
    strips = {"validation_columns": 6, "held_out_columns": 4, "good_nm": GOOD}
    for zoom, side in (({}, 24), ({"zoom": 3}, 72)):
        sets = _build(tmp_path, _source("a.tif", **strips, **zoom))
        assert sets.training[0].valid.shape[0] == side
        # What is measured on is never enlarged: bilinear pixels are no measurements.
        assert sets.validation[0].valid.shape == (24, 6)
        assert sets.held_out[0].valid.shape == (24, 4)


def test_scenes_held_out_whole_are_read_without_the_others(tmp_path: Path) -> None:
    _tif(tmp_path / "a.tif")
    _tif(tmp_path / "b.tif")
    recipe = Sources(
        name="r",
        scenes=(_source("missing.tif", good_nm=GOOD), _source("b.tif", held_out=True, good_nm=GOOD)),
    )
    (scene,) = held_out_scenes(recipe, tmp_path, VNIR48, RGB_CAMERA)
    assert scene.name == "b/held_out"
    assert scene.valid.shape == (24, 24)
    with pytest.raises(UsageError, match="holds no scene out"):
        held_out_scenes(Sources(name="r"), tmp_path, VNIR48, RGB_CAMERA)


NAMES = (
    ("HS66", "Albite HS66.3B Plagioclase  NIC4bbb RREF", "Albite HS66.6  Plagioclase   ASDFRc AREF"),
    ("GDS28", "Anorthite GDS28 Syn <74um     BECKa AREF", "Anorthite GDS28 Syn <74um    NIC4aa RREF"),
    ("SA-191213", "5-Aminoorotic SA-191213 85K  ASDHRa AREF", "5-Aminoorotic_acid SA-191213 NIC4aa RREF"),
    ("BHVO-2F+4%_Octane", "BHVO-2F+4%_Octane 85K NIC4aa RREF", "BHVO-2F+4%_Octane  NIC4aa RREF"),
    ("Cyanide_Potassium", "Cyanide_Potassium  NIC4a RREF", "Cyanide_Potassium  BECKa AREF"),
    ("roof 2", "roof 2", "roof 2 in the shade"),
)  # fmt: skip


def test_a_sample_is_known_by_its_name_under_every_spectrometer_and_grain_size() -> None:
    for sample, *names in NAMES:
        assert [sample_of(name) for name in names] == [sample, sample]
    assert sample_of("Albite HS143.1B Plagioclase  ASDFRb AREF") != "HS66"
    assert sample_of("roof 1") != "roof 2"


def test_no_sample_of_a_library_is_on_both_sides() -> None:
    names = [f"{name} {number}.{grain}B  {kind} AREF"
             for number, name in enumerate(f"Mineral HS{i}" for i in range(40))
             for grain in range(3) for kind in ("ASDFRb", "BECKb")]  # fmt: skip
    held = held_out_spectra([sample_of(name) for name in names], 0.1)
    sides = [
        {sample_of(name) for name, out in zip(names, held, strict=True) if out == side} for side in (0, 1)
    ]
    assert not sides[0] & sides[1]
    assert held.sum() == 24


def test_a_library_of_one_sample_cannot_be_divided(tmp_path: Path) -> None:
    spectra = np.full((4, len(NM)), 0.3, dtype="<f4")
    spectra.tofile(tmp_path / "a.sli")
    (tmp_path / "a.hdr").write_text(
        f"ENVI\nsamples = {len(NM)}\nlines = 4\ndata type = 4\n"
        f"wavelength = {{{', '.join(map(str, NM))}}}\nspectra names = {{roof, roof, roof, roof}}\n"
    )
    library = LibrarySource(path="a.sli", name="a", licence="mine")
    with pytest.raises(UsageError, match="no spectrum is left to hold out"):
        build_scenes(replace(RECIPE, libraries=(library,)), CASCADE, tmp_path)


def test_spectra_of_a_library_are_chosen_and_counted_and_may_lack_bands(tmp_path: Path) -> None:
    nm = np.arange(450.0, 1060.0, 10.0)
    rows = {f"soil{i}": np.full(len(nm), 0.2 + 0.01 * i) for i in range(20)}
    rows["soil20"] = rows["soil0"] - 0.205
    rows["soil21"] = rows["soil0"] + 1.0
    rows["v-model"] = rows["soil0"]
    text = [",".join(["name", *(f"{x:g}" for x in nm)])]
    text += [",".join([name, *(f"{x:g}" for x in row)]) for name, row in rows.items()]
    (tmp_path / "a.csv").write_text("\n".join(text))
    library = LibrarySource(
        path="a.csv", name="a", licence="mine", names="[!v]*", sample_column="name", scenes=2, size=24,
        good_nm=(440.0, 1100.0), bad_nm=((900.0, 920.0),),
    )  # fmt: skip
    simulated = SimulatedScenes(scenes=1, validation=1, held_out=0, size=32)
    sets = build_scenes(replace(RECIPE, simulator=simulated, libraries=(library,)), CASCADE, tmp_path)
    said = sets.data[-1]["spectra"]
    assert said == "21 of 23: 1 have another name, 0 a gap, 1 values beyond -0.01 to 1.1"
    mosaic = sets.training[-1]
    assert len(mosaic.bands) == len(nm) - 3
    assert mosaic.cube.min() >= 0.0
    source = CropSource(sets.training, CASCADE.bands, CASCADE.response)
    assert source.complete == [True, False, False]
    _, spectra = training_pixels(source, 0, None, crop=16)
    # The bands that the library lacks follow from those it has.
    assert float(spectra[:, 0].min()) > 0.0
    far = replace(library, good_nm=(2000.0, 2400.0))
    with pytest.raises(SceneError, match="no band in that range"):
        build_scenes(replace(RECIPE, libraries=(far,)), CASCADE, tmp_path)


@pytest.mark.data
def test_usgs_samples_are_on_one_side(data_dir: Path) -> None:
    library = read_spectral_library(data_dir / "spectral_libraries/s07_AV95_envi.sli")
    held = held_out_spectra(library.samples, 0.1)
    numbers = [
        {name.split()[1].split(".")[0] for name, out in zip(library.names, held, strict=True)
         if out == side and " HS" in name}
        for side in (False, True)
    ]  # fmt: skip
    assert len(numbers[1]) > 10
    assert not numbers[0] & numbers[1]
    assert held.mean() == pytest.approx(0.1, abs=0.02)


def test_folders_are_divided_by_use_and_share_their_weight(tmp_path: Path) -> None:
    for number in range(4):
        _tif(tmp_path / "train" / f"{number}.tif", _counts(number))
    _tif(tmp_path / "val" / "v.tif", _counts(8))
    _tif(tmp_path / "test" / "t.tif", _counts(9))
    sets = _build(
        tmp_path,
        _source("train", weight=0.8, glob="[0-2].tif", good_nm=GOOD),
        _source("val", validation=True, good_nm=GOOD),
        _source("test", held_out=True),
    )
    assert [scene.name for scene in sets.training] == [f"train/{i}/training" for i in range(3)]
    assert sum(scene.weight for scene in sets.training) == pytest.approx(0.8)
    assert [scene.name for scene in sets.validation + sets.held_out] == [
        "val/v/validation",
        "test/t/held_out",
    ]
    # A folder is one place, unless the recipe says which.
    assert {scene.site for scene in sets.training} == {"train"}
    pit = {"site": "the pit", "good_nm": GOOD}
    other = _build(tmp_path, _source("train", **pit), _source("val", **pit, validation=True))
    assert {scene.site for scene in other.training + other.validation} == {"the pit"}
    paths = [facts["path"] for facts in sets.data]
    assert paths == ["train/0.tif", "train/1.tif", "train/2.tif", "val/v.tif", "test/t.tif"]
    assert len({facts["sha256"] for facts in sets.data}) == 5


def test_bands_come_from_a_sensor_or_a_table(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"hyprImg": np.moveaxis(_counts(bands=48), 0, -1)})
    (tmp_path / "bands.csv").write_text(
        "wavelength,fwhm\n" + "\n".join(f"{nm},14" for nm in VNIR48.centre_nm)
    )
    for own in ("houston2018", "bands.csv"):
        source = _source("a.mat", bands_of=own, dataset="hyprImg", good_nm=(300, 1100), validation_columns=8)
        sets = _build(tmp_path, source)
        assert sets.training[0].bands.centre_nm == pytest.approx(VNIR48.centre_nm)


def test_every_bad_file_of_a_folder_is_named_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    _tif(folder / "good.tif")
    _tif(folder / "nodata.tif", np.zeros_like(_counts()), nodata=0)
    _tif(folder / "untagged.tif", nm=np.array([]))
    _tif(folder / "infrared.tif", nm=NM + 1500)
    _tif(folder / "red.tif", nm=NM + 300)
    (folder / "broken.tif").write_bytes(b"II*\0 no")
    with pytest.raises(SceneError) as caught:
        _build(tmp_path, _source("mine", good_nm=(300, 2500)))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("mine: 5 of 6 files cannot be used: broken.tif: cannot be read")
    for said in (
        "nodata.tif: no pixel is valid",
        "untagged.tif: the file does not say its wavelengths",
        "mine/infrared/training: the scene has none of the model's bands",
        "mine/red/training: the scene's bands do not cover the camera's channels",
    ):
        assert said in line


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": None}, "does not say its scale"),
        ({"scale": 1.0}, "not reflectance.*check its scale"),
        ({"good_nm": (2000, 2500)}, r"a.tif: no band in that range"),
        ({"path": "nothing.tif"}, "no such file"),
        ({"path": "empty"}, "no hyperspectral file matches"),
        ({"despike": 0.1}, "a.tif: every pixel holds a spike"),
        ({"held_out_columns": 20, "validation_columns": 4}, "no column is left"),
        ({"bands_of": "no.csv"}, "no.csv: no such file"),
        ({"good_nm": GOOD}, "no scenes for validation"),
        ({"validation_columns": 4, "good_nm": (500, 700)}, "do not cover the camera"),
        (
            {"validation_columns": 4, "good_nm": (430, 700)},
            r"no scene for training has every band.*380 to 1050 nm",
        ),
    ],
)
def test_what_cannot_train_is_one_line(tmp_path: Path, given: dict[str, object], message: str) -> None:
    _tif(tmp_path / "a.tif")
    (tmp_path / "empty").mkdir()
    source = _source(**{"path": "a.tif", **given})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message) as caught:
        _build(tmp_path, source)
    assert "\n" not in str(caught.value)


def test_a_camera_that_the_scene_does_not_cover_is_refused(tmp_path: Path) -> None:
    _tif(tmp_path / "a.tif")
    blind = CameraResponse(NearestBands((1600.0, 550.0, 450.0), (1.0,) * 3))
    with pytest.raises(UsageError, match=r"a/training: the scene's bands do not cover"):
        _build(tmp_path, _source("a.tif", validation_columns=4), responses=(blind,))


def test_contradictions_in_a_source_are_refused() -> None:
    with pytest.raises(UsageError, match="not both"):
        _source("a.tif", held_out=True, validation=True)
    with pytest.raises(UsageError, match="not both"):
        _source("a.tif", held_out=True, validation_columns=3)


def test_responses_by_name_by_wavelength_and_from_a_file(tmp_path: Path) -> None:
    rows = [f"{nm},{nm > 600:d},{500 < nm <= 600:d},{nm <= 500:d}" for nm in range(400, 701, 5)]
    (tmp_path / "curves.csv").write_text("\n".join(rows))
    (tmp_path / "recipe.toml").write_text(
        'name = "own"\nresponses = ["rgb_camera", {file = "curves.csv", channels = [1, 2, 3], weight = 2.0}, '
        "{nearest_nm = [640, 550, 460]}]\n"
    )
    recipe = read_recipe(tmp_path / "recipe.toml")
    expected, measured, nearest = camera_responses(recipe, tmp_path)
    assert expected == CameraResponse(RGB_CAMERA)
    assert isinstance(measured.bands, MeasuredBands)
    assert measured.weight == 2.0
    assert isinstance(nearest.bands, NearestBands)


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ("[]", "at least the expected one"),
        ('["landsat"]', "unknown sensor"),
        ('["vnir48"]', "three channels"),
        ("[{weight = 1.0}]", "one of sensor, file and nearest_nm"),
        ('[{file = "a.csv"}]', "needs channels with a file"),
        ('[{sensor = "ikonos", weight = 0}]', "positive weight"),
        ('[{senor = "ikonos"}]', "unknown key senor"),
        ('[{file = "none.csv", channels = [1, 2, 3]}]', "none.csv"),
        ('["rgb_camera"]\n[training.augmentation]\nresponses = []', "a key of the recipe itself"),
    ],
)
def test_a_response_with_a_mistake_is_one_line(tmp_path: Path, responses: str, message: str) -> None:
    (tmp_path / "recipe.toml").write_text(f'name = "own"\nresponses = {responses}\n')
    with pytest.raises(UsageError, match=message):
        camera_responses(read_recipe(tmp_path / "recipe.toml"), tmp_path)


def test_a_source_without_a_response_has_a_message() -> None:
    with pytest.raises(UsageError, match="one of"):
        ResponseSource(sensor="ikonos", nearest_nm=(1.0, 2.0, 3.0))


def test_a_model_of_ones_own_bands(tmp_path: Path) -> None:
    _tif(tmp_path / "a.tif")
    (tmp_path / "recipe.toml").write_text(
        'name = "own"\nsensor = {first_nm = 430, last_nm = 730, count = 31}\ncoarse = 10\n'
        '[[scenes]]\npath = "a.tif"\nname = "a"\nlicence = "mine"\nscale = 1e-4\nvalidation_columns = 5\n'
        "good_nm = [430.0, 730.0]\n"
    )
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert isinstance(recipe, Recipe)
    cascade = recipe.config()
    assert np.diff(cascade.bands.centre_nm) == pytest.approx([10.0] * 30)
    assert build_scenes(recipe, cascade, tmp_path).training[0].cube.shape == (31, 24, 15)
    (tmp_path / "recipe.toml").write_text(
        'name = "own"\nsensor = {first_nm = 430, last_nm = 400, count = 31}\n'
    )
    with pytest.raises(UsageError, match="first_nm"):
        read_recipe(tmp_path / "recipe.toml")


def test_simulated_scenes_alone_serve(tmp_path: Path) -> None:
    recipe = replace(RECIPE, simulator=SimulatedScenes(scenes=1, validation=1, held_out=1, size=64))
    sets = build_scenes(recipe, CASCADE, tmp_path)
    assert [len(part) for part in (sets.training, sets.validation, sets.held_out)] == [1, 1, 1]


@pytest.mark.data
def test_real_tiles_are_a_folder_of_scenes(data_dir: Path) -> None:
    sets = _build(
        data_dir,
        _source("enmap_potsdam", glob="*_1??_*.tif", despike=30.0, scale=None),
        _source("enmap_potsdam", glob="*_64_*.tif", validation=True, scale=None),
        _source("houston2018_crop/houston_dataset.mat", dataset="hyprImg", bands_of="houston2018",
                scale=5e-5, good_nm=(370, 1060), validation_columns=32),
    )  # fmt: skip
    assert len(sets.training) > 8
    assert all(scene.valid.mean() > 0.8 for scene in sets.training)
