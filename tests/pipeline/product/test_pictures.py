"""Pictures of a cube look like the scene that it was made from, where its spectra are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from spectile.catalog.bands import RGB_CAMERA
from spectile.catalog.colour import picture_gain, srgb_bytes
from spectile.catalog.inputs import Batch
from spectile.model.predict.predictor import load_predictor
from spectile.pipeline.block.predict import BandsRepeat, Predictor
from spectile.pipeline.cube.finish import finalise
from spectile.pipeline.cube.record import open_cube
from spectile.pipeline.cube.write import create_cube
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.product.quicklook import quicklook_names, write_quicklook
from spectile.pipeline.product.report import gather
from spectile.pipeline.product.report_page import render
from spectile.pipeline.product.view import View, open_view, picture
from spectile.pipeline.run import process_run
from spectile.pipeline.scene.source import open_source
from spectile.pipeline.simulate.scene import DISPLAY_WHITE, Simulator
from spectile.pipeline.store.base import Storage
from spectile.pipeline.store.opening import open_storage
from tests.pipeline.plan.test_quality_layers import Quiet

pytestmark = pytest.mark.slow

SIDE = 64
SIMULATOR = Simulator(seed=3_000_000, shape=(SIDE, SIDE), pixel_size_m=0.8, materials="demo", noise_sd=0)
Picture = NDArray[np.uint8]


@dataclass
class Truth(BandsRepeat):
    """Predicts the simulated scene's own spectra, at a level."""

    level: float = 1.0
    batch: int = field(default=4)

    def predict(self, batch: Batch, samples: range) -> Iterator[NDArray[np.float32]]:
        height, width = batch.rasters["rgb"].values.shape[2:]
        for _ in samples:
            yield np.stack(
                [self.level * SIMULATOR.truth(row, col, height, width) for row, col in batch.origins.tolist()]
            )


def made(path: Path, root: Path, predictor_of: Callable[[float | None], Predictor]) -> Storage:
    """A cube of a scene with its quicklook."""
    source = open_source(str(path))
    predictor = predictor_of(source.radiometry.gain)
    settings = {"radiometry": source.radiometry.to_json(), "response": RGB_CAMERA.to_json()}
    grid = source.grid
    plan = Plan(grid, grid.window, Tiling(grid.shape, 80, 8), 512, 48, settings=settings)
    cube = create_cube(open_storage(root), plan, predictor.bands)
    process_run(cube, plan.blocks, sources={"rgb": source}, predictor=predictor, watch=Quiet())
    finalise(cube, attributes={})
    write_quicklook(cube.storage)
    return cube.storage


def quicklook(storage: Storage) -> Picture:
    with rasterio.open(Path(storage.parent.at(quicklook_names(storage.name)[1]))) as dataset:
        found: Picture = dataset.read()
    return found


def on_page(view: View) -> Picture:
    """The map of the page."""
    subject = view.subject("true", 0)
    values = view.read(subject, view.levels[0])
    rgba = picture(values, (0.0, subject.white_of(values)), np.zeros((1, 3), np.uint8))
    return rgba.view(np.uint8).reshape(*rgba.shape, 4)[..., :3].transpose(2, 0, 1)


def apart(one: Picture, other: Picture) -> float:
    """Root mean square difference, levels of 255."""
    return float(np.sqrt(np.mean(np.square(one.astype(float) - other))))


@pytest.mark.parametrize("kind", ["display", "reflectance"])
def test_true_colour_is_the_input_where_the_spectra_are_right(tmp_path, kind):
    SIMULATOR.write_rgb(tmp_path / "scene.tif", kind=kind)
    with rasterio.open(tmp_path / "scene.tif") as dataset:
        stored = dataset.read()
    rgb = stored * np.float32(1e-4)
    shown = stored if kind == "display" else srgb_bytes(rgb * np.float32(picture_gain(rgb)))
    bound = 0.5  # of 255 levels: reflectance is stored in steps, and the response's tails are cut
    for name, predictor_of in (
        ("truth", lambda gain: Truth(level=gain / DISPLAY_WHITE if gain else 1.0)),
        ("ridge", lambda gain: load_predictor("vnir48:ridge", device="cpu")),
    ):
        storage = made(tmp_path / "scene.tif", tmp_path / f"{name}.zarr", predictor_of)
        view = open_view(storage)
        for found in (quicklook(storage), on_page(view)):
            assert apart(found, shown) < bound, name
            assert np.abs((found.astype(float) - shown).mean(axis=(1, 2))).max() < bound / 2, name
    white = view.pictures["true"].white
    assert (white is not None) == (kind == "display")
    if white is None:
        white = 1 / picture_gain(rgb)
    else:
        assert f"white is a reflectance of {white:.2f}, as in the scene" in render(gather(storage)).decode()
    with open_cube(tmp_path / "ridge.zarr") as cube:
        assert apart(cube.spectile.rgb(white=white).values, shown) < 1.5  # it has 254 levels


def test_grey_stays_grey_at_every_level(write_scene, tmp_path):
    levels = np.broadcast_to(np.linspace(0, 255, 40, dtype=np.uint8), (3, 30, 40))
    path = write_scene(levels, photometric="RGB")
    found = quicklook(made(path, tmp_path / "grey.zarr", lambda gain: BandsRepeat()))
    assert (found == found[:1]).all()
    assert np.abs(found.astype(int) - levels).max() <= 1
