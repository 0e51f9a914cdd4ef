"""The command, on a scene of one block; nothing here depends on how long anything takes."""

import json
from dataclasses import fields
from inspect import signature
from statistics import median

import pytest

from spectile.flows.benchmark import pipeline
from spectile.flows.benchmark.pipeline import PARTS, PipelineBenchmark
from spectile.flows.benchmark.table import COLUMNS, table
from spectile.flows.commands import app as cli
from spectile.flows.commands import benchmark

TINY = ("--model", "bands-repeat", "--size", "520", "--block", "512", "--repeats", "1")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(pipeline, "BARE_TILES", 10)
    monkeypatch.setattr("spectile.pipeline.benchmark.SQUARE", 64)


def measure(tmp_path, *only):
    numbers = tmp_path / "benchmark.json"
    assert cli.main(["benchmark", "pipeline", *TINY, "--only", ",".join(only), "--json", str(numbers)]) == 0
    return json.loads(numbers.read_text())


def in_order(spread):
    return spread["min"] <= spread["median"] <= spread["max"]


def test_the_options_are_the_settings_with_their_defaults():
    options = signature(benchmark.benchmark_pipeline).parameters
    assert [name for name in options if name != "json_file"] == [f.name for f in fields(PipelineBenchmark)]
    for each in fields(PipelineBenchmark):
        assert options[each.name].default == each.default


@pytest.mark.slow
def test_ratios_are_those_of_the_speeds_beside_them(tmp_path, capsys):
    facts = measure(tmp_path, "overhead", "speed", "write")
    assert [part for part in facts if part in PARTS] == ["speed", "write", "overhead"]
    assert facts["model"]["name"] == "bands-repeat"
    assert facts["machine"].endswith("cores")

    speed = facts["speed"]
    # Cores are as large as blocks, and the last ones are cut to the scene.
    assert speed["blocks"] == 4
    assert speed["tiles"] == pytest.approx((520 / 512) ** 2)
    assert speed["pixels_through_network_per_pixel"] == pytest.approx(1)
    for phase in ("open", "blocks", "finish"):
        assert speed[f"{phase}_seconds"]["min"] > 0
    for key, ratio in (("run_tiles_per_second", "ratio"), ("blocks_tiles_per_second", "ratio_blocks")):
        found = [a / b for a, b in zip(speed[key], speed["bare_tiles_per_second"], strict=True)]
        assert len(found) == 1
        assert speed[ratio]["median"] == pytest.approx(median(found))
        assert in_order(speed[ratio])
    assert speed["ratio"]["max"] < speed["ratio_blocks"]["max"]
    assert 0 < speed["not_network"]["min"] <= speed["not_network"]["max"] < 1

    write = facts["write"]
    assert write["megabytes"] == pytest.approx(2 * 48 * 520**2 / 1e6)
    runs, raw = write["run_megabytes_per_second"], write["raw_megabytes_per_second"]
    assert write["ratio"]["median"] == pytest.approx(median(a / b for a, b in zip(runs, raw, strict=True)))

    assert facts["overhead"]["tiles"] == 1
    for overhead in (facts["overhead"]["wall"], facts["overhead"]["cpu"]):
        assert set(overhead["seconds"]) == {
            "read",
            "blend",
            "encode",
            "reduce",
            "statistics",
            "checksums",
            "store",
            "ledger",
            "rest",
        }
        assert all(in_order(part) for part in overhead["seconds"].values())
        most = sum(part["max"] for part in overhead["seconds"].values())
        assert 0 < overhead["overhead_seconds"]["max"] <= most * 1.001
        seconds = overhead["overhead_seconds"]["max"]
        assert overhead["share"]["max"] == pytest.approx(seconds / (seconds + overhead["network_seconds"]))

    rows = table(facts)
    assert all(len(row) == len(COLUMNS) for row in rows)
    out = capsys.readouterr().out
    assert all(row[0] in out for row in rows)
    assert "≥ 0.90" in out


def test_costs_of_prefect_and_dask_are_told_for_a_run_and_a_block_and_extrapolated(tmp_path, monkeypatch):
    def command(bench, scene, *options):
        blocks = int(scene.stem.partition("x")[2]) // 512
        once, each = {"--prefect": (12.0, 0.1), "--workers": (6.0, 0.3)}.get(options[2], (0, 0)) if len(
            options
        ) > 2 else (0, 0)  # fmt: skip
        return 2 + once + (0.5 + each) * blocks, {}

    monkeypatch.setattr(pipeline._Bench, "command", command)
    found = measure(tmp_path, "frameworks")["frameworks"]
    assert found["plain_run_seconds"]["median"] == pytest.approx(2.5)
    hour = found["blocks_in_an_hour"]
    assert hour == pytest.approx(3600 / found["default_block_seconds"])
    for way, once, each in (("prefect", 12.1, 0.1), ("dask", 6.3, 0.3)):
        assert found[way]["seconds_per_run"]["median"] == pytest.approx(once)
        assert found[way]["seconds_per_block"]["median"] == pytest.approx(each)
        assert found[way]["hour_share"] == pytest.approx((once + each * hour) / 3600)
        assert found[way]["extrapolated"] is True


@pytest.mark.slow
def test_workers_and_memory_are_measured_in_processes_of_their_own(tmp_path):
    numbers = tmp_path / "benchmark.json"
    options = ("--only", "memory,workers", "--large", "700", "--repeats", "1", "--json", str(numbers))
    assert cli.main(["benchmark", "pipeline", *TINY, *options]) == 0
    facts = json.loads(numbers.read_text())
    workers, memory = facts["workers"], facts["memory"]
    (base,), (run,) = workers["bare_tiles_per_second"], workers["blocks_tiles_per_second"]
    assert workers["ratio_blocks"]["median"] == pytest.approx(run / base)
    assert workers["ratio"]["median"] <= workers["ratio_blocks"]["median"]
    small, large = memory["runs"]
    assert (small["size"], large["size"]) == (520, 700)
    assert memory["ratio"] == pytest.approx(large["peak_bytes"] / small["peak_bytes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "speed,haste"), "unknown part"),
        (("--only", "memory"), "give --large PX"),
        (("--repeats", "0"), "repeats"),
        (("--model", "vnir49", "--only", "speed"), "unknown model"),
        (("--block", "500", "--only", "speed"), "multiple of 512"),
        (("--json", "/nowhere/at/all.json"), "cannot write there"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(capsys, arguments, message):
    assert cli.main(["benchmark", "pipeline", *TINY, *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spectile: error:")]
    assert len(lines) == 1
    assert message in lines[0]
