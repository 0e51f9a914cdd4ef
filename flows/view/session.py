"""Shared by all pages: the reading threads, the handling of their results, figures with square units."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

from bokeh.core.property.descriptors import UnsetValueError
from bokeh.document import Document, without_document_lock
from bokeh.models import Div

from spectile.catalog.errors import SpectileError

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
AXIS: dict[str, Any] = {
    "axis_label_text_font": FONT, "major_label_text_font": FONT, "axis_label_text_font_style": "normal",
    "axis_label_text_font_size": "13px", "major_label_text_font_size": "12px", "axis_line_color": "#9aa5b1",
    "major_tick_line_color": "#9aa5b1", "minor_tick_line_color": None,
}  # fmt: skip
"""The style of axes."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class Pools:
    """The reading threads, shared by all pages."""

    maps: Executor
    """Threads for pieces of maps."""
    spectra: Executor
    """One thread for spectra: they come in the order of the clicks and do not wait for maps."""


class Session:
    """An open page: its document and a status line."""

    def __init__(self, document: Document, pools: Pools) -> None:
        self.document, self.pools = document, pools
        self.status = Div(name="status", disable_math=True, sizing_mode="stretch_width")

    def say(self, text: str) -> None:
        """Show a text in the status line."""
        self.status.text = escape(text)

    def run(
        self,
        pool: Executor,
        work: Callable[[], Made],
        done: Callable[[Made], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Run ``work`` in a thread, then ``done`` with its result and the document locked; show failures.

        Parameters
        ----------
        after : called at the end, also after a failure.
        """

        @without_document_lock  # type: ignore[untyped-decorator]
        async def task() -> None:
            finish: Callable[[], None]
            try:
                finish = _bound(done, await asyncio.get_running_loop().run_in_executor(pool, work))
            except (SpectileError, OSError) as err:
                finish = _bound(self.say, str(err))
            self.document.add_next_tick_callback(lambda: _one_by_one(finish, after))

        self.document.add_next_tick_callback(task)


def _bound(function: Callable[[Made], None], value: Made) -> Callable[[], None]:
    return lambda: function(value)


def _one_by_one(*functions: Callable[[], None]) -> None:
    for function in functions:
        function()


def frame_of(drawn: Any) -> tuple[int, int]:
    """Width and height of a figure's frame on the screen, px; zero before the browser has laid it out."""
    try:
        return drawn.inner_width or 0, drawn.inner_height or 0
    except UnsetValueError:
        return 0, 0


def pixel_of(drawn: Any) -> float:
    """The figure's units per screen pixel."""
    return float(drawn.x_range.end - drawn.x_range.start) / (frame_of(drawn)[0] or 900)


def keep_square(drawn: Any, x: float, y: float, wide: float, high: float) -> None:
    """Show a rectangle around a point, extended so that units have equal width and height."""
    across, down = frame_of(drawn)
    if across and down:
        scale = max(wide / across, high / down)
        wide, high = scale * across, scale * down
    drawn.x_range.update(start=x - wide / 2, end=x + wide / 2)
    drawn.y_range.update(start=y - high / 2, end=y + high / 2)
