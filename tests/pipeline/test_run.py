import threading
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from affine import Affine

from spectile.catalog.errors import BlockError, NetworkError, StoreError
from spectile.catalog.inputs import Raster
from spectile.pipeline import run as run_module
from spectile.pipeline.cube.record import Cube, finished_blocks
from spectile.pipeline.cube.write import create_cube
from spectile.pipeline.geometry.grid import Grid
from spectile.pipeline.geometry.tiling import Tiling
from spectile.pipeline.plan.cost import Workload
from spectile.pipeline.plan.plan import Plan
from spectile.pipeline.run import process_run
from spectile.pipeline.store.local import LocalStorage
from tests.pipeline.fakes import SIX, UTM, Positional

SHAPE = (520, 1060)  # two rows of three blocks


@dataclass
class Scene:
    """A scene of random pixels that notes who reads it, and fails where it is told to."""

    failing: dict[int, list[Exception]] = field(default_factory=dict)
    """What the next reads of the block whose tiles begin at this column raise."""
    threads: set[str] = field(default_factory=set)

    def read(self, window):
        self.threads.add(threading.current_thread().name)
        if self.failing.get(window.col):
            raise self.failing[window.col].pop()
        rows, cols = np.ogrid[window.row : window.row_stop, window.col : window.col_stop]
        value = (np.sin(rows * 0.1) * np.cos(cols * 0.07) + 1).astype(np.float32) / 2
        return Raster(np.stack([value, value * 0.5, value * 0.25]), np.ones(window.shape, bool))

    def index(self, window):
        return None


@dataclass
class Watch:
    """Notes what it is told."""

    said: list[str] = field(default_factory=list)
    tiles_told: int = 0

    def tiles(self, count) -> None:
        self.tiles_told += count

    def done(self, block, marker, seconds) -> None:
        self.said.append(block.name)

    def failed(self, block, error) -> None:
        self.said.append(f"{block.name} {error}")


@dataclass
class Failing(Positional):
    """Fails in its first calls, and has no room for more than ``room`` tiles."""

    errors: list[Exception] = field(default_factory=list)
    room: int = 100
    calls: list[int] = field(default_factory=list)

    def predict(self, batch, samples):
        self.calls.append(len(batch))
        for each in super().predict(batch, samples):
            yield each  # so that a part of the block is there already
            if len(batch) > self.room:
                raise MemoryError("no room")
            if self.errors:
                raise self.errors.pop()


@pytest.fixture(scope="module")
def plan() -> Plan:
    grid = Grid(SHAPE, Affine(0.5, 0, 0, 0, -0.5, 0), UTM)
    return Plan(grid, grid.window, Tiling(SHAPE, 256, 32), 512, 6)


@pytest.fixture
def cube(plan, tmp_path) -> Cube:
    return create_cube(LocalStorage(tmp_path / "cube.zarr"), plan, Positional().bands)


@pytest.fixture(scope="module")
def reference(plan, tmp_path_factory) -> dict:
    """The checksums of the blocks, each made on its own."""
    folder = tmp_path_factory.mktemp("reference") / "cube.zarr"
    cube = create_cube(LocalStorage(folder), plan, Positional().bands)
    for block in plan.blocks:
        process_run(cube, [block], sources={"rgb": Scene()}, predictor=Positional(), watch=Watch())
    return checksums(cube)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch) -> None:
    monkeypatch.setattr(run_module, "BACK_OFF_SECONDS", 0.0)


def checksums(cube: Cube) -> dict:
    return {block: marker.checksums for block, marker in finished_blocks(cube).items()}


def run(cube: Cube, watch: Watch | None = None, **options) -> Watch:
    watch = watch or Watch()
    given = {"source": Scene(), "predictor": Positional(leak=0.3), **options}
    process_run(cube, cube.plan.blocks, watch=watch, sources={"rgb": given.pop("source")}, **given)
    return watch


@pytest.mark.parametrize("overlapped", [True, False])
def test_a_run_equals_blocks_made_one_by_one_and_tells_them_in_order(cube, reference, overlapped):
    scene = Scene()
    watch = run(cube, source=scene, predictor=Positional(), overlapped=overlapped)
    assert checksums(cube) == reference
    assert watch.said == [block.name for block in cube.plan.blocks]
    assert len(scene.threads) == 1
    assert threading.current_thread().name not in scene.threads


def test_tiles_that_neighbours_share_are_predicted_once_in_a_run(cube):
    plan = cube.plan
    watch = run(cube)
    markers = finished_blocks(cube).values()
    kept, predicted = (sum(getattr(m, name) for m in markers) for name in ("tiles_kept", "tiles"))
    spans = [plan.tiling.span(block.window) for block in plan.blocks]
    beside = [a.intersection(b).size for a, b in pairwise(spans) if a.row == b.row]
    assert kept == sum(beside) > 0
    assert watch.tiles_told == kept + predicted == sum(span.size for span in spans)
    counts = plan.tiling.counts
    assert plan.lattice_tiles(plan.blocks) == counts[0] * counts[1]


def test_blocks_overlap_and_no_more_than_three_are_in_hand(cube, monkeypatch):
    lock, in_hand, most = threading.Lock(), 0, 0
    second_read, second_predicted = threading.Event(), threading.Event()
    write = run_module.write_block

    class Watched(Scene):
        def read(self, window):
            nonlocal in_hand, most
            with lock:
                in_hand += 1
                most = max(most, in_hand)
            if window.col > 0:
                second_read.set()
            return super().read(window)

    class Predictor(Positional):
        def predict(self, batch, samples):
            assert second_read.wait(10), "the second block is read while the first is predicted"
            if batch.origins[-1, 1] > 512:
                second_predicted.set()
            return super().predict(batch, samples)

    def watched(*given, **options):
        nonlocal in_hand
        assert second_predicted.wait(10), "the second block is predicted while the first is written"
        marker = write(*given, **options)
        with lock:
            in_hand -= 1
        return marker

    monkeypatch.setattr(run_module, "write_block", watched)
    run(cube, source=Watched(), predictor=Predictor())
    assert (most, in_hand) == (3, 0)


def test_a_block_that_fails_for_a_while_is_made_in_the_end(cube, reference):
    scene = Scene({-32: [BlockError("a"), BlockError("b")]})
    predictor = Failing(errors=[NetworkError("c"), NetworkError("d")])
    watch = run(cube, source=scene, predictor=predictor, retries=2)
    assert watch.said == [block.name for block in cube.plan.blocks]
    assert checksums(cube) == reference
    assert watch.tiles_told == sum(cube.plan.tiling.count(block.window) for block in cube.plan.blocks)


def test_a_block_that_fails_for_good_is_told_by_name_and_the_others_are_done(cube, reference):
    scene = Scene({352: [BlockError("the tape is torn") for _ in range(3)]})
    watch = run(cube, source=scene, predictor=Positional(), retries=2)
    names = [block.name for block in cube.plan.blocks]
    assert watch.said == [names[0], f"{names[1]} the tape is torn", *names[2:]]
    gone = cube.plan.blocks[1]
    assert checksums(cube) == {block: sums for block, sums in reference.items() if block != gone}


def test_a_block_that_cannot_be_read_leaves_no_tile_of_its_own_to_the_next(tmp_path):
    # With two columns, a tile at the corner is kept for the block that fails and has a share in the next.
    shape = (520, 600)
    grid = Grid(shape, Affine(0.5, 0, 0, 0, -0.5, 0), UTM)
    plan = Plan(grid, grid.window, Tiling(shape, 256, 32), 512, 6)
    cubes = [create_cube(LocalStorage(tmp_path / name), plan, SIX) for name in ("a.zarr", "b.zarr")]
    run(cubes[0])
    watch = run(cubes[1], source=Scene({352: [BlockError("the tape is torn")]}), retries=0)
    names = [block.name for block in plan.blocks]
    assert watch.said == [names[0], f"{names[1]} the tape is torn", *names[2:]]
    whole = checksums(cubes[0])
    del whole[plan.blocks[1]]
    assert checksums(cubes[1]) == whole


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_network_that_gives_no_number_fails_its_block_alone_and_at_once(cube, reference, number):
    class Broken(Positional):
        asked = 0

        def predict(self, batch, samples):
            for each in super().predict(batch, samples):
                at = np.flatnonzero((batch.origins == (160, 928)).all(axis=1))
                each[at, 2, 7, 9] = number
                Broken.asked += len(at)
                yield each

    watch = run(cube, predictor=Broken(), retries=2)
    broken = cube.plan.blocks[1], cube.plan.blocks[2]
    assert len(watch.said) == len(cube.plan.blocks)
    for block, line in zip(broken, watch.said[1:], strict=False):
        assert line.startswith(f"{block.name} tile r0001c0005: the prediction is not finite")
    assert Broken.asked == len(broken)
    assert checksums(cube) == {block: sums for block, sums in reference.items() if block not in broken}
    spans = [cube.plan.tiling.span(block.window).size for block in cube.plan.blocks if block not in broken]
    assert watch.tiles_told == sum(spans)


def test_a_network_that_fails_for_good_fails_its_block_alone(cube):
    watch = run(cube, predictor=Failing(errors=[NetworkError("the network failed")] * 2), retries=1)
    assert watch.said[0].endswith("the network failed")
    assert watch.said[1:] == [block.name for block in cube.plan.blocks[1:]]


def test_a_fault_of_our_own_is_not_taken_for_the_networks(cube):
    with pytest.raises(RuntimeError, match="changed size"):
        run(cube, predictor=Failing(errors=[RuntimeError("dictionary changed size")] * 9), retries=1)


def test_less_memory_halves_the_batch_once_and_for_all(cube, reference, caplog):
    predictor = Failing(batch=8, room=3)
    run(cube, predictor=predictor)
    assert predictor.calls[:3] == [8, 4, 2]
    assert set(predictor.calls[2:]) <= {1, 2}
    told = [record.message for record in caplog.records]
    assert told == [f"not enough memory; the batch is now {count} tile(s)" for count in (4, 2)]
    assert checksums(cube) == reference


def test_a_block_that_finds_no_memory_at_all_fails_and_the_run_goes_on(cube):
    watch = run(cube, predictor=Failing(batch=2, room=0))
    assert all("not enough memory; lower --memory" in line for line in watch.said)
    assert len(watch.said) == len(cube.plan.blocks)


def test_memory_that_runs_out_while_reading_is_met_too(cube, reference, caplog):
    scene = Scene({352: [MemoryError()]})
    predictor = Failing(batch=8)
    run(cube, source=scene, predictor=predictor)
    assert checksums(cube) == reference
    assert [record.message for record in caplog.records] == ["not enough memory; the batch is now 4 tile(s)"]


def test_a_store_that_fails_stops_the_run_after_its_retries(cube, monkeypatch):
    tries = []

    def full(cube, block, *_, **__):
        tries.append(block.name)
        raise StoreError("no space left on the device", where=block.name)

    monkeypatch.setattr(run_module, "write_block", full)
    with pytest.raises(StoreError, match=r"r0000c0000: no space"):
        run(cube, retries=1)
    assert tries == ["r0000c0000"] * 2


def test_a_run_that_is_interrupted_counts_the_block_it_was_writing(cube):
    class Interrupted(Positional):
        calls = 0

        def predict(self, batch, samples):
            Interrupted.calls += 1
            if Interrupted.calls == 4:
                raise KeyboardInterrupt
            return super().predict(batch, samples)

    watch = Watch()
    with pytest.raises(KeyboardInterrupt):
        run(cube, watch, predictor=Interrupted())
    assert watch.said == [block.name for block in finished_blocks(cube)] != []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read_", "write_"))]


def test_a_run_ends_between_blocks_when_it_is_told_to(cube):
    watch = Watch()
    run(cube, watch, stopped=lambda: len(watch.said) == 2)
    assert 2 <= len(watch.said) <= 3


def test_without_memory_for_it_nothing_is_overlapped_or_kept(cube, plan):
    run(cube, overlapped=False)
    assert not any(marker.tiles_kept for marker in finished_blocks(cube).values())
    small = Workload(replace(plan, block=512), 3)
    amounts = [small.estimate(overlapped=overlapped).peak_memory_bytes for overlapped in (False, True)]
    assert not small.overlaps(amounts[1] - 1)
    assert small.overlaps(amounts[1])
    assert amounts[0] < amounts[1]


def test_a_block_that_takes_too_long_has_failed_and_is_told_by_name(cube, reference, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(run_module.time, "perf_counter", lambda: float(next(ticks)))
    watch = run(cube, predictor=Positional(), retries=1, max_seconds=0.5)
    assert watch.said == [
        f"{block.name} the block takes too long (expected at most 0.5 s)" for block in cube.plan.blocks
    ]
    assert watch.tiles_told == 0
    watch = run(cube, predictor=Positional(), retries=0, max_seconds=1e9)
    assert checksums(cube) == reference
