"""What a run finds out before it makes anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from spectile.catalog.calibration import Calibration
from spectile.catalog.errors import UsageError
from spectile.flows.console.describe import describe_cube
from spectile.flows.run import execute, predictors
from spectile.flows.run.execute import run_scene
from spectile.flows.run.planning import prepare
from spectile.pipeline.block.predict import BandsRepeat
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.scene.raster import SceneSource


def test_layers_without_their_samples_are_refused_before_the_scene_is_opened(settings):
    with pytest.raises(UsageError, match=r"--layers q05 --samples 3.*use --samples 4 or more"):
        prepare(replace(settings, scene="nothing.tif", samples=3, layers=("q05",)))


def test_other_samples_than_those_of_the_calibration_are_told(settings, monkeypatch, caplog):
    class Calibrated(BandsRepeat):
        calibration = Calibration(16, (2.0,) * 48, (-3.0,) * 48, (2.5,) * 48)

    monkeypatch.setattr(predictors, "predictor_of", lambda settings: Calibrated())
    for samples, told in ((1, False), (4, True), (16, False)):
        caplog.clear()
        prepare(replace(settings, samples=samples))
        assert ("calibrated with 16 samples; with 4" in caplog.text) is told
    run_scene(replace(settings, samples=4))
    assert describe_cube(settings.out)["layers"] == "sd, calibrated with 16 samples, quality, rgb_consistency"


def test_a_dry_run_reads_a_pixel_alone_and_knows_the_hours(settings, monkeypatch):
    read = SceneSource._read_numbers

    def reading(self, window, *arguments, **named):
        assert window == Window(0, 0, 1, 1)  # whether the file can be read at all
        return read(self, window, *arguments, **named)

    monkeypatch.setattr(SceneSource, "_read_numbers", reading)
    prepared = prepare(settings, dry=True)
    facts = execute.report(prepared)
    assert facts["plan"]["hours"] > 0
    assert facts["plan"]["tiles"] == prepared.estimate.tiles
    assert not Path(settings.out).exists()
    assert "result" not in facts
