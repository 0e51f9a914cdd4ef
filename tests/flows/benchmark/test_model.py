"""The command, on networks of a few thousand parameters."""

import json
import platform
from dataclasses import fields, replace
from inspect import signature

import pytest

from spectile.flows.benchmark import model as benchmark
from spectile.flows.benchmark.model import ModelBenchmark
from spectile.flows.commands import app as cli
from spectile.flows.commands import benchmark as command
from spectile.model.measure import benchmark as measures
from spectile.model.registry import SYSTEMS
from spectile.model.scdm.preset import scdm_paper

TINY = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention_levels": (), "time_width": 16, "groups": 4}
QUICK = ("--tile", "32", "--halo", "4", "--batch", "1", "--repeats", "2", "--device", "cpu", "--threads", "1")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    preset = scdm_paper("houston")
    stages = tuple(replace(stage, network=replace(stage.network, **TINY)) for stage in preset.stages)
    tiny = replace(SYSTEMS["scdm-paper"], published=lambda: replace(preset, stages=stages))
    monkeypatch.setitem(SYSTEMS, "scdm-paper", tiny)
    monkeypatch.setattr(benchmark, "PAPER_TILE", 16)
    monkeypatch.setattr(measures, "MATMUL_SIDE", {"cpu": 64})


def test_the_options_are_the_settings_with_their_defaults():
    options = signature(command.benchmark_model).parameters
    assert [name for name in options if name != "json_file"] == [each.name for each in fields(ModelBenchmark)]
    for each in fields(ModelBenchmark):
        assert options[each.name].default == each.default


def test_the_table_and_the_json_hold_every_figure(tmp_path, capsys):
    numbers = tmp_path / "benchmark.json"
    arguments = ("--model", "scdm-paper", "--steps", "1,2", *QUICK, "--json", str(numbers))
    assert cli.main(["benchmark", "model", *arguments]) == 0
    out = capsys.readouterr().out
    assert "EXTRAPOLATED from 2 + 4 forwards (stage 1 + stage 2) of 16² px" in out
    assert "stage 2, denoiser" in out
    assert "scdm-paper, 1000, extrapolated" in out
    assert f"×{(32 / 24) ** 2:.2f}" in out

    facts = json.loads(numbers.read_text())
    assert {
        "machine",
        "load_average",
        "threads",
        "device",
        "dtype",
        "model",
        "memory_bytes",
        "matmul",
    } <= set(facts)
    assert facts["overlap"] == pytest.approx((32 / 24) ** 2)
    assert [run["steps"] for run in facts["runs"]] == [1, 2]
    for run in facts["runs"]:
        seconds = run["seconds_per_megapixel"]
        assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
        parts = sum(part["multiply_adds_per_pixel"] for part in run["parts"])
        assert parts == pytest.approx(run["multiply_adds_per_pixel"])
        for key in ("multiply_adds_per_pixel", "seconds_per_megapixel"):
            one, whole = run[key], run["with_overlap"][key]
            one, whole = (one["median"], whole["median"]) if isinstance(one, dict) else (one, whole)
            assert whole == pytest.approx(one * facts["overlap"])
        assert run["multiply_adds_per_second"] == pytest.approx(parts * 1e6 / seconds["median"])
    paper = facts["scdm_paper"]
    assert paper["extrapolated"] is True
    assert paper["timed_forwards"] == [2, 4]
    # A run of one step of the very same networks costs a thousandth.
    assert facts["runs"][0]["scdm_paper_ratio"]["multiply_adds"] == pytest.approx(1000)
    assert facts["runs"][1]["scdm_paper_ratio"]["multiply_adds"] == pytest.approx(500)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "1,x"), "list of step counts"),
        (("--steps", "0"), "from 1 on"),
        (("--steps", "4,4"), "different numbers"),
        (("--steps", "1001"), "solver steps"),
        (("--tile", "31"), "stride"),
        (("--tile", "32", "--halo", "10"), "--halo 8 or less"),
        (("--threads", "10000"), "threads"),
        (("--model", "vnir49"), "unknown model"),
        (("--dtype", "float16"), "float16"),
        (("--repeats", "0"), "repeats"),
        (("--json", "/nowhere/at/all.json"), "cannot write there"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(capsys, arguments, message):
    assert cli.main(["benchmark", "model", "--model", "scdm-paper", *QUICK, *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spectile: error:")]
    assert len(lines) == 1
    assert message in lines[0]


def test_the_machine_is_named_by_its_processor():
    assert platform.node() not in benchmark.machine()
    assert benchmark.machine().endswith("cores")
