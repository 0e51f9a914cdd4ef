"""Figures as rows, beside what they should be."""

from __future__ import annotations

from spectile.flows.benchmark.table import COLUMNS, heading, table

SPREAD = {"min": 0.5, "median": 0.9, "max": 1.25}


def test_parts_that_were_measured_have_rows_in_the_tables_own_order() -> None:
    memory = {
        "runs": [{"size": 512, "blocks": 1, "planned_bytes": 2 * 10**9, "peak_bytes": 10**9}], "ratio": 1.05
    }  # fmt: skip
    phases = {f"{name}_seconds": SPREAD for name in ("open", "blocks", "finish")}
    raw = [30.0, 10.0, 20.0]
    write = {"ratio": SPREAD, "ratio_blocks": SPREAD, "raw_megabytes_per_second": raw, **phases}
    rows = table({"memory": memory, "machine": "of no part", "write": write})
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert [row[0].partition(":")[0] for row in rows] == ["write"] * 6 + ["memory"] * 2
    assert rows[0][1:] == ["0.900", "0.500 to 1.250", "≥ 0.5"]
    assert rows[5][1:] == ["20 MB/s", "10 to 30", ""]
    assert rows[-1][1:] == ["1.050", "", "≤ 1.1"]
    assert table({}) == []


def test_the_heading_names_the_model_the_machine_and_its_load() -> None:
    model = {"name": "vnir48", "digest": "0123456789abcdef", "steps": 4, "device": "cpu", "dtype": "float32"}
    lines = heading(
        {"model": model, "load_average": (0.123, 2.0), "machine": "of 2 cores", "size": 1024, "repeats": 3}
    )
    assert lines[0] == "vnir48 0123456789ab, 4 step(s), cpu, float32"
    assert lines[1] == "of 2 cores; load average 0.1 before, 2.0 after"
    assert "1024²" in lines[2]
