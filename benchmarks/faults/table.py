"""The record of a campaign as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.faults.events import Event

ROWS: dict[str, Callable[[Event], bool]] = {
    "run killed in prediction": lambda e: e.kind == "kill" and e.case.startswith("predict"),
    "run killed while it writes a shard": lambda e: e.kind == "kill" and e.case.startswith("shard"),
    "run killed while it writes a marker": lambda e: e.kind == "kill" and e.case.startswith("marker"),
    "run killed while it finishes the cube": lambda e: e.kind == "kill" and e.case.startswith("finish"),
    "run killed while it lays the cube out": lambda e: e.kind == "kill" and e.case.startswith("layout"),
    "run killed at a random time": lambda e: e.kind == "kill" and e.case.startswith("at a random"),
    "worker lost, the run goes on": lambda e: e.kind == "worker",
    "bit flipped": lambda e: e.kind == "damage" and e.case.endswith("flipped"),
    "object cut off": lambda e: e.kind == "damage" and e.case.endswith("cut off"),
    "disk full": lambda e: e.kind == "full",
    "run stopped, overtaken and woken": lambda e: e.kind == "race" and e.case.startswith("stopped"),
    "two runs at once": lambda e: e.kind == "race" and e.case.startswith("both"),
}


def tell(record: Sequence[Event]) -> str:
    """The table, and a line for each event that was not well."""
    lines = [
        "| | events | confirmed hits | identical after | damage undetected | otherwise wrong |",
        "|---|---|---|---|---|---|",
    ]
    for name, belongs in {**ROWS, "**all**": lambda _: True}.items():
        events = [event for event in record if not event.skipped and belongs(event)]
        if not events:
            continue
        hit, same = (_count(events, lambda e: e.confirmed), _count(events, lambda e: e.identical))
        wrong = _count(events, lambda e: bool(e.wrong) and e.identical and e.detected is not False)
        lines.append(f"| {name} | {len(events)} | {hit} | {same} | {_undetected(events)} | {wrong} |")
    lines += [f"skipped: {event.id}, {event.skipped}" for event in record if event.skipped]
    lines += [f"not well: {event.id}, {event.case}: {'; '.join(event.wrong) or 'did not hit'}"
              for event in record if not event.well and not event.skipped]  # fmt: skip
    return "\n".join(lines)


def _count(events: Sequence[Event], is_so: Callable[[Event], bool]) -> int:
    return sum(map(is_so, events))


def _undetected(events: Sequence[Event]) -> str:
    asked = [event.detected for event in events if event.detected is not None]
    return str(asked.count(False)) if asked else ""
