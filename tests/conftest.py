"""What every test can count on: isolated state, bounded threads, tiny scenes and the real imagery."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.request import Request, urlopen

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import settings

if TYPE_CHECKING:
    from tests.object_server import ObjectServer

# Set before any test module imports torch or prefect, which read these once. Subprocesses inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "2")
if "PYTEST_XDIST_WORKER" in os.environ:  # Beside other test processes more threads only wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # Spinning threads starve each other on few cores.
os.environ["MPLBACKEND"] = "Agg"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)  # A developer's own server must see none of this.
# Tests check correctness; a busy machine must not fail them.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# Where a shell started the tests in the background, their children would ignore Ctrl-C too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
_state = tempfile.TemporaryDirectory(prefix="spectile-tests-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _state.name


@pytest.fixture(scope="session", autouse=True)
def _remove_state() -> Iterator[None]:
    yield
    _state.cleanup()


@pytest.fixture(scope="session")
def _object_server() -> Iterator[ObjectServer]:
    from tests.object_server import ObjectServer

    with ObjectServer().running() as server:
        yield server


@pytest.fixture
def object_server(_object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    """An S3 server of our own with the bucket ``bucket``, as the environment's endpoint."""
    for name, value in {
        "AWS_ENDPOINT_URL": _object_server.url, "AWS_ACCESS_KEY_ID": "AKIATESTING",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AWS_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for path in ("/moto-api/reset", "/bucket"):
        method = "POST" if path.startswith("/moto") else "PUT"
        with urlopen(Request(_object_server.url + path, method=method)):
            pass
    _object_server.requests.clear()
    return _object_server


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real imagery; tests that ask for it are marked ``data``."""
    named = os.environ.get("SPECTILE_DATA")
    if not named:
        pytest.skip("SPECTILE_DATA is not set; it names the folder of real imagery")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"SPECTILE_DATA names {folder}, which is not a folder")
    return folder


class MakeScene(Protocol):
    """Writes a small GeoTIFF of random pixels and returns its path; see the ``make_scene`` fixture."""

    def __call__(
        self,
        shape: tuple[int, int] = (37, 53),
        *,
        dtype: str = "uint8",
        count: int = 3,
        crs: str | None = ...,
        nodata: float | None = None,
        hole: tuple[slice, slice] = ...,
        seed: int = 0,
    ) -> Path: ...


# Half-metre pixels, north up, on a real UTM zone; a rotated scene multiplies in Affine.rotation(degrees).
NORTH_UP = Affine.translation(320_000.0, 4_881_000.0) @ Affine.scale(0.5, -0.5)


@pytest.fixture
def write_scene(tmp_path: Path) -> Callable[..., Path]:
    """Write an array (count, rows, cols) as a GeoTIFF; the path."""

    def write(array: np.ndarray, name: str = "scene.tif", **options) -> Path:
        array = np.asarray(array)
        mask, scales, offsets, colours = (
            options.pop(key, None) for key in ("mask", "scales", "offsets", "colorinterp")
        )
        profile = {
            "driver": "GTiff", "count": array.shape[0], "height": array.shape[1], "width": array.shape[2],
            "dtype": array.dtype, "crs": "EPSG:32619", "transform": NORTH_UP, **options,
        }  # fmt: skip
        path = tmp_path / name
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
            dataset.write(array)
            if mask is not None:
                dataset.write_mask(mask)
            if scales is not None:
                dataset.scales = scales
            if offsets is not None:
                dataset.offsets = offsets
            if colours is not None:
                dataset.colorinterp = colours
        return path

    return write


@pytest.fixture
def make_scene(write_scene: Callable[..., Path]) -> MakeScene:
    """A factory of GeoTIFFs with random pixels in ``tmp_path``.

    Reflectance in [0, 1) for floats, the lower 90 % of the type's range for integers. With ``nodata``
    all bands hold that value in ``hole``.
    """

    def write(
        shape: tuple[int, int] = (37, 53),
        *,
        dtype: str = "uint8",
        count: int = 3,
        crs: str | None = "EPSG:32619",
        nodata: float | None = None,
        hole: tuple[slice, slice] = (slice(0, 5), slice(0, 7)),
        seed: int = 0,
    ) -> Path:
        kind = np.dtype(dtype)
        top = 1.0 if kind.kind == "f" else 0.9 * np.iinfo(kind).max
        values = (np.random.default_rng(seed).random((count, *shape)) * top).astype(kind)
        if nodata is not None:
            values[:, *hole] = nodata
        photometric = "RGB" if count == 3 else "MINISBLACK"
        return write_scene(values, crs=crs, nodata=nodata, photometric=photometric)

    return write
