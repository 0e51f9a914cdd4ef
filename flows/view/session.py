"""What the pages share: the threads that read, what is done with the results, figures with square units."""

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
"""How axes look."""
Made = TypeVar("Made")


@dataclass(frozen=True)
class Pools:
    """The threads that read, for all pages together."""

    maps: Executor
    """For pieces of maps."""
    spectra: Executor
    """One thread, so that spectra come in the order of the clicks, and wait for no map."""


class Session:
    """A page that is open: its document, and a line of text that says what happens."""

    def __init__(self, document: Document, pools: Pools) -> None:
        self.document, self.pools = document, pools
        self.status = Div(name="status", disable_math=True, sizing_mode="stretch_width")

    def say(self, text: str) -> None:
        """Put the line below the map."""
        self.status.text = escape(text)

    def run(
        self,
        pool: Executor,
        work: Callable[[], Made],
        done: Callable[[Made], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Work in a thread, then use what came of it with the document locked; a failure is said.

        Parameters
        ----------
        after : called in the end, also after a failure.
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
    """Width and height of a figure's frame on the screen, px; nothing before a browser has laid it out."""
    try:
        return drawn.inner_width or 0, drawn.inner_height or 0
    except UnsetValueError:
        return 0, 0


def pixel_of(drawn: Any) -> float:
    """The figure's units along a pixel of the screen."""
    return float(drawn.x_range.end - drawn.x_range.start) / (frame_of(drawn)[0] or 900)


def keep_square(drawn: Any, x: float, y: float, wide: float, high: float) -> None:
    """Show a rectangle about a point, and as much more as makes units as wide as they are high."""
    across, down = frame_of(drawn)
    if across and down:
        scale = max(wide / across, high / down)
        wide, high = scale * across, scale * down
    drawn.x_range.update(start=x - wide / 2, end=x + wide / 2)
    drawn.y_range.update(start=y - high / 2, end=y + high / 2)
