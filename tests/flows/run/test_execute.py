import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import zarr

from spectile.catalog.errors import CubeError, StoreError, UsageError
from spectile.flows.run import execute, state
from spectile.flows.run.execute import process_blocks, remaining, run_scene, start_cube
from spectile.flows.run.planning import prepare
from spectile.flows.run.settings import SceneSettings
from spectile.pipeline.cube import ledger
from spectile.pipeline.cube.record import open_cube, read_status
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.store.local import LocalStorage
from spectile.pipeline.store.opening import open_storage


@pytest.fixture
def several(settings, make_scene) -> SceneSettings:
    """Of a scene of two blocks by two."""
    make_scene((540, 560), nodata=0, hole=(slice(100, 180), slice(0, 560)))
    return settings


class Recorder(state.Silent):
    """An observer that remembers."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.before: list[str] = []
        self.tiles_told = 0

    def begin(self, plan, estimate, done) -> None:
        self.before = [block.name for block in done]

    def tiles(self, count) -> None:
        self.tiles_told += count

    def block(self, block, seconds) -> None:
        self.done.append(block.name)


def counts(path: str) -> np.ndarray:
    return zarr.open_group(path, mode="r")["reflectance"][:]


@pytest.mark.usefixtures("with_quicklooks")
def test_a_scene_becomes_a_verified_cube(several):
    seen = Recorder()
    prepared, result = run_scene(several, observer=seen)
    assert verify_cube(open_storage(several.out)) == []
    assert (result.blocks_done, result.blocks_failed) == (4, 0)
    assert seen.tiles_told == prepared.estimate.tiles
    assert seen.tiles_told == result.tiles + result.tiles_skipped + result.tiles_kept
    assert (result.tiles, result.tiles_kept, result.redundancy) == (4, 0, 1)  # cores are blocks
    assert Path(result.quicklook).exists()
    found = open_cube(several.out)
    _, valid = prepared.source.read(prepared.source.grid.window)
    assert np.isfinite(found.reflectance.values[:, valid]).all()
    assert np.isnan(found.reflectance.values[:, ~valid]).all()
    assert found.rio.crs.to_epsg() == 32619


class Counting(LocalStorage):
    """A folder that counts what is read of it."""

    reads: ClassVar[Counter[str]] = Counter()

    def get(self, key: str) -> bytes | None:
        self.reads[key] += 1
        return super().get(key)


@pytest.mark.usefixtures("with_reports")
def test_one_finish_reads_each_marker_once(settings, make_scene):
    make_scene((20, 1030))
    with prepare(settings) as prepared:
        cube = start_cube(prepared, Counting(Path(settings.out)))
        process_blocks(prepared, cube, remaining(cube), tally=state.Tally(), observer=state.Silent())
        Counting.reads.clear()
        result = execute.conclude(prepared, cube, state.Tally(), state.Silent(), 0.0)
    assert len(prepared.plan.blocks) == 3
    assert Path(result.report).exists()
    assert {Counting.reads[ledger.key_of(block)] for block in prepared.plan.blocks} == {1}
    assert verify_cube(cube.storage) == []


def test_blocks_that_share_tiles_keep_those_of_the_block_before(several):
    _, result = run_scene(replace(several, tile=256, halo=32))
    assert verify_cube(open_storage(several.out)) == []
    # Of 3 × 3 tiles the right block of each row shares those of its left edge, which are kept; the lower
    # blocks share three with the upper ones, which are predicted again.
    assert (result.tiles, result.tiles_kept, result.redundancy) == (12, 4, 12 / 9)


def test_what_changes_no_value_changes_no_value(several):
    run_scene(several)
    expected = counts(several.out), read_status(open_storage(several.out))["digest"]
    for change in ({"block": 1024}, {"batch": 1}, {"block": None}, {"memory": 10**10}):
        other = replace(several, out=several.out + ".2.zarr", overwrite=True, **change)
        run_scene(other)
        np.testing.assert_array_equal(counts(other.out), expected[0], err_msg=str(change))
        assert read_status(open_storage(other.out))["digest"] == expected[1], change


def test_a_region_equals_that_part_of_the_whole(settings, make_scene):
    make_scene((300, 320))
    prepared, _ = run_scene(settings)
    x, y = prepared.source.grid.transform @ (93, 45)
    other = replace(settings, out=settings.out + ".2.zarr", region=(x, y - 0.5 * 240, x + 0.5 * 210, y))
    run_scene(other)
    np.testing.assert_array_equal(counts(other.out), counts(settings.out)[:, 45:285, 93:303])
    both = [
        read_status(open_storage(each.out))["plan"]["settings"]["radiometry"] for each in (settings, other)
    ]
    assert both[0] == both[1]
    assert both[0]["gain"] is not None


def test_a_stopped_run_is_resumed_where_it_stopped(several):
    run_scene(several)
    whole = counts(several.out)
    again = replace(several, out=several.out + ".2.zarr")
    prepared = prepare(again)
    assert len(prepared.plan.blocks) == 4
    cube = start_cube(prepared)
    process_blocks(prepared, cube, remaining(cube)[:2], tally=state.Tally(), observer=state.Silent())
    seen = Recorder()
    _, result = run_scene(replace(again, resume=True, block=None), observer=seen)
    assert len(seen.before) == len(seen.done) == 2
    assert result.blocks_done == 4
    np.testing.assert_array_equal(counts(again.out), whole)
    assert verify_cube(open_storage(again.out)) == []


@pytest.mark.parametrize("option", ["resume", "overwrite"])
@pytest.mark.parametrize("moment", ["zarr.json", "valid/zarr.json", "ledger/plan.json"])
def test_a_run_killed_while_the_store_is_laid_out_can_go_on(settings, monkeypatch, moment, option):
    put = LocalStorage.put_guarded

    def killed(self, key, value, guard) -> None:
        if key == moment:
            raise KeyboardInterrupt
        put(self, key, value, guard)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put_guarded", killed)
        with pytest.raises(KeyboardInterrupt):
            run_scene(settings)
    run_scene(replace(settings, **{option: True}))
    assert verify_cube(open_storage(settings.out)) == []


def test_resuming_a_finished_cube_does_nothing(settings):
    run_scene(settings)
    seen = Recorder()
    _, result = run_scene(replace(settings, resume=True), observer=seen)
    assert seen.done == []
    assert result.megapixels == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"radiometry": "display:0.5"}, "settings.radiometry.gain"),
        ({"tile": 256}, "tile 256 instead of 512"),
        ({"nodata": "any"}, "settings.nodata any instead of all"),
        ({"samples": 2}, "samples 2 instead of 1"),
        ({"block": 1024}, "--block 1024"),
    ],
)
def test_resuming_with_other_settings_is_refused_and_names_them(settings, change, told):
    run_scene(settings)
    with pytest.raises(CubeError, match=told):
        run_scene(replace(settings, resume=True, **change))


def test_resuming_with_other_layers_is_refused(settings):
    settings = replace(settings, samples=4, layers=("q95", "sd"))
    prepared, _ = run_scene(settings)
    assert prepared.plan.layers == ("sd", "q95")
    run_scene(replace(settings, resume=True, layers=("sd", "q95")))
    with pytest.raises(CubeError, match=r"layers \['sd'\] instead of \['sd', 'q95'\]"):
        run_scene(replace(settings, resume=True, layers=None))


def test_resuming_after_the_scene_changed_is_refused(settings, make_scene):
    run_scene(settings)
    make_scene((40, 60), nodata=0, hole=(slice(10, 18), slice(0, 60)), seed=1)
    with pytest.raises(CubeError, match=r"scene\.sha256"):
        run_scene(replace(settings, resume=True))


def test_outputs_are_replaced_only_when_told_and_only_if_they_are_cubes(settings, tmp_path):
    run_scene(settings)
    with pytest.raises(CubeError, match="--resume"):
        run_scene(settings)
    run_scene(replace(settings, overwrite=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(CubeError, match="no cube"):
        run_scene(replace(settings, out=str(tmp_path / "mine"), overwrite=True))
    assert (tmp_path / "mine" / "thesis.txt").exists()
    with pytest.raises(UsageError, match="exclude"):
        run_scene(replace(settings, resume=True, overwrite=True))


def test_a_failed_start_leaves_an_old_cube_in_place(settings):
    run_scene(settings)
    with pytest.raises(UsageError, match="too large"):
        run_scene(replace(settings, overwrite=True, tile=256, halo=100))
    assert verify_cube(open_storage(settings.out)) == []


def test_an_unreadable_block_fails_by_name_and_the_others_are_done(settings, make_scene):
    make_scene((700, 560))
    prepared = prepare(replace(settings, block_retries=0))
    cube = start_cube(prepared)
    path = Path(settings.scene)
    held = path.read_bytes()
    path.write_bytes(held[: int(len(held) * 0.9)])
    prepared = replace(prepared, source=copy.deepcopy(prepared.source))  # which opens the file anew
    tally = state.Tally()
    process_blocks(prepared, cube, cube.plan.blocks, tally=tally, observer=state.Silent())
    assert tally.done == 2
    assert [line.split(":")[0] for line in tally.failures] == ["block r0001c0000", "block r0001c0001"]
    result = execute.conclude(prepared, cube, tally, state.Silent(), 0.0)
    assert (result.blocks_failed, result.quicklook) == (2, None)
    assert read_status(cube.storage)["status"] == "incomplete"


def test_a_store_that_cannot_be_written_stops_the_run(settings, monkeypatch):
    prepared = prepare(replace(settings, block_retries=0))
    cube = start_cube(prepared)

    def full(self, key, value) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalStorage, "put", full)
    with pytest.raises(StoreError, match=r"no space left.*--resume"):
        process_blocks(prepared, cube, cube.plan.blocks, tally=state.Tally(), observer=state.Silent())


def test_the_report_names_no_folder_in_its_provenance(settings):
    run_scene(settings)
    stored = str(read_status(open_storage(settings.out)))
    assert str(Path(settings.scene).parent) not in stored
    assert "sha256" in stored
