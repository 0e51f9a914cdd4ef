"""The fault campaign: runs are killed, starved and overtaken, cubes are damaged; the cubes must not show it.

    python -m benchmarks.faults --out faults.jsonl              the whole of it; goes on where it was stopped
    python -m benchmarks.faults --out faults.jsonl --only damage --count 6

Each event is a line of the record as soon as it is over. An event that is there is not repeated; delete its
line to have it again. What a failed event left is kept in --work. Exit code 1 where anything went wrong.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.bench import Bench
from benchmarks.faults.events import COUNTS, Event, happen
from benchmarks.faults.table import tell
from spectile.pipeline.product import quicklook


def main() -> int:
    """Run what is not in the record yet, and print the table of it."""
    options = _options()
    known = {json.loads(line)["id"] for line in _lines(options.out)}
    todo = [
        (kind, number) for kind, usual in COUNTS.items() if options.only in (None, kind)
        for number in range(options.count if options.count is not None else usual)
        if f"{kind}-{number:03d}" not in known
    ]  # fmt: skip
    if todo:
        _import_all()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            bench = Bench(Path(options.work or folder).absolute())
            runners = [_fork(todo[each :: options.jobs], bench, options.out) for each in range(options.jobs)]
            codes = [os.waitpid(runner, 0)[1] for runner in runners]
        if any(codes):
            raise SystemExit("the campaign itself failed; see above")
    record = [Event(**json.loads(line)) for line in _lines(options.out)]
    print(tell(record))
    return 0 if all(event.well or event.skipped for event in record) else 1


def _fork(todo: list[tuple[str, int]], bench: Bench, out: Path) -> int:
    """A process that lets events happen, one after the other; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for kind, number in todo:
            event = _happened(kind, number, bench)
            with out.open("a") as file:
                file.write(json.dumps(asdict(event)) + "\n")
            print(_line(event), file=sys.stderr, flush=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        bench.close()
        os._exit(code)


def _happened(kind: str, number: int, bench: Bench) -> Event:
    event = Event(f"{kind}-{number:03d}", kind)
    began = time.monotonic()
    try:
        happen(event, number, bench)
    except RuntimeError as err:
        event.wrong.append(str(err))
    event.seconds = round(time.monotonic() - began, 1)
    return event


def _line(event: Event) -> str:
    state = f"skipped: {event.skipped}" if event.skipped else "well" if event.well else "NOT WELL"
    return f"{event.id}  {event.case}  {state}  {'; '.join(event.wrong)}  {event.seconds:.0f} s"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _import_all() -> None:
    """All that runs import: forked processes then start at once."""
    for name in ("obstore", "rioxarray", "spectile.flows.run.crew", "spectile.flows.run.repair"):
        importlib.import_module(name)
    # Drawing takes half of a run's time; that the picture is written is what counts.
    quicklook._png = lambda *_: b"a picture"
    logging.captureWarnings(True)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if [name for name in threads if not name.startswith("jemalloc")] != [threads[0]]:  # which minds forks
        raise SystemExit(f"libraries have started threads; forked processes could hang: {threads}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("faults.jsonl"), help="the record, a line each")
    parser.add_argument("--only", choices=tuple(COUNTS), help="one kind of events")
    parser.add_argument("--count", type=int, help="events of each kind, instead of a campaign's")
    parser.add_argument("--jobs", type=int, default=1, help="events at a time")
    parser.add_argument("--work", type=Path, help="folder to work in, which is kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
