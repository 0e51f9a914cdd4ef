"""The figures of `spectile benchmark pipeline` as a table, beside what they should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spectile.flows.console.console import size

COLUMNS = ("part: what", "median", "range", "target")

Row = tuple[str, str, str, str]


def heading(facts: Mapping[str, Any]) -> list[str]:
    """What was measured, on what and how, a line each."""
    model = facts["model"]
    first, last = facts["load_average"]
    return [
        f"{model['name']} {model['digest'][:12]}".strip()
        + f", {model['steps']} step(s), {model['device']}, {model['dtype']}",
        f"{facts['machine']}; load average {first:.1f} before, {last:.1f} after",
        f"simulated scene of {facts['size']}² px; medians of {facts['repeats']} round(s) of A B A",
    ]


def table(facts: Mapping[str, Any]) -> list[list[str]]:
    """The rows, in the order of COLUMNS."""
    rows = {
        "speed": _speed, "write": _write, "workers": _workers, "memory": _memory, "overhead": _overhead,
        "frameworks": _frameworks,
    }  # fmt: skip
    return [[f"{part}: {what}", *rest] for part, made in rows.items() if part in facts
            for what, *rest in made(facts[part])]  # fmt: skip


def _ratio(what: str, spread: Mapping[str, float], target: str = "") -> Row:
    return what, f"{spread['median']:.3f}", f"{spread['min']:.3f} to {spread['max']:.3f}", target


def _percent(what: str, spread: Mapping[str, float], target: str = "") -> Row:
    return what, f"{spread['median']:.1%}", f"{spread['min']:.1%} to {spread['max']:.1%}", target


def _seconds(what: str, spread: Mapping[str, float]) -> Row:
    return what, f"{spread['median']:.3g} s", f"{spread['min']:.3g} to {spread['max']:.3g}", ""


def _scene(facts: Mapping[str, Any]) -> Iterator[Row]:
    yield "blocks", f"{facts['blocks']} of {facts['block']}² px", "", ""
    yield "tiles predicted ÷ tiles of the lattice", f"{facts['redundancy']:.3f}", "", ""
    yield "pixels predicted ÷ pixels", f"{facts['pixels_through_network_per_pixel']:.3f}", "", ""


def _speed(facts: Mapping[str, Any]) -> Iterator[Row]:
    yield _ratio("tiles/s of a run ÷ of the network alone", facts["ratio"], "≥ 0.90")
    yield _ratio("while it makes blocks", facts["ratio_blocks"])
    yield _ratio("by CPU time, whole run", facts["ratio_cpu"])
    yield _percent("time of blocks outside the network: the device is idle", facts["not_network"], "≤ 3 %")
    yield from _phases(facts)
    yield from _scene(facts)


def _write(facts: Mapping[str, Any]) -> Iterator[Row]:
    yield _ratio("MB/s of a run ÷ of zarr alone", facts["ratio"], "≥ 0.5")
    yield _ratio("while it makes blocks", facts["ratio_blocks"])
    raw = facts["raw_megabytes_per_second"]
    yield from _phases(facts)
    yield "zarr alone", f"{sorted(raw)[len(raw) // 2]:.0f} MB/s", f"{min(raw):.0f} to {max(raw):.0f}", ""


def _phases(facts: Mapping[str, Any]) -> Iterator[Row]:
    for name, what in (("open", "opening"), ("blocks", "making blocks"), ("finish", "finishing")):
        yield _seconds(what, facts[f"{name}_seconds"])


def _workers(facts: Mapping[str, Any]) -> Iterator[Row]:
    yield _ratio(
        f"tiles/s of {facts['workers']} workers ÷ of as many networks alone", facts["ratio_blocks"], "≥ 0.93"
    )
    yield _ratio("with starting and ending the run", facts["ratio"])
    yield from _scene(facts)


def _memory(facts: Mapping[str, Any]) -> Iterator[Row]:
    for run in facts["runs"]:
        planned = f"{size(run['planned_bytes'])} planned"
        yield f"peak of {run['size']}² px, {run['blocks']} block(s)", size(run["peak_bytes"]), planned, ""
    yield "larger ÷ smaller", f"{facts['ratio']:.3f}", "", "≤ 1.1"


def _overhead(facts: Mapping[str, Any]) -> Iterator[Row]:
    wall, cpu = facts["wall"], facts["cpu"]
    for name, spread in wall["seconds"].items():
        yield _seconds(name, spread)
        yield _seconds(f"{name}, CPU", cpu["seconds"][name])
    yield _seconds(f"all beside the network, {facts['block']}² px", wall["overhead_seconds"])
    yield _seconds("all beside the network, CPU", cpu["overhead_seconds"])
    yield _percent(f"its share of a block, {facts['tiles']} tiles, nothing overlapped", wall["share"])
    yield _percent("its share of a block, CPU", cpu["share"])


def _frameworks(facts: Mapping[str, Any]) -> Iterator[Row]:
    yield _seconds("the shortest run without them", facts["plain_run_seconds"])
    for way, options in (("prefect", "Prefect and its server"), ("dask", "a dask worker")):
        yield _seconds(f"{options}, a run", facts[way]["seconds_per_run"])
        yield _seconds(f"{options}, a block", facts[way]["seconds_per_block"])
        share = f"{facts[way]['hour_share']:.2%}"
        blocks = f"{facts['blocks_in_an_hour']:.0f} blocks"
        yield f"{options}, of an hour, EXTRAPOLATED", share, blocks, "≤ 3 %"
