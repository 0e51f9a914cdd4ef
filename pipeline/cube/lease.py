"""One run writes a cube: the lease names the run, and the fence stops the writes of all others.

Each run that takes a cube gets the next epoch, with an object of its own, created under the condition that
it is new. The holder renews it. A run that sees no renewal for the whole duration, by its own clock, takes
the next epoch and removes the object of the epoch before. From that moment the other run is out: every write
asks whether its object is still there. See docs/decisions/0006-lease-and-fencing.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from spectile.catalog.errors import LeaseHeld, LeaseLost, StoreError
from spectile.pipeline.cube import ledger
from spectile.pipeline.store.base import Exists, Storage, agree

if TYPE_CHECKING:
    from zarr.abc.store import Store

LOG = logging.getLogger("spectile")

BEATS = 4
"""Renewals in the duration of a lease."""
STALLED = 600.0
"""Seconds without a finished tile after which a run that is alive is called stalled."""


@dataclass(frozen=True)
class Beat:
    """The content of a lease's object."""

    owner: str
    """A random name of the run, so that no two runs write the same bytes."""
    pid: int
    """Number of the process."""
    machine: str
    """A hash of the boot and the PID namespace: it tells whether another process can look up the number."""
    born: str
    """When the process began, in the kernel's ticks, because process numbers are used again."""
    since: str
    """When the run took the cube, UTC by its own clock."""
    at: str
    """When this was written, UTC by the run's own clock; only for people, nothing depends on it."""
    seconds: float
    """Seconds without renewal after which it may be taken over."""
    count: int = 0
    """Renewals."""
    ended: bool = False
    """Whether the run has ended; then anybody may take the cube at once."""
    blocks: int = 0
    """Blocks of the cube, 0 before that is known."""
    done: int = 0
    """Blocks that are done."""
    block: str = ""
    """The first block that is not done."""
    idle: float = 0.0
    """Seconds since a tile or a block was finished."""

    def age(self) -> float:
        """Seconds since it was written, as far as the clocks agree."""
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(self.at)).total_seconds())

    @property
    def dead(self) -> bool:
        """Whether its process is known to be dead: it ran on this machine, and does not exist any more."""
        return self.machine == _machine() != "" and _born(self.pid) != self.born

    @property
    def state(self) -> str:
        """``running``, ``stalled`` (alive, but nothing was finished for ten minutes) or ``stopped``."""
        if self.ended or self.dead or self.age() > self.seconds:
            return "stopped"
        return "stalled" if self.idle > STALLED else "running"


def read_beat(storage: Storage) -> Beat | None:
    """The content of a cube's latest lease; None if there is none that can be read."""
    epochs = _epochs(storage)
    return _parse(storage.get(ledger.lease_key(epochs[-1]))) if epochs else None


def _parse(value: bytes | None) -> Beat | None:
    try:
        return Beat(**json.loads(value or b"{}"))
    except (ValueError, TypeError):
        return None


def _epochs(storage: Storage) -> list[int]:
    keys = [key for key in storage.keys(ledger.PREFIX) if ledger.is_lease(key)]
    numbers = [key.rpartition("-")[2].removesuffix(".json") for key in keys]
    return sorted(int(number) for number in numbers if number.isdigit())


@dataclass(frozen=True)
class Fence:
    """Whether a run still holds its cube. Travels to workers."""

    storage: Storage
    """The cube's store."""
    epoch: int
    """The run's."""
    owner: str
    """The run's random name."""

    def check(self) -> None:
        """Nothing, where it does.

        Raises
        ------
        LeaseLost : another run took the cube over, or it was removed.
        StoreError : the store cannot be asked.
        """
        current = _parse(self.storage.get(ledger.lease_key(self.epoch)))
        if current is not None and current.owner == self.owner:
            return
        other = read_beat(self.storage)
        raise LeaseLost(
            "another run took the cube over while this one stood still, which now ends and writes no more",
            where=str(self.storage),
            got=f"process {other.pid} since {other.since}" if other else "no lease: the cube was removed",
            remedy="leave it to the other run",
        )


@dataclass(frozen=True)
class Fenced(Storage):
    """A storage in which nothing appears any more once the lease is lost. Travels to workers."""

    inner: Storage
    """Where the objects are."""
    fence: Fence
    """Who may write."""

    def __str__(self) -> str:
        return str(self.inner)

    @property
    def name(self) -> str:
        """The last part of the place."""
        return self.inner.name

    @property
    def parent(self) -> Fenced:
        """The storage that contains this one, under the same fence."""
        return Fenced(self.inner.parent, self.fence)

    def at(self, key: str) -> str:
        """The place of an object, to show."""
        return self.inner.at(key)

    def zarr(self, *, read_only: bool = False) -> Store:
        """The same objects for zarr, to read: what it writes would pass the fence."""
        assert read_only
        return self.inner.zarr(read_only=True)

    def get(self, key: str) -> bytes | None:
        """The object, or None where there is none."""
        return self.inner.get(key)

    def get_bounded(self, key: str, most: int) -> bytes | None:
        """The object, no more than ``most`` bytes, or None where there is none."""
        return self.inner.get_bounded(key, most)

    def read(self, key: str) -> tuple[bytes, str] | None:
        """The object and its version, or None where there is none."""
        return self.inner.read(key)

    def put(self, key: str, value: bytes) -> None:
        """Write an object, if the lease is held."""
        self.inner.put_guarded(key, value, self.fence.check)

    def put_guarded(self, key: str, value: bytes, guard: Callable[[], None]) -> None:
        """Write an object, if the lease is held and the guard agrees."""
        self.inner.put_guarded(key, value, self._and(guard))

    def put_new(self, key: str, value: bytes, guard: Callable[[], None] = agree) -> str:
        """Write an object that does not exist yet, if the lease is held and the guard agrees."""
        return self.inner.put_new(key, value, self._and(guard))

    def _and(self, guard: Callable[[], None]) -> Callable[[], None]:
        def both() -> None:
            guard()
            self.fence.check()

        return both

    def put_if(self, key: str, value: bytes, version: str) -> str:
        """Replace an object that still has this version, if the lease is held."""
        self.fence.check()
        return self.inner.put_if(key, value, version)

    def delete(self, key: str) -> None:
        """Remove an object, if the lease is held."""
        self.fence.check()
        self.inner.delete(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the objects directly under a prefix, in order."""
        return self.inner.keys(prefix)

    def exists(self) -> bool:
        """Whether there is anything at the place."""
        return self.inner.exists()

    def size(self) -> int:
        """Bytes of all objects."""
        return self.inner.size()

    def walk(self) -> Iterator[str]:
        """The keys of all objects."""
        return self.inner.walk()

    def sweep(self, *, beside: Sequence[str] = ()) -> None:
        """Remove unfinished objects, if the lease is held."""
        self.fence.check()
        self.inner.sweep(beside=beside)


class Lease:
    """A lease that is held: its fenced storage, and the state of the run in its beat."""

    def __init__(self, fence: Fence, beat: Beat) -> None:
        self.storage = Fenced(fence.storage, fence)
        """Where to write."""
        self._fence = fence
        self._beat = beat
        self._moved = time.monotonic()
        self._lost: LeaseLost | None = None
        self._end = threading.Event()
        self._lock = threading.Lock()

    def tell(self, **facts: object) -> None:
        """Note fields of the beat, and that something was finished.

        Raises
        ------
        LeaseLost : the last renewal has found out that the cube was taken over.
        """
        with self._lock:
            self._moved = time.monotonic()
            self._beat = replace(self._beat, **facts)  # type: ignore[arg-type]
        if self._lost:
            raise self._lost

    def _renew(self) -> None:
        with self._lock:
            idle = round(time.monotonic() - self._moved, 1)
            self._beat = replace(self._beat, count=self._beat.count + 1, at=_now(), idle=idle)
            value = _to_bytes(self._beat)
        self.storage.put(ledger.lease_key(self._fence.epoch), value)

    def keep(self) -> None:
        """Renew it until ``end``; meant for a thread."""
        while not self._end.wait(self._beat.seconds / BEATS):
            try:
                self._renew()
            except LeaseLost as err:
                self._lost = err
                return
            except (StoreError, OSError) as err:
                # The store may work again later. Until then every write asks the store itself.
                LOG.warning("the lease could not be renewed: %s", err)

    def end(self) -> None:
        """Note that the run has ended, so that the next one does not wait."""
        self._end.set()
        with self._lock:
            self._beat = replace(self._beat, ended=True)
        try:
            self._renew()
        except LeaseLost:
            pass
        except (StoreError, OSError):
            # No space even for this. Removing the lease needs none, and without a lease nobody waits.
            with suppress(StoreError, OSError):
                self.storage.delete(ledger.lease_key(self._fence.epoch))


@contextmanager
def hold(storage: Storage, seconds: float, *, beside: Sequence[str] = ()) -> Iterator[Lease]:
    """Hold a cube's lease, renewed by a thread.

    Parameters
    ----------
    seconds : its duration.
    beside : names of objects beside the store that the run writes as well.

    Raises
    ------
    LeaseHeld : another run holds it, which was seen alive.
    StoreError, OSError : the store cannot be written.
    """
    now = _now()
    beat = Beat(uuid.uuid4().hex, os.getpid(), _machine(), _born(os.getpid()), now, now, seconds)
    lease = Lease(_acquire(storage, beat), beat)
    thread = threading.Thread(target=lease.keep, name="lease", daemon=True)
    thread.start()
    try:
        storage.sweep(beside=beside)
        yield lease
    finally:
        lease._end.set()
        thread.join()
        lease.end()


def _acquire(storage: Storage, beat: Beat) -> Fence:
    """Take the next epoch, after having watched an unfinished one for its duration."""
    watched: tuple[int, bytes] | None = None
    began = 0.0
    while True:
        epochs = _epochs(storage)
        last = epochs[-1] if epochs else 0
        value = storage.get(ledger.lease_key(last)) if epochs else b""
        if value is None:
            continue  # taken over at this moment: by another, whose lease is seen next
        holder = _parse(value)
        free = not epochs or (holder is not None and (holder.ended or holder.dead))
        if not free:
            # A lease that cannot be read gets as much time as this run's own.
            seconds = holder.seconds if holder else beat.seconds
            if watched is None:
                watched, began = (last, value), time.monotonic()
                LOG.info("the cube's last run has not ended; watching for %g s whether it is alive", seconds)
            if watched != (last, value):
                raise _held(storage, holder)
            left = seconds - (time.monotonic() - began)
            if left > 0:
                time.sleep(min(left, seconds / (2 * BEATS)))
                continue
        try:
            storage.put_new(ledger.lease_key(last + 1), _to_bytes(beat))
        except Exists:
            raise _held(storage, read_beat(storage)) from None
        fence = Fence(storage, last + 1, beat.owner)
        if max(_epochs(storage)) > last + 1:
            # This run was paused before it wrote; that epoch was over already.
            storage.delete(ledger.lease_key(last + 1))
            raise _held(storage, read_beat(storage))
        for epoch in epochs:
            storage.delete(ledger.lease_key(epoch))
        return fence


def refuse_held(storage: Storage) -> None:
    """Refuse a cube that another run is writing, without taking or waiting for its lease.

    Raises
    ------
    LeaseHeld : a run was seen alive there.
    """
    beat = read_beat(storage)
    if beat is not None and beat.state != "stopped":
        raise _held(storage, beat)


def _held(storage: Storage, holder: Beat | None) -> LeaseHeld:
    who = f"process {holder.pid} since {holder.since}" if holder else "a lease that cannot be read"
    done = f", {holder.done} of {holder.blocks} blocks done" if holder and holder.blocks else ""
    return LeaseHeld(
        "another run is writing this cube", where=str(storage), got=who + done,
        remedy="wait for it or end it, then run again with --resume",
    )  # fmt: skip


def _to_bytes(beat: Beat) -> bytes:
    return json.dumps(asdict(beat), sort_keys=True).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> str:
    """A hash of this boot and PID namespace, which names nothing; empty where there is no such thing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return hashlib.blake2b((boot + os.readlink("/proc/self/ns/pid")).encode(), digest_size=8).hexdigest()
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process of this machine began; empty where it is dead."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]
