"""What the layout promises: cheap imports, names that collide with nothing, a wheel with all it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_python(code: str, cwd: Path = ROOT, **env: str) -> str:
    """What a fresh interpreter prints for ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(code: str) -> set[str]:
    """The top-level packages that are loaded once ``code`` has run."""
    report = "\nimport sys; print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    return set(run_python(code + report).rpartition("loaded:")[2].split())


TRIED_BY = {
    "catalog/choices.py": "tests/flows/run/test_settings.py",
    "flows/commands/*.py": "tests/flows/commands/test_app.py",
    "flows/deployed/parameters.py": "tests/flows/deployed/test_scene.py",
    "flows/deployed/stages.py": "tests/flows/deployed/test_scene.py",
    "flows/run/dispatch.py": "tests/flows/run/test_crew.py",
    "flows/run/holding.py": "tests/flows/run/test_lease.py",
    "flows/run/notify.py": "tests/flows/deployed/test_watch.py",
    "flows/run/outputs.py": "tests/hostile/test_outputs.py",
    "flows/run/register.py": "tests/flows/commands/test_catalog.py",
    "flows/training/sources.py": "tests/flows/training/test_data.py",
    "flows/view/*.py": "tests/flows/view/test_page.py",
    "flows/watching/each.py": "tests/flows/commands/test_config.py",
    "flows/watching/sweep.py": "tests/flows/deployed/test_watch.py",
    "pipeline/geometry/clip.py": "tests/pipeline/scene/test_clip.py",
    "pipeline/product/colour.py": "tests/pipeline/product/test_pictures.py",
    "pipeline/comparison/comparison*.py": "tests/pipeline/comparison/test_compare.py",
    "pipeline/comparison/reference.py": "tests/pipeline/comparison/test_compare.py",
    "pipeline/scene/file.py": "tests/pipeline/scene/test_raster.py",
    "pipeline/scene/lazy.py": "tests/pipeline/scene/test_raster.py",
    "pipeline/scene/parts.py": "tests/pipeline/scene/test_stack.py",
    "model/fusion/tile.py": "tests/model/fusion/test_predictor.py",
    "pipeline/scene/placed.py": "tests/pipeline/scene/test_stack.py",
    "pipeline/scene/safe.py": "tests/pipeline/scene/test_stack.py",
    "pipeline/scene/source.py": "tests/pipeline/scene/test_raster.py",
    "pipeline/files/untrusted.py": "tests/hostile/test_training_data.py",
    "pipeline/files/xml.py": "tests/pipeline/scene/test_stack.py",
    "pipeline/simulate/*.py": "tests/pipeline/simulate/test_scene.py",
}
"""Modules without a test file of their own, and the one that tries them through what they are part of."""


def test_every_module_has_its_tests() -> None:
    modules = {
        path.relative_to(ROOT).as_posix(): f"tests/{path.relative_to(ROOT).parent}/test_{path.name}"
        for folder in ("catalog", "pipeline", "model", "flows")
        for path in ROOT.glob(f"{folder}/**/*.py")
        if path.name != "__init__.py"
    }
    bare = [module for module, tests in modules.items() if not (ROOT / tests).exists()]
    assert [module for module in bare if not any(fnmatch(module, known) for known in TRIED_BY)] == []
    assert [known for known in TRIED_BY if not any(fnmatch(module, known) for module in bare)] == []
    assert [tests for tests in TRIED_BY.values() if not (ROOT / tests).exists()] == []


@pytest.mark.parametrize("module", ["geometry.grid", "geometry.tiling", "geometry.blend", "plan.plan"])
def test_geometry_loads_neither_torch_nor_prefect_dask_or_zarr(module: str) -> None:
    loaded = imported(f"import spectile.pipeline.{module}")
    assert not loaded & {"torch", "prefect", "dask", "distributed", "zarr"}


def test_zarr_is_used_by_its_public_names_alone() -> None:
    folders = ("catalog", "pipeline", "model", "flows")
    sources = [path for folder in folders for path in ROOT.glob(f"{folder}/**/*.py")]
    assert [path.name for path in sources if "zarr.core" in path.read_text()] == []


def test_the_catalog_loads_nothing_heavy() -> None:
    loaded = imported("import spectile.catalog.bands, spectile.catalog.errors")
    assert not loaded & {"torch", "prefect", "dask", "zarr", "xarray", "rasterio"}


def test_help_loads_neither_torch_nor_prefect() -> None:
    loaded = imported(
        "import sys; from spectile.flows.commands.app import main; sys.argv = ['spectile', '--help']\n"
        "try: main()\nexcept SystemExit: pass"
    )
    assert "typer" in loaded
    assert not loaded & {"torch", "prefect", "dask", "zarr", "xarray", "matplotlib", "scipy"}


def test_importing_spectile_loads_nothing_that_takes_long() -> None:
    heavy = {
        "torch",
        "prefect",
        "dask",
        "zarr",
        "xarray",
        "rasterio",
        "rioxarray",
        "odc",
        "matplotlib",
        "scipy",
    }
    assert not imported("import spectile") & heavy


@pytest.mark.parametrize("order", ["import spectile, xarray", "import xarray, spectile"])
def test_the_accessor_is_there_as_soon_as_xarray_is(order: str) -> None:
    assert run_python(f"{order}; print(hasattr(xarray.Dataset, 'spectile'))").strip() == "True"


def test_no_module_that_prefect_loads_by_path_bears_the_name_of_another_package() -> None:
    # Prefect puts the folder of a flow that it loads by path first on sys.path.
    ours = {path.stem for path in (ROOT / "flows" / "deployed").glob("*.py")} - {"__init__"}
    assert not ours & (set(packages_distributions()) | sys.stdlib_module_names)


def test_a_model_py_beside_a_notebook_hides_nothing(tmp_path: Path) -> None:
    for name in ("model", "pipeline", "flows", "catalog", "tests"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the file beside the notebook was taken')\n")
    code = (
        "import spectile\n"
        "from spectile.model.predict.predictor import load_predictor\n"
        "from spectile.flows.run.execute import run_scene\n"
        "import spectile.catalog.bands, spectile.pipeline.run\n"
        "print('fine')"
    )
    assert run_python(code, cwd=tmp_path, PYTHONPATH=str(ROOT / "src")).strip() == "fine"


def test_the_version_is_the_one_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version("spectile") == project["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_packages_with_their_weights_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"spectile/{path.relative_to(ROOT).as_posix()}"
        for package in ("catalog", "pipeline", "model", "flows")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } | {"spectile/__init__.py", "spectile/__main__.py", "spectile/py.typed"}
    assert packed == expected


@pytest.mark.slow
def test_an_installed_wheel_finds_its_weights_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(installed)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import spectile.model.predict.predictor as p\n"
        "predictor = p.load_predictor('vnir48', steps=None, seed=0, batch=None, device='cpu')\n"
        "print(p.__file__, len(predictor.bands.centre_nm))"
    )
    file, bands = run_python(code, cwd=elsewhere, PYTHONPATH=str(installed)).split()
    assert file.startswith(str(installed))
    assert bands == "48"


@pytest.mark.slow
@pytest.mark.parametrize(
    "door",
    [
        "spectile.flows.deployed.train",
        "spectile.flows.evaluation.evaluate",
        "spectile.model.predict.predictor",
    ],
)
def test_threads_wait_quietly_whichever_door_loads_torch(door: str) -> None:
    # torch reads the variable when it is loaded: a finder notes what it says then.
    code = (
        "import os, sys\n"
        "os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "class Note:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': print('policy:', os.environ.get('OMP_WAIT_POLICY'))\n"
        "sys.meta_path.insert(0, Note())\n"
        f"import {door}\n"
    )
    assert "policy: PASSIVE" in run_python(code)
