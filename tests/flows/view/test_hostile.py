"""Cubes that somebody else made to harm whoever looks at them: one line each, and little memory."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bokeh.document import Document

from spectile.catalog.errors import CubeError, SpectileError
from spectile.flows.commands.app import main
from spectile.flows.view.page import _facts
from spectile.flows.view.session import Pools
from spectile.flows.view.spectra import SpectraPane
from spectile.pipeline.cube.record import Cube
from spectile.pipeline.cube.write import create_cube
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product.view import open_view
from spectile.pipeline.store.local import LocalStorage
from tests.flows.view.test_page import AtOnce
from tests.pipeline.cubes import BANDS, make
from tests.pipeline.fakes import NORTH_UP, UTM

Edit = Callable[[dict[str, Any]], Any]
HUGE = 10**12


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    """A cube with one overview, whose arrays say for themselves what they are."""
    made = make(tmp_path_factory.mktemp("sound"), shape=(600, 80), samples=4, layers=("sd",))
    edit(made, "zarr.json", lambda root: root.pop("consolidated_metadata"))
    return made


@pytest.fixture
def cube(sound: Cube, tmp_path: Path) -> Cube:
    """A copy of it to spoil."""
    return Cube(LocalStorage(shutil.copytree(sound.storage.root, tmp_path / "cube.zarr")), sound.plan)


def edit(cube: Cube, key: str, change: Edit) -> None:
    path = cube.storage.root / key
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def look(cube: Cube) -> SpectraPane:
    """Everything that a page does of itself and at a click, in this thread."""
    view = open_view(str(cube.storage))
    _facts(view)
    pane = SpectraPane(AtOnce(Document(), Pools(None, None)), view)  # type: ignore[arg-type]
    pane.map.refresh()
    for subject in view.subjects.keys() & {"sd", "quality"}:
        pane.map.subject.value = subject
        pane.map.refresh()
    pane._tapped(*pane.map.point(300, 40))
    return pane


def refused(cube: Cube) -> str:
    with pytest.raises(SpectileError) as caught:
        look(cube)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    return line


def put(key: str, value: Any) -> Edit:
    return lambda said: said.__setitem__(key, value)


def sharding(key: str, value: Any) -> Edit:
    return lambda said: said["codecs"][0]["configuration"].__setitem__(key, value)


def test_the_cube_itself_is_shown(cube: Cube) -> None:
    assert len(look(cube).spots) == 1


@pytest.mark.parametrize(
    "change",
    [
        put("shape", [6, HUGE, 80]),
        put("shape", [HUGE, 600, 80]),
        put("shape", [600, 80]),
        put("shape", "6"),
        put("data_type", "string"),
        put("data_type", {"name": "null_terminated_bytes", "configuration": {"length_bytes": 10**9}}),
        put("data_type", "float64"),
        put("data_type", "complex128"),
        put("data_type", "object"),
        put("codecs", [{"name": "pickle"}]),
        put("codecs", [{"name": "bytes"}, {"name": "numcodecs.pickle"}]),
        put("codecs", [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]),
        put("codecs", 7),
        put("node_type", "group"),
        put("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [6, HUGE, HUGE]}}),
        sharding("chunk_shape", [1, 1, 1]),
        sharding("codecs", [{"name": "vlen-utf8"}]),
    ],
)
def test_an_array_that_is_not_a_cubes_is_refused(cube: Cube, change: Edit) -> None:
    edit(cube, "reflectance/zarr.json", change)
    assert str(cube.storage) in refused(cube)


@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("wavelength", put("shape", [HUGE])),
        ("wavelength", put("data_type", "string")),
        ("fwhm", put("shape", [5])),
        ("reflectance_sd", put("shape", [6, HUGE, HUGE])),
        ("overviews/2/reflectance", put("shape", [6, HUGE, 40])),
        ("overviews/2/reflectance", put("shape", [6, 40])),
    ],
)
def test_other_arrays_are_looked_at_too(cube: Cube, array: str, change: Edit) -> None:
    edit(cube, f"{array}/zarr.json", change)
    refused(cube)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("multiscales", []),
        ("multiscales", "overviews"),
        ("multiscales", {"layout": 3}),
        ("multiscales", {"layout": [1, None, {"asset": [2]}]}),
        ("title", {"<script>": 1}),
        ("spatial:shape", "none"),
    ],
)
def test_attributes_of_another_type_are_left_aside(cube: Cube, key: str, value: Any) -> None:
    edit(cube, "zarr.json", lambda root: root["attributes"].__setitem__(key, value))
    assert len(look(cube).spots) == 1


@pytest.mark.parametrize("settings", [{"model": "a name"}, {"model": {"name": ["x"]}}, {"model": 7}])
def test_settings_of_another_type_are_left_aside(tmp_path: Path, settings: Any) -> None:
    made = make(tmp_path, shape=(600, 80))
    tell(made, Plan(made.plan.grid, made.plan.window, made.plan.tiling, 512, len(BANDS), 1, (), settings))
    look(made)


def tell(cube: Cube, plan: Plan) -> None:
    """Let the cube say that this was its plan, with the digest that belongs to it."""

    def change(root: dict[str, Any]) -> None:
        root.pop("consolidated_metadata", None)
        root["attributes"]["spectile"].update(plan=plan.to_json(), digest=plan.digest)

    edit(cube, "zarr.json", change)


@pytest.mark.parametrize(
    ("key", "value"),
    [("block", "512"), ("plan", 3), ("digest", None), ("block", -1), ("plan", {"scene": []})],
)
def test_facts_of_another_type_are_refused(cube: Cube, key: str, value: Any) -> None:
    edit(cube, "zarr.json", lambda root: root["attributes"]["spectile"].__setitem__(key, value))
    refused(cube)


def test_a_cube_that_claims_a_million_million_rows_takes_no_memory(cube: Cube) -> None:
    def claim(root: dict[str, Any]) -> None:
        plan = root["attributes"]["spectile"]["plan"]
        plan["scene"]["shape"], plan["window"] = [HUGE, 80], [0, 0, HUGE, 80]

    edit(cube, "zarr.json", claim)
    assert f"too large for one cube (got {HUGE} × 80 px" in refused_in_little_memory(cube)


def test_a_large_cube_without_overviews_takes_no_memory(tmp_path: Path) -> None:
    grid = Grid((140_000, 140_000), NORTH_UP, UTM)
    plan = Plan(grid, grid.window, Tiling(grid.shape), 512, len(BANDS))
    cube = create_cube(LocalStorage(tmp_path / "large.zarr"), plan, BANDS)
    assert "140,000 × 140,000 px" in refused_in_little_memory(cube)


def refused_in_little_memory(cube: Cube) -> str:
    tracemalloc.start()
    try:
        line = refused(cube)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    return line


def test_links_out_of_the_cube_are_not_followed(cube: Cube, tmp_path: Path) -> None:
    secret = make(tmp_path / "secret", shape=(600, 80), samples=4, layers=("sd",)).storage.root
    shard = cube.storage.root / "reflectance" / "c" / "0" / "0" / "0"
    shard.unlink()
    shard.symlink_to(secret / "reflectance" / "c" / "0" / "0" / "0")
    assert "leads out" in refused(cube)
    shard.unlink()
    os.rename(cube.storage.root / "wavelength", tmp_path / "wavelength")
    (cube.storage.root / "wavelength").symlink_to(tmp_path / "wavelength")
    assert "leads out" in refused(cube)


def test_a_cube_that_is_a_link_is_shown(cube: Cube, tmp_path: Path) -> None:
    link = tmp_path / "link.zarr"
    link.symlink_to(cube.storage.root)
    assert open_view(str(link)).spectrum(300, 40).pixels == 1


@pytest.mark.parametrize("content", [b"", b"\xff" * 4096, bytes(100_000)])
def test_bytes_that_are_no_shard_are_told(cube: Cube, content: bytes) -> None:
    (cube.storage.root / "reflectance" / "c" / "0" / "0" / "0").write_bytes(content)
    assert str(cube.storage) in refused(cube)


def test_a_shard_with_rotten_chunks_is_told(cube: Cube) -> None:
    path = cube.storage.root / "reflectance" / "c" / "0" / "0" / "0"
    whole = bytearray(path.read_bytes())
    whole[: len(whole) - 200] = np.random.default_rng(1).bytes(len(whole) - 200)
    path.write_bytes(whole)
    assert str(cube.storage) in refused(cube)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "null", "[]", '"x"', "\xff", '{"attributes": []}'])
def test_metadata_that_are_none_are_one_line_and_exit_code_2(
    cube: Cube, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (cube.storage.root / "zarr.json").write_text(text, encoding="latin-1")
    assert main(["view", str(cube.storage), "--no-browser", "--port", "0"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    with pytest.raises(CubeError):
        open_view(str(cube.storage))
