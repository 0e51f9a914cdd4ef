"""What the pipeline costs, measured."""

import time

import numpy as np

from spectile.pipeline import benchmark
from spectile.pipeline.benchmark import metered, write_scene
from spectile.pipeline.scene.source import open_source


def test_a_scene_repeats_its_landscape(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "SQUARE", 64)
    write_scene(tmp_path / "scene.tif", (70, 150))
    source = open_source(tmp_path / "scene.tif", radiometry="display")
    rgb = source.read(source.grid.window)[0]
    assert rgb.shape == (3, 70, 150)
    assert rgb.std() > 0.01
    np.testing.assert_array_equal(rgb[:, :64, :64], rgb[:, :64, 64:128])
    np.testing.assert_array_equal(rgb[:, :6, :64], rgb[:, 64:, :64])


def test_metered_calls_count_their_own_time_alone_and_are_put_back():
    class Slow:
        def call(self):
            time.sleep(0.05)
            return 1

        def each(self):
            for number in range(2):
                time.sleep(0.05)
                yield number

    before = vars(Slow)["call"], vars(Slow)["each"]
    with metered((Slow, "call"), (Slow, "each")) as spent:
        assert Slow().call() == 1
        for _ in Slow().each():
            Slow().call()  # what the caller does between two items is not the generator's
    assert (vars(Slow)["call"], vars(Slow)["each"]) == before
    assert spent["call"] >= 0.15
    assert spent["each"] >= 0.1
