"""Outputs in places that are taken: nothing of others is removed, and refusals come before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spectile.catalog.errors import SpectileError
from spectile.flows.run import planning
from spectile.flows.run.execute import run_scene
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.product.export import export_cube


@pytest.fixture
def settings(make_scene: Callable[..., Path], tmp_path: Path) -> SceneSettings:
    return SceneSettings(
        scene=str(make_scene()), out=str(tmp_path / "out" / "cube.zarr"), model="bands-repeat",
        radiometry="display", block=512,
    )  # fmt: skip


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a scene fails the test."""

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("the scene was opened")

    monkeypatch.setattr(planning, "open_source", opened)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FOREIGN = (
    "thesis.txt", "source/readme.txt", "valid/c/notes.md", "ledger/diary.txt", "overviews/pictures/me.png",
    "overviews/2/plan.doc", "reflectance/.hidden", "film.mp4.partial", "ledger/.film.mp4.partial", "x/y/z",
)  # fmt: skip


def test_files_of_somebody_else_in_a_cubes_folder_stay(settings: SceneSettings) -> None:
    run_scene(settings)
    cube = Path(settings.out)
    for name in FOREIGN:
        (cube / name).parent.mkdir(parents=True, exist_ok=True)
        (cube / name).write_text("irreplaceable")
    run_scene(replace(settings, overwrite=True, region=(320_000.0, 4_880_990.0, 320_010.0, 4_881_000.0)))
    assert [name for name in FOREIGN if (cube / name).read_text() != "irreplaceable"] == []
    open_cube(cube).reflectance.load()


def test_what_a_larger_cube_left_goes(settings: SceneSettings) -> None:
    run_scene(replace(settings, samples=2, model="bands-repeat", layers=("sd",)))
    assert (Path(settings.out) / "reflectance_sd/zarr.json").exists()
    run_scene(replace(settings, overwrite=True, layers=()))
    assert not (Path(settings.out) / "reflectance_sd/zarr.json").exists()


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    "content", [{"thesis.txt": "mine"}, {".git/config": "mine"}, {"zarr.json": "{}"}, {}]
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_cube_is_never_written_into(
    settings: SceneSettings, content: dict[str, str], overwrite: bool
) -> None:
    out = Path(settings.out)
    for name, text in content.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    if not content:
        out.parent.mkdir()
        out.write_text("a file")
    before = files(out.parent)
    with pytest.raises(SpectileError, match=r"exists|no cube of spectile"):
        run_scene(replace(settings, overwrite=overwrite))
    assert files(out.parent) == before


@pytest.mark.usefixtures("no_work")
def test_an_output_that_would_replace_the_scene_is_refused(settings: SceneSettings, tmp_path: Path) -> None:
    scene = Path(settings.scene)
    picture = scene.rename(tmp_path / "town.quicklook.tif")
    before = files(tmp_path)
    for out in (picture, picture / "cube.zarr", tmp_path, tmp_path / "town.zarr"):
        with pytest.raises(SpectileError, match="overwrite the scene"):
            run_scene(replace(settings, scene=str(picture), out=str(out)))
    assert files(tmp_path) == before


@pytest.mark.usefixtures("no_work")
def test_somebody_elses_item_beside_the_cube_is_not_replaced(settings: SceneSettings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    item = tmp_path / "out" / "cube.stac.json"
    item.write_text('{"type": "Feature", "id": "mine"}')
    with pytest.raises(SpectileError, match=r"cube\.stac\.json.*another --out"):
        run_scene(settings)
    assert json.loads(item.read_text())["id"] == "mine"


def test_the_item_of_a_cube_that_was_removed_is_replaced(settings: SceneSettings) -> None:
    run_scene(settings)
    out = Path(settings.out)
    out.rename(out.with_name("elsewhere"))
    _, done = run_scene(settings)
    assert Path(done.item).exists()


def test_a_link_that_leads_out_of_a_cube_is_refused(
    settings: SceneSettings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run_scene(settings)
    request.getfixturevalue("no_work")
    for name in ("reflectance", "valid/c/0", "ledger/r0000c0000.json"):
        inside, outside = Path(settings.out) / name, tmp_path / "outside"
        inside.rename(outside)
        inside.symlink_to(outside)
        before = files(tmp_path)
        for again in ("overwrite", "resume"):
            with pytest.raises(SpectileError, match="a link in the cube leads out of it"):
                run_scene(replace(settings, **{again: True}))
        assert files(tmp_path) == before
        inside.unlink()
        outside.rename(inside)


def test_the_cubes_own_folder_may_be_a_link(settings: SceneSettings, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").mkdir()
    Path(settings.out).symlink_to(tmp_path / "disk")
    run_scene(settings)
    run_scene(replace(settings, overwrite=True))
    assert (tmp_path / "disk" / "zarr.json").exists()


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("place", ["/proc/cube.zarr", "/proc/self/deep/cube.zarr", "FILE/cube.zarr", "GONE"])
def test_a_place_that_cannot_be_written_is_told_before_any_work(
    settings: SceneSettings, tmp_path: Path, place: str
) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere" / "cube.zarr")
    out = place.replace("FILE", settings.scene).replace("GONE", str(tmp_path / "gone"))
    settings = replace(settings, scene=settings.scene.replace("scene.tif", "other.tif"), out=out)
    before = files(tmp_path)
    with pytest.raises(SpectileError, match="cannot be written") as refused:
        run_scene(settings)
    assert "\n" not in str(refused.value)
    assert files(tmp_path) == before


def test_an_export_replaces_no_folder_that_holds_more_than_an_export(
    settings: SceneSettings, tmp_path: Path
) -> None:
    import zarr

    run_scene(settings)
    zarr.create_group(tmp_path / "mine", zarr_format=2).create_array("a", shape=(2,), dtype="i4")[:] = 7
    export_cube(settings.out, tmp_path / "e", to="zarr2")
    (tmp_path / "e" / "reflectance" / "thesis.txt").write_text("irreplaceable")
    before = files(tmp_path)
    for out in ("mine", "e"):
        with pytest.raises(SpectileError, match="not an export of this format"):
            export_cube(settings.out, tmp_path / out, to="zarr2", replace=True)
    assert files(tmp_path) == before
    (tmp_path / "e" / "reflectance" / "thesis.txt").unlink()
    export_cube(settings.out, tmp_path / "e", to="zarr2", replace=True, dtype="float32")
