"""What is done to a run or to a cube, and what is then looked at."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.bench import Bench, Skipped
from benchmarks.faults.cubes import differences, everything
from benchmarks.faults.failpoints import MOMENTS, PHASES, SHARDS, Failpoint
from benchmarks.faults.processes import Process, ask, run, spectile
from spectile.flows.commands import app as cli
from spectile.pipeline.product.quicklook import quicklook_names

COUNTS = {"kill": 100, "worker": 5, "damage": 50, "full": 10, "race": 10}
"""The kinds of events, and how many of each make a campaign."""
LEASE = ("--lease", "1")
DAMAGED = ("shard", "metadata", "marker", "plan", "root", "overview")


@dataclass
class Event:
    """One fault, and what came of it: a line of the record."""

    id: str
    kind: str
    case: str = ""
    """What was done."""
    confirmed: bool = False
    """Whether the fault is known to have hit."""
    detected: bool | None = None
    """Of damage, whether ``verify`` told of it."""
    identical: bool = False
    """Whether the cube is the uninterrupted one in the end."""
    wrong: list[str] = field(default_factory=list)
    """All that was not as promised."""
    skipped: str = ""
    """Why nothing was done."""
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        """Whether the event hit and nothing was wrong."""
        return self.confirmed and self.identical and self.detected is not False and not self.wrong

    def expect(self, what: str, got: object, *allowed: object) -> None:
        """Note what is not as it should be."""
        if got not in allowed:
            self.wrong.append(f"{what}: {got}, not {' or '.join(map(str, allowed))}")


def happen(event: Event, number: int, bench: Bench) -> None:
    """Let an event happen; what is random in it hangs on its id alone."""
    folder = bench.folder / event.id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        _HAPPEN[event.kind](event, number, bench, folder, random.Random(event.id))
    except Skipped as err:
        event.skipped = str(err)
    if event.well or event.skipped:
        shutil.rmtree(folder)


def _kill(event: Event, number: int, bench: Bench, folder: Path, chance: random.Random) -> None:
    """Kill a run, in one of six ways; one in eleven has worker processes."""
    last = "layout" if number % 4 == 1 else "time"
    way = ("predict", "shard", "marker", "finish", "time", last)[number % 6]
    workers = number % 11 == 4
    cube, log = str(folder / "cube.zarr"), folder / "log"
    given = bench.run(cube, *(("--workers", "2") if workers else ()))
    if way == "time":
        fresh = not workers and number % 3 == 1
        event.case = "at a random time" + (", 2 workers" if workers else ", started anew" if fresh else "")
        with spectile(given, log, fresh=fresh) as process:
            _kill_in_time(event, process, cube, chance.uniform(0, 0.8 * bench.cpu_seconds))
            _resume(event, bench, cube, log)
        return
    point = _point(way, chance, bench.passages, folder, early=workers)
    event.case = way if way == "predict" else f"{way}, {point.moment}"
    event.case += ", 2 workers" if workers else ""
    with spectile(given, log, point=point) as process:
        code = process.wait()
        event.confirmed = point.hit()
        if workers and way in ("predict", "shard", "marker"):
            event.expect("exit code of a run that lost a worker", code, 0)
        else:
            event.expect("exit code", code, -signal.SIGKILL)
        # Workers may still be there.
        _resume(event, bench, cube, log)


def _kill_in_time(event: Event, process: Process, cube: str, after: float) -> None:
    """Kill the process when it has used so much CPU time since it took the cube."""
    lease = Path(cube, "ledger", "lease-00000001.json")
    began: float | None = None
    while process.poll() is None:
        if began is None and lease.exists():
            began = process.cpu_seconds()
        if began is not None and process.cpu_seconds() >= began + after:
            break
        time.sleep(0.005)
    else:
        event.confirmed = False  # it was faster
        return
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    event.confirmed = process.wait() == -signal.SIGKILL


def _worker(event: Event, number: int, bench: Bench, folder: Path, chance: random.Random) -> None:
    """Kill one of two workers while the run goes on; it comes to its end without help."""
    cube, log = str(folder / "cube.zarr"), folder / "log"
    event.case = "at a random time"
    with spectile(bench.run(cube, "--workers", "2"), log) as process:
        while process.poll() is None and not Path(cube, "ledger", "plan.json").exists():
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        for pid in process.workers()[:1]:
            os.kill(pid, signal.SIGKILL)
            event.confirmed = process.poll() is None
        event.expect("exit code", process.wait(), 0)
    _compare(event, bench, cube, log)


def _damage(event: Event, number: int, bench: Bench, folder: Path, chance: random.Random) -> None:
    """Flip a bit of a finished cube, or cut an object off; ``verify`` must tell, and repair it."""
    reference = Path(bench.reference)
    cube, log = folder / "cube.zarr", folder / "log"
    shutil.copytree(reference, cube)
    for name in quicklook_names(reference.name):
        shutil.copy(reference.parent / name, folder / name)
    target = DAMAGED[number % len(DAMAGED)]
    keys = sorted(key for key in _keys(cube) if _target_of(key) == target)
    if not keys:
        raise Skipped(f"the cube has no {target}")
    path = cube / chance.choice(keys)
    value = bytearray(path.read_bytes())
    if number // len(DAMAGED) % 3 == 2:
        at = chance.randrange(len(value))
        path.write_bytes(value[:at])
        event.case = f"{target}, cut off"
    else:
        at = chance.randrange(8 * len(value))
        value[at // 8] ^= 1 << at % 8
        path.write_bytes(value)
        event.case = f"{target}, bit flipped"
    event.confirmed = True

    def examine() -> list[int]:
        repair = ["verify", str(cube), "--repair", "--scene", bench.scene]
        return [cli.main(["verify", str(cube)]), cli.main(repair), cli.main(["verify", str(cube)])]

    found, repaired, again = ask(examine, log)
    event.detected = found == 1
    event.expect("exit code of verify", found, 1)
    event.expect("exit code of verify --repair", repaired, 0)
    event.expect("exit code of verify after the repair", again, 0)
    where = f"{path.relative_to(cube)} at {at}"
    event.wrong = [f"{what} ({where})" for what in event.wrong]
    _compare(event, bench, str(cube), log)


def _full(event: Event, number: int, bench: Bench, folder: Path, chance: random.Random) -> None:
    """Let the disk be full at some point of a run; then give it room and go on."""
    reference = Path(bench.reference)
    # Without the report: it comes last, and a run that cannot write it says so and is done.
    needed = [*reference.rglob("*"), *(reference.parent / name for name in quicklook_names(reference.name))]
    need = sum(-(-path.stat().st_size // 4096) for path in needed if path.is_file())
    pages = int(need * (0.05 + 0.8 * number / COUNTS["full"]) + chance.uniform(0, 0.05) * need)
    event.case = f"room for {100 * pages // need} % of the cube"
    cube, log = str(folder / "disk" / "cube.zarr"), folder / "log"
    with _disk(folder / "disk", pages) as enlarge:
        code = run(bench.run(cube), log)
        event.expect("exit code", code, 1)
        event.confirmed = code == 1 and "no space left" in log.read_text().lower()
        enlarge()
        _resume(event, bench, cube, log)


@contextmanager
def _disk(place: Path, pages: int) -> Iterator[Callable[[], None]]:
    """A small disk in memory, and what makes it large."""
    if os.geteuid() != 0 or os.uname().sysname != "Linux":
        raise Skipped("a small disk takes root on Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    place.mkdir()

    def mount(flags: int, size: int) -> None:
        if libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", flags, f"size={size * 4096}".encode()):
            raise Skipped(f"no disk in memory: {os.strerror(ctypes.get_errno())}")

    mount(0, pages)
    try:
        yield lambda: mount(32, 100_000)  # MS_REMOUNT
    finally:
        libc.umount2(str(place).encode(), 2)  # MNT_DETACH


def _race(event: Event, number: int, bench: Bench, folder: Path, chance: random.Random) -> None:
    """Two runs on one cube: one that is stopped and overtaken, or both at once."""
    remote = number % 10 in (5, 6, 8)
    cube = f"{bench.objects()}/{event.id}/cube.zarr" if remote else str(folder / "cube.zarr")
    where = "S3" if remote else "files"
    if number % 10 in (7, 8):
        event.case = f"both at once, {where}"
        _both(event, bench, cube, folder)
    else:
        _overtake(event, number, bench, cube, folder, chance, where)
    _compare(event, bench, cube, folder / "log")


def _both(event: Event, bench: Bench, cube: str, folder: Path) -> None:
    given = bench.run(cube, *LEASE, "--resume")
    with spectile(given, folder / "log") as one, spectile(given, folder / "log.2") as two:
        codes = one.wait(), two.wait()
    event.confirmed = True
    for code in codes:
        event.expect("exit code", code, 0, 3, 4)
    event.expect("whether one of them made the cube", 0 in codes, True)


def _overtake(
    event: Event, number: int, bench: Bench, cube: str, folder: Path, chance: random.Random, where: str
) -> None:
    way = ("predict", "shard", "marker", "finish", "layout", "shard", "finish", "", "", "marker")[number % 10]
    point = _point(way, chance, bench.passages, folder, stop=True)
    option = "--overwrite" if number % 10 == 9 else "--resume"
    event.case = f"stopped in {way}{'' if way == 'predict' else f', {point.moment}'}, {where}, {option}"
    log = folder / "log"
    with spectile(bench.run(cube, *LEASE), folder / "log.1", point=point) as first:
        event.confirmed = first.stopped() and point.hit()
        event.expect("exit code of the second run", run(bench.run(cube, *LEASE, option), log), 0)
        event.expect("exit code of verify", run(["verify", cube], log), 0)
        before = ask(lambda: everything(cube), log)
        if event.confirmed:
            os.kill(first.pid, signal.SIGCONT)
        event.expect("exit code of the one that was overtaken", first.wait(), 4)
        after = ask(lambda: everything(cube), log)
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    event.wrong += [f"the one that was overtaken changed {key}" for key in changed]


def _point(
    way: str, chance: random.Random, counts: dict[str, int], folder: Path, *, early: bool = False,
    stop: bool = False,
) -> Failpoint:  # fmt: skip
    """A random passage of a phase; early enough that one of two workers comes by."""
    count = max(1, counts[way] // 4) if early and way in PHASES[:3] else counts[way]
    # After the last marker or the last of all, there is nothing left that could be held back.
    moments = MOMENTS[:3] if stop else MOMENTS
    return Failpoint(
        way, chance.randint(1, count), chance.choice(moments), str(folder / "hit"),
        int(signal.SIGSTOP if stop else signal.SIGKILL),
    )  # fmt: skip


def _resume(event: Event, bench: Bench, cube: str, log: Path) -> None:
    def resumed() -> list[int]:
        return [cli.main(bench.run(cube, "--resume")), cli.main(["verify", cube])]

    resume, verify = ask(resumed, log)
    event.expect("exit code of --resume", resume, 0)
    event.expect("exit code of verify", verify, 0)
    _compare(event, bench, cube, log)


def _compare(event: Event, bench: Bench, cube: str, log: Path) -> None:
    found = ask(lambda: differences(bench.reference, cube), log)
    event.identical = not found
    event.wrong += found[:5]


def _keys(cube: Path) -> list[str]:
    return [path.relative_to(cube).as_posix() for path in cube.rglob("*") if path.is_file()]


def _target_of(key: str) -> str | None:
    if "lease-" in key:
        return None
    if key.startswith("overviews/"):
        return "overview"
    if key == "zarr.json":
        return "root"
    if key == "ledger/plan.json":
        return "plan"
    if key.startswith("ledger/") and not key.endswith("zarr.json"):
        return "marker"
    return "shard" if key.startswith(SHARDS) else "metadata"


_HAPPEN: dict[str, Callable[[Event, int, Bench, Path, random.Random], Any]] = {
    "kill": _kill, "worker": _worker, "damage": _damage, "full": _full, "race": _race,
}  # fmt: skip
