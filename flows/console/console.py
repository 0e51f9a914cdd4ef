"""Log lines, progress, tables and errors of a run in the terminal. No heavy import."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from spectile.catalog.sizes import width_by_height

if TYPE_CHECKING:
    from spectile.flows.run.state import Observer
    from spectile.pipeline.geometry.tiling import Block
    from spectile.pipeline.plan.cost import Estimate
    from spectile.pipeline.plan.plan import Plan

LOG = logging.getLogger("spectile")

SECONDS_BETWEEN_LINES = 5.0
"""Shortest time between two progress lines when the output is a file or a pipe."""

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, change colours or the writing direction, or cannot be encoded."""

_CURRENT: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Set the observer of the flow that is called inside; a flow's parameters can only be plain values."""
    token = _CURRENT.set(observer)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_observer() -> Observer | None:
    """The observer of the caller, or None."""
    return _CURRENT.get()


def log_to(console: Console) -> None:
    """Print the run's log lines, and the warnings of libraries, on a console.

    Prefect's own lines are left out: its server shows them with the flow run. Call this before Prefect is
    imported, because Prefect adds its own handler to a root logger without handlers.
    """
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, ConsoleHandler)]:
        root.removeHandler(handler)
    handler = ConsoleHandler(console)
    handler.setFormatter(_Formatter())
    handler.addFilter(lambda record: not record.name.startswith(("prefect", "httpx", "uvicorn")))
    root.addHandler(handler)
    LOG.setLevel(logging.INFO)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}{record.getMessage()}"


class ConsoleHandler(logging.Handler):
    """A handler that prints on a rich console, also while the console draws the progress."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record as one line."""
        line = visible(self.format(record))
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


class RunProgress:
    """An observer that shows blocks, tiles, speed and time left: live on a terminal, else in lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._started = self._said = time.perf_counter()
        self._tiles = self._tiles_done = self._pixels = 0
        self.blocks = 0
        """Number of blocks of the run, 0 before it is planned."""
        self.blocks_done = 0
        """Number of blocks that are done, including earlier runs."""

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._live.stop()

    def begin(self, plan: Plan, estimate: Estimate, done: Sequence[Block]) -> None:
        """Note the size of the run and log what it will do."""
        self._started = self._said = time.perf_counter()
        self.blocks, self.blocks_done = estimate.blocks, len(done)
        self._tiles = estimate.tiles - sum(plan.tiling.count(block.window) for block in done)
        self._pixels = estimate.pixels - sum(plan.pixels(block) for block in done)
        before = f", {len(done)} of them done before" if done else ""
        LOG.info(
            "%d blocks%s, %d tiles to do, about %s of memory",
            self.blocks, before, self._tiles, size(estimate.peak_memory_bytes),
        )  # fmt: skip
        if self._console.is_terminal and self._tiles:
            self._task = self._live.add_task(self.line(), total=self._tiles)
            self._live.start()

    def tiles(self, count: int) -> None:
        """Count tiles."""
        self._tiles_done += count
        self._show()

    def block(self, block: Block, seconds: float) -> None:
        """Count a block."""
        self.blocks_done += 1
        self._show()

    def line(self) -> str:
        """The state of the run in one line."""
        share = self._tiles_done / max(self._tiles, 1)
        seconds = time.perf_counter() - self._started
        speed = share * self._pixels / 1e6 / max(seconds, 1e-9)
        left = f", {duration(seconds * (1 - share) / share)} left" if share > 0 else ""
        return (
            f"blocks {self.blocks_done}/{self.blocks}, tiles {self._tiles_done}/{self._tiles}, "
            f"{speed:.2f} MPix/s{left}"
        )

    def _show(self) -> None:
        if self._task is not None:
            self._live.update(self._task, completed=self._tiles_done, description=self.line())
        elif time.perf_counter() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.perf_counter()
            LOG.info(self.line())


def visible(text: object) -> str:
    """The text with control characters escaped, because names come from untrusted files and catalogs."""
    return _UNSEEN.sub(lambda match: ascii(match.group())[1:-1], str(text))


def print_error(message: object) -> None:
    """Print an error as one line on stderr, with control characters escaped."""
    print("spectile: error:", visible(" ".join(str(message).split())), file=sys.stderr, flush=True)


def print_line(text: object) -> None:
    """Print a line on stdout, with control characters escaped."""
    print(visible(text), flush=True)


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print names and values in two columns on stdout; never cut or wrapped, so that it can be piped."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:<{width}}  {visible(value)}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, the first column to the left, the others to the right."""
    shown = [[visible(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        first, *rest = (
            f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join((first, *rest)).rstrip())


def plan_pairs(report: Mapping[str, Any]) -> dict[str, object]:
    """The cost of a planned run, from its report, as names and values."""
    plan, model = report["plan"], report["model"]
    hours = plan["hours"]
    layers = f", layers {', '.join(plan['layers'])}" if plan["layers"] else ""
    empty = f", {plan['blocks_empty']} more are empty" if plan["blocks_empty"] else ""
    return {
        "scene": f"{report['scene']}",
        "channels": "; ".join(report["channels"]),
        "cube": f"{extent(plan['shape'])}, {plan['samples']} sample(s){layers}",
        "model": f"{model['name']} on {model['device']}, {model['steps']} steps, seed {report['seed']}",
        "tiles": f"{plan['tiles'] - plan['tiles_masked']} of {plan['tile']} px, halo {plan['halo']} px",
        "blocks": f"{plan['blocks']} of {plan['block']} px{empty}",
        "redundancy": f"{plan['redundancy']:.2f} pixels computed for each pixel written",
        "output": f"{size(plan['output_bytes'])} before compression, by {plan['threads']} thread(s)",
        "peak memory": size(plan["peak_memory_bytes"]),
        "hours": "unknown" if hours is None else f"{hours:.3g} ({duration(hours * 3600)}), as timed here",
    }


def result_pairs(report: Mapping[str, Any]) -> dict[str, object]:
    """The results of a run, from its report, as names and values."""
    result = report["result"]
    return {
        "cube": result["cube"],
        "quicklook": result["quicklook"] or "none, since blocks are missing",
        "report": result["report"] or "none",
        "size": extent(report["plan"]["shape"]),
        "blocks": f"{result['blocks_done']} of {report['plan']['blocks']} done",
        "speed": f"{result['megapixels_per_second']:.3f} MPix/s "
        f"({result['megapixels']:.2f} MPix in {duration(result['seconds'])})",
        "peak memory": size(result["peak_memory_bytes"]),
    }


def extent(shape: Sequence[int]) -> str:
    """The size of a cube (bands, rows, columns)."""
    bands, rows, columns = shape
    return f"{width_by_height((rows, columns))}, {bands} bands"


def size(count: float) -> str:
    """A number of bytes with its unit, in powers of ten."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def duration(seconds: float) -> str:
    """A time as readable text."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
