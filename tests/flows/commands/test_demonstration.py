import json

import numpy as np
import pytest
from matplotlib.image import imread

from spectile.flows.commands import app as cli
from spectile.flows.commands import demonstration
from spectile.flows.commands.demonstration import Score, choose_spots, score
from spectile.pipeline.cube.verify import verify_cube
from spectile.pipeline.simulate.scene import Simulator
from spectile.pipeline.store.opening import open_storage


class Flat:
    """A baseline that knows the mean and nothing else."""

    def predict(self, rgb):
        return np.full((48, *rgb.shape[1:]), rgb.mean(), dtype=np.float32)


def test_an_estimate_that_is_the_truth_has_no_error():
    truth = np.random.default_rng(0).random((48, 5, 7), dtype=np.float32)
    assert score(truth, truth).rmse == 0
    assert score(truth, truth).sam < 1e-3  # arc cosine near one, in float32


def test_the_scores_are_those_of_a_known_error():
    truth = np.ones((2, 3, 4), dtype=np.float32)
    estimate = np.stack([np.ones((3, 4)), np.zeros((3, 4))]).astype(np.float32)
    assert score(truth, estimate) == Score(rmse=round(0.5**0.5, 5), sam=round(np.pi / 4, 5))


def test_spots_lie_inside_six_different_materials():
    simulator = Simulator(seed=demonstration.SEED, shape=(256, 256), pixel_size_m=0.8, materials="demo")
    spots = choose_spots(simulator, simulator.truth(0, 0, 256, 256))
    labels = simulator.labels(0, 0, 256, 256)
    assert len({spot.name for spot in spots}) == 6
    for spot in spots:
        around = labels[spot.row - 2 : spot.row + 3, spot.col - 2 : spot.col + 3]
        name = simulator.endmembers[labels[spot.row, spot.col]].name
        assert spot.name == name.rpartition("_")[0].replace("_", " ")
        assert np.unique(around).size == 1


@pytest.mark.slow
def test_the_demo_goes_through_a_server_and_ends_with_where_everything_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "spectile.model.closed.baselines.load_baselines", lambda model: {"ridge": Flat(), "lookup": Flat()}
    )
    monkeypatch.setattr(demonstration, "DIFFUSION", "bands-repeat")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("dear")
    (out / "demo.png").write_text("of an earlier demo")
    assert cli.main(["demo", "--out", str(out), "--model", "bands-repeat"]) == 0
    told = capsys.readouterr()
    last = [line.split()[0] for line in told.out.splitlines()[-5:]]
    assert last == ["cube", "report", "quicklook", "picture", "numbers"]
    assert verify_cube(open_storage(out / "cube.zarr")) == []
    assert imread(out / "demo.png").shape[1] > 1000
    numbers = json.loads((out / "numbers.json").read_text())
    assert set(numbers["scores"]) == {
        "bands-repeat, the mean", "bands-repeat, mean of 4 samples", "bands-repeat, one sample",
        "ridge", "lookup",
    }  # fmt: skip
    # Samples of a predictor that draws nothing are alike.
    first, second, *_ = numbers["scores"].values()
    assert first == pytest.approx(second, abs=1e-5)
    assert numbers["report"]["result"]["blocks_failed"] == 0
    assert (out / "mine.txt").read_text() == "dear"
    assert "http://127.0.0.1:" in told.err
