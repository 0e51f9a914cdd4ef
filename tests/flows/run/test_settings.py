"""Each setting is declared once; whatever door it comes in by, it has the same limits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from inspect import signature

import pytest

from spectile.catalog.errors import UsageError
from spectile.flows.commands.line import flight_line
from spectile.flows.commands.run import run
from spectile.flows.commands.watch import watch
from spectile.flows.run.settings import (
    LineSettings,
    SceneSettings,
    Settings,
    WatchSettings,
    field_of,
    parameters_of,
)

KINDS = (SceneSettings, LineSettings, WatchSettings)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_says_what_it_is(kind: type[Settings]) -> None:
    assert all(field_of(kind, each.name).description for each in fields(kind))


@pytest.mark.parametrize(("kind", "command"), [*zip(KINDS, (run, flight_line, watch), strict=True)])
def test_every_setting_is_an_option_of_its_command(kind: type[Settings], command: object) -> None:
    assert {each.name for each in parameters_of(kind)} <= signature(command).parameters.keys()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"samples": 0}, "invalid setting samples (got 0, expected greater than or equal to 1)"),
        ({"block": 600}, "invalid setting block (got 600, expected a multiple of 512)"),
        ({"lease": float("inf")}, "invalid setting lease (got inf, expected a finite number)"),
        ({"memory": "4GB"}, "invalid setting memory (got '4GB', expected a valid integer"),
        ({"device": "tpu"}, "invalid setting device (got 'tpu', expected 'auto', 'cpu' or 'cuda')"),
        ({"region": (0, 0, 0, 1)}, "invalid setting region (got (0, 0, 0, 1), expected "),
        ({"sampels": 2}, "unknown setting (got sampels, expected out, model, "),
    ],
)
def test_a_wrong_value_is_told_in_one_line(given: dict[str, object], line: str) -> None:
    with pytest.raises(UsageError) as refused:
        SceneSettings(**{"scene": "a.tif", "out": "b.zarr", **given})  # type: ignore[arg-type]
    assert str(refused.value).startswith(line)


def test_what_must_be_given_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"missing setting \(expected out\)"):
        SceneSettings(scene="a.tif")  # type: ignore[call-arg]


def test_a_changed_setting_is_checked_too() -> None:
    settings = WatchSettings(inbox="in", out="cubes")
    with pytest.raises(UsageError, match="invalid setting at_once"):
        replace(settings, at_once=0)


def test_the_scenes_of_an_inbox_are_run_with_its_settings() -> None:
    settings = WatchSettings(inbox="in", out="cubes", seed=3, radiometry="display")
    scene = SceneSettings.like(settings, scene="a.tif", resume=True)
    assert scene == SceneSettings(scene="a.tif", out="cubes", seed=3, radiometry="display", resume=True)


def test_settings_load_nothing_heavy() -> None:
    code = (
        "import sys, spectile.flows.run.settings; "
        "heavy = {'torch', 'prefect', 'xarray', 'zarr', 'scipy', 'rasterio', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
