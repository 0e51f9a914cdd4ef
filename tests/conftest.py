"""What every test can count on: isolated state, bounded threads, tiny scenes and the real imagery."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

# Set before any test module imports torch or prefect, which read these once. Subprocesses inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["MPLBACKEND"] = "Agg"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)  # A developer's own server must see none of this.
_state = tempfile.TemporaryDirectory(prefix="spectile-tests-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _state.name


@pytest.fixture(scope="session", autouse=True)
def _remove_state() -> Iterator[None]:
    yield
    _state.cleanup()


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
    """Writes a small GeoTIFF and returns its path; see the ``make_scene`` fixture."""

    def __call__(
        self,
        shape: tuple[int, int] = (37, 53),
        *,
        dtype: str = "uint8",
        count: int = 3,
        transform: Affine = ...,
        crs: str | None = ...,
        nodata: float | None = None,
        alpha: bool = False,
        hole: tuple[slice, slice] = ...,
        pixels: NDArray[np.generic] | None = None,
        seed: int = 0,
        name: str = "scene.tif",
    ) -> Path: ...


# Half-metre pixels, north up, on a real UTM zone; a rotated scene multiplies in Affine.rotation(degrees).
NORTH_UP = Affine.translation(320_000.0, 4_881_000.0) @ Affine.scale(0.5, -0.5)


@pytest.fixture
def make_scene(tmp_path: Path) -> MakeScene:
    """A factory of GeoTIFFs in ``tmp_path``.

    Pixels are random (reflectance in [0, 1) for floats, the lower 90 % of the type's range for
    integers) unless ``pixels``, (count, rows, columns), is given. With ``nodata`` all bands hold
    that value in ``hole``; with ``alpha`` a further band is transparent there.
    """

    def write(
        shape: tuple[int, int] = (37, 53),
        *,
        dtype: str = "uint8",
        count: int = 3,
        transform: Affine = NORTH_UP,
        crs: str | None = "EPSG:32619",
        nodata: float | None = None,
        alpha: bool = False,
        hole: tuple[slice, slice] = (slice(0, 5), slice(0, 7)),
        pixels: NDArray[np.generic] | None = None,
        seed: int = 0,
        name: str = "scene.tif",
    ) -> Path:
        kind = np.dtype(dtype)
        top = 1.0 if kind.kind == "f" else 0.9 * np.iinfo(kind).max
        if pixels is None:
            values = (np.random.default_rng(seed).random((count, *shape)) * top).astype(kind)
        else:
            values = pixels.astype(kind)
        if nodata is not None:
            values[:, *hole] = nodata
        if alpha:
            opaque = np.full((1, *shape), 1 if kind.kind == "f" else np.iinfo(kind).max, kind)
            opaque[:, *hole] = 0
            values = np.concatenate([values, opaque])
        path = tmp_path / name
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=shape[0],
            width=shape[1],
            count=len(values),
            dtype=dtype,
            crs=crs,
            transform=transform,
            nodata=nodata,
            photometric="RGB" if count == 3 else "MINISBLACK",
        ) as file:
            if alpha:
                file.colorinterp = [*file.colorinterp[:count], rasterio.enums.ColorInterp.alpha]
            file.write(values)
        return path

    return write
