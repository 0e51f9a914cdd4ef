"""A cube that somebody else made to do harm is refused in one line, whoever opens it, in bounded memory."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spectile.catalog.errors import SpectileError
from spectile.flows.console.describe import describe_cube, describe_run
from spectile.pipeline.cube.record import open_cube, plan_of, put_record, read_record
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.plan.plan import _sha256
from spectile.pipeline.product.export import export_cube
from spectile.pipeline.product.report import write_report
from spectile.pipeline.product.view import open_view
from spectile.pipeline.stac.item import cube_facts
from spectile.pipeline.store.base import LARGEST_JSON
from spectile.pipeline.store.local import LocalStorage
from tests.pipeline.cubes import make

MEMORY = 400_000_000
"""Bytes that a refusal may take at its peak."""
HUGE = 10**12
OVERVIEW_THAT_IS_NOT_THERE = {"layout": [{"asset": "overviews/99"}]}


def info(cube: Path) -> None:
    describe_cube(cube)


def verify(cube: Path) -> None:
    if problems := verify_cube(LocalStorage(cube)):
        raise SpectileError(problems[0])


def view(cube: Path) -> None:
    seen = open_view(str(cube))
    seen.read(seen.subject("true", 0.0), seen.levels[-1])
    seen.spectrum(300, 300)


def export(cube: Path) -> None:
    export_cube(cube, cube.with_name("out.tif"), to="geotiff")


def opened(cube: Path) -> None:
    open_cube(cube).reflectance[:, 300, 300].compute()


def item(cube: Path) -> None:
    cube_facts(LocalStorage(cube))


DOORS = {"info": info, "verify": verify, "view": view, "export": export, "open_cube": opened}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube that nobody has touched."""
    cube = make(tmp_path_factory.mktemp("whole"), samples=2, layers=("sd",))
    return Path(str(cube.storage))


@pytest.fixture
def cube(whole: Path, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(whole, tmp_path / "cube.zarr"))


def refused(door: str, cube: Path) -> str:
    """The one line that a door says, which took little memory and left nothing behind."""
    before = {path.name for path in cube.parent.iterdir()}
    tracemalloc.start()
    try:
        with pytest.raises(SpectileError) as caught:
            DOORS[door](cube)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY
    assert len(str(caught.value)) < 2000
    assert str(caught.value).count("\n") == 0
    assert {path.name for path in cube.parent.iterdir()} == before
    return str(caught.value)


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the JSON of a file."""
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def edit_array(cube: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the metadata of an array, in both places that hold them."""
    edit(cube / name / "zarr.json", change)
    edit(cube / "zarr.json", lambda root: change(root["consolidated_metadata"]["metadata"][name]))


def edit_plan(cube: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the plan, in both places that hold it, with a digest that fits."""
    storage = LocalStorage(cube)

    def both(facts: dict[str, Any]) -> None:
        change(facts["plan"])
        facts["digest"] = _sha256(facts["plan"])

    edit(cube / "zarr.json", lambda root: both(root["attributes"]["spectile"]))
    record = read_record(storage)
    assert record is not None
    both(record)
    put_record(storage, record)


@pytest.mark.parametrize("door", DOORS)
def test_an_honest_cube_opens_by_every_door(cube, door):
    DOORS[door](cube)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "change",
    [
        {"window": [0, 0, HUGE, 1100], "scene": {"shape": [HUGE, 1100]}},
        {"window": [0, 0, HUGE, HUGE], "scene": {"shape": [HUGE, HUGE]}},
        {"bands": HUGE}, {"bands": -1}, {"tile": 0}, {"layers": ["sd"] * 3}, {"quality": ["spatial_ref"]},
        {"scenes": [{"name": "a", "shards": [[0, 0, HUGE]], "tiles": [[0, 0, 1]]}]},
        {"scenes": {"a": 1}}, {"settings": [1, 2]}, {"scene": "a"}, {"window": "abcd"}, {"window": [1]},
        {"window": [0.5, 0, 600, 1100]}, {"samples": "many"}, {"samples": None},
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(cube, change, door):
    def harm(plan: dict[str, Any]) -> None:
        for key, value in change.items():
            plan[key] = {**plan[key], **value} if key == "scene" and isinstance(value, dict) else value

    edit_plan(cube, harm)
    assert "plan" in refused(door, cube)


def larger(name: str, *, chunks: bool) -> Callable[[dict[str, Any]], None]:
    """Metadata of an array of a trillion rows, or of chunks of so many."""

    def harm(metadata: dict[str, Any]) -> None:
        target = metadata["chunk_grid"]["configuration"]["chunk_shape"] if chunks else metadata["shape"]
        target[-2 if len(target) > 1 else 0] = HUGE // 512 * 512

    return harm


READS = [door for door in DOORS if door != "verify"]


@pytest.mark.parametrize("door", READS)
@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("name", ["reflectance", "valid", "wavelength", "fwhm", "y", "good_wavelengths"])
def test_an_array_larger_than_the_plan_is_refused_before_it_is_read(cube, name, chunks, door):
    edit_array(cube, name, larger(name, chunks=chunks))
    assert name in refused(door, cube)


@pytest.mark.parametrize("door", READS)
@pytest.mark.parametrize(
    "codecs",
    [
        [{"name": "numcodecs.pickle", "configuration": {}}], [{"name": "nobody's"}], [{"name": "gzip"}],
        [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 5}}], "bytes", [1], [],
    ],
)  # fmt: skip
def test_an_unknown_codec_is_refused(cube, codecs, door):
    edit_array(cube, "wavelength", lambda metadata: metadata.update(codecs=codecs))
    refused(door, cube)


@pytest.mark.parametrize("door", READS)
@pytest.mark.parametrize(
    "dtype",
    [
        "object", "string", "float64", "|O", 7, [], {}, {"name": "numpy.datetime64"},
        {"name": "fixed_length_utf32", "configuration": {"length_bytes": 4 * HUGE}},
    ],
)  # fmt: skip
def test_another_type_is_refused(cube, dtype, door):
    edit_array(cube, "reflectance", lambda metadata: metadata.update(data_type=dtype))
    refused(door, cube)


@pytest.mark.parametrize("door", [*READS, "item"])
@pytest.mark.parametrize("name", ["reflectance", "reflectance_sd", "wavelength", "spatial_ref"])
def test_attributes_of_an_array_of_another_type_never_end_in_a_traceback(cube, name, door):
    said = ("scale_factor", "_FillValue", "units", "grid_mapping", "coordinates", "calibration_samples",
            "crs_wkt", "GeoTransform")  # fmt: skip
    for value in ([], 7, {"a": []}):
        edit_array(cube, name, lambda metadata, value=value: metadata["attributes"].update(
            dict.fromkeys(said, value)))  # fmt: skip
        with suppress(SpectileError):
            {**DOORS, "item": item}[door](cube)


@pytest.mark.parametrize("key", ["data_type", "shape", "codecs", "attributes", "chunk_grid", "fill_value"])
@pytest.mark.parametrize("value", [[], {}, 7, None])
def test_metadata_of_an_array_of_another_type_never_end_in_a_traceback(cube, key, value):
    edit(cube / "reflectance/zarr.json", lambda metadata: metadata.update({key: value}))
    edit(cube / "zarr.json", lambda root: root.pop("consolidated_metadata"))
    for door in (*DOORS.values(), item):
        with suppress(SpectileError):
            door(cube)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", [[], "complete", 7, {"status": "complete"}, None])
def test_attributes_of_another_type_are_refused(cube, value, door):
    edit(cube / "zarr.json", lambda root: root["attributes"].update(spectile=value))
    refused(door, cube)


@pytest.mark.parametrize("door", READS)
def test_a_crs_that_is_none_is_refused(cube, door):
    edit_plan(cube, lambda plan: plan["scene"].update(crs="nowhere" * 100))
    if door != "open_cube":  # which leaves it to whoever asks for the CRS
        refused(door, cube)


@pytest.mark.parametrize("door", READS)
@pytest.mark.parametrize("value", [7, "x", [1], {"layout": 7}, OVERVIEW_THAT_IS_NOT_THERE])
def test_other_attributes_of_another_type_do_no_harm(cube, value, door):
    def harm(root: dict[str, Any]) -> None:
        root["attributes"].update(multiscales=value)

    edit(cube / "zarr.json", harm)
    if door == "view" and value == OVERVIEW_THAT_IS_NOT_THERE:
        refused(door, cube)
    else:
        DOORS[door](cube)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "key", ["zarr.json", "reflectance", "wavelength/c/0", "ledger", "reflectance/c/0/0/0"]
)
def test_a_link_out_of_the_store_is_not_followed(cube, whole, key, door):
    secret = cube.parent / "secret"
    shutil.move(cube / key, secret)
    (cube / key).symlink_to(secret)
    if (door, key) in {("info", "reflectance/c/0/0/0"), ("view", "ledger"), ("export", "ledger"),
                       ("open_cube", "ledger")}:  # fmt: skip
        DOORS[door](cube)  # which does not look there
    else:
        said = refused(door, cube)
        assert "a link leads out of the store" in said


def test_nothing_is_written_or_removed_through_a_link(cube):
    outside = cube.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"mine")
    (cube / "elsewhere").symlink_to(outside)
    for use in (lambda: LocalStorage(cube).put("elsewhere/kept", b"yours"),
                lambda: LocalStorage(cube).put_new("elsewhere/more/new", b"yours"),
                lambda: LocalStorage(cube).delete("elsewhere/kept")):  # fmt: skip
        with pytest.raises(SpectileError, match="a link leads out"):
            use()
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"kept": b"mine"}


def test_a_link_inside_the_store_is_a_file_like_another(cube):
    shutil.move(cube / "zarr.json", cube / "other.json")
    (cube / "zarr.json").symlink_to(cube / "other.json")
    info(cube)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("key", ["zarr.json", "wavelength/c/0", "ledger/plan.json"])
def test_a_pipe_is_not_waited_for(cube, key, door):
    (cube / key).unlink()
    os.mkfifo(cube / key)
    if key == "ledger/plan.json" and door != "verify":
        DOORS[door](cube)
    else:
        assert "not a file" in refused(door, cube)


@pytest.mark.parametrize("door", DOORS)
def test_metadata_without_an_end_are_not_read(cube, door):
    with (cube / "zarr.json").open("r+b") as file:
        file.truncate(LARGEST_JSON + 1)  # a hole: it takes no room on the disk
    assert "too large" in refused(door, cube)


@pytest.mark.parametrize("door", ["view", "export", "open_cube", "verify"])
def test_a_shard_without_an_end_is_not_read(cube, door):
    for path in (cube / "reflectance").glob("c/0/*/*"):
        with path.open("r+b") as file:
            file.truncate(10**11)
    assert "too large" in refused(door, cube)


@pytest.mark.parametrize("door", DOORS)
def test_metadata_that_are_nested_too_deep_are_refused(cube, door):
    (cube / "zarr.json").write_text("[" * 200_000)
    refused(door, cube)


@pytest.mark.parametrize("door", ["info", "verify"])
@pytest.mark.parametrize("value", [[], 7, "x", {"../../secret": "0"}, None])
def test_a_marker_with_another_kind_of_checksums_is_none(cube, value, door):
    for path in (cube / "ledger").glob("r*.json"):
        edit(path, lambda marker: marker.update(checksums=value))
    if door == "verify":
        assert "is not done" in refused(door, cube)
    else:
        assert "0 of" in str(describe_cube(cube)["status"])


def test_the_plan_that_tests_change_is_read_like_any_other(cube):
    record = read_record(LocalStorage(cube))
    assert record is not None
    assert plan_of(record, LocalStorage(cube)).digest == _sha256(record["plan"])


def test_a_chunk_that_states_a_negative_size_is_refused(cube):
    for path in (cube / "reflectance").glob("c/0/*/*"):
        shard = bytearray(path.read_bytes())
        shard[4:8] = (-128).to_bytes(4, "little", signed=True)  # of the first chunk, in blosc's header
        path.write_bytes(shard)
    for read in (lambda: open_view(str(cube)).spectrum(0, 0), lambda: export(cube)):
        with pytest.raises(SpectileError, match="Negative size") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [[], 7, "x", {"a": []}, {"model": 7, "scene": [], "radiometry": "x"}])
def test_a_report_of_a_cube_that_says_odd_things_is_made_or_refused_in_one_line(cube, value):
    edit_plan(cube, lambda plan: plan.update(settings=value))
    edit(cube / "zarr.json", lambda root: root["attributes"]["spectile"].update(
        dict.fromkeys(("taken", "warnings", "version", "valid_pixels", "notices"), value)))  # fmt: skip
    for door in (lambda: write_report(LocalStorage(cube)), lambda: describe_run(LocalStorage(cube))):
        with suppress(SpectileError):
            door()
