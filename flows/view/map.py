"""The map of a cube's page. It reads again whenever it is moved or another subject is chosen.

While one piece is read, only the latest request is kept, so that no outdated piece is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any

import numpy as np
from bokeh.events import RangesUpdate
from bokeh.models import (
    Button,
    ColumnDataSource,
    Div,
    PanTool,
    PrintfTickFormatter,
    Range1d,
    ScaleBar,
    Select,
    Slider,
    WheelZoomTool,
)
from bokeh.palettes import BrBG11, Magma256, Viridis256, interp_palette
from bokeh.plotting import figure
from numpy.typing import NDArray
from rasterio.crs import CRS

from spectile.catalog.colour import Limits, stretch
from spectile.catalog.errors import SpectileError
from spectile.flows.view.session import FONT, Session, frame_of, keep_square
from spectile.pipeline.geometry.grid import Window
from spectile.pipeline.product.view import Array, Subject, View, picture

FLAG_COLOURS = (
    "#dfe5ea",
    "#000000",
    "#56b4e9",
    "#cc79a7",
    "#d55e00",
    "#f0b400",
    "#7f3fbf",
    "#009e73",
    "#4d4d4d",
)
"""Colours of no flag and of each flag."""
_BOX = "background:rgba(255,255,255,.85);padding:7px 10px;font-size:12px;color:#1f2933"
MARGIN = 0.15
"""The piece that is read extends beyond the screen on each side by this share of the screen."""


@dataclass(frozen=True)
class Wanted:
    """A request: what the map should show."""

    subject: Subject
    """The layer, band, index or picture."""
    window: Window
    """The cube's pixels on the screen; may reach beyond the cube."""
    side: int
    """Screen pixels along the longer side."""
    of_screen: bool
    """Whether the stretch is computed from the screen, not from the whole scene."""


@dataclass(frozen=True)
class Drawn:
    """A finished request: what the map shows."""

    wanted: Wanted
    """The request."""
    limits: Limits
    """The stretch."""
    base: NDArray[np.uint32]
    """The whole scene at the coarsest level."""
    piece: NDArray[np.uint32] | None
    """The piece on the screen; None if the coarsest level is fine enough."""
    window: Window
    """The cube's pixels that the piece covers."""
    factor: int
    """The level on the screen."""

    def shows(self, subject: Subject, window: Window, factor: int, of_screen: bool) -> bool:
        """Whether the same level and piece would be read for these."""
        return (self.wanted.subject, self.window, self.factor, self.wanted.of_screen) == (
            subject, window, factor, of_screen,
        )  # fmt: skip


class MapPane:
    """The map with its controls. Its axes are the grid's own, in metres: rotated grids are shown upright.

    Parameters
    ----------
    on_shown : called when the map shows something else.
    """

    def __init__(self, session: Session, view: View, *, on_shown: Callable[[Subject], None]) -> None:
        self.session, self.view, self.on_shown = session, view, on_shown
        self.drawn: Drawn | None = None
        self._coarse: tuple[Subject, Array] | None = None
        self._busy = self._again = False
        self._build_controls()
        self._build_map()

    @property
    def roots(self) -> tuple[Any, ...]:
        """The models that the page places."""
        return self.subject, self.band, self.stretch, self.whole, self.map, self.legend

    def _build_controls(self) -> None:
        options = list(self.view.subjects.items())
        self.subject = Select(name="subject", options=options, value=options[0][0], width=280)
        centres = sorted(self.view.bands.centre_nm)
        step = round(float(np.median(np.diff(centres))), 1) if len(centres) > 1 else 1.0
        self.band = Slider(
            name="band", title="Wavelength", format=PrintfTickFormatter(format="%.0f nm"), start=centres[0],
            end=max(centres[-1], centres[0] + 1), step=step or 1.0, value=centres[len(centres) // 2],
            visible=False, sizing_mode="stretch_width", bar_color="#0b6e8f",
        )  # fmt: skip
        self.stretch = Select(
            name="stretch", value="scene", width=220,
            options=[("scene", "Stretch: whole scene"), ("screen", "Stretch: this view")],
        )  # fmt: skip
        self.whole = Button(name="whole", label="Whole scene", width=100)
        self.subject.on_change("value", lambda attr, old, new: self.refresh())
        self.band.on_change("value_throttled", lambda attr, old, new: self.refresh())
        self.stretch.on_change("value", lambda attr, old, new: self.refresh())
        self.whole.on_click(self.show_whole)

    def _build_map(self) -> None:
        rows, cols = self.view.grid.shape
        high, wide = self.view.pixel_m
        self.map = figure(
            name="map", sizing_mode="stretch_both", toolbar_location=None, tools="", lod_timeout=120,
            x_range=Range1d(0, cols * wide), y_range=Range1d(-rows * high, 0), min_border=0,
            outline_line_color=None, background_fill_color="#e4e8ec",
        )  # fmt: skip
        self.map.axis.visible = False
        self.map.grid.visible = False
        zoom = WheelZoomTool()
        self.map.add_tools(PanTool(), zoom)
        self.map.toolbar.active_scroll = zoom
        self.base, self.piece = (ColumnDataSource(_nothing()) for _ in range(2))
        for source in (self.base, self.piece):
            self.map.image_rgba(
                "image", "x", "y", "dw", "dh", source=source, origin="top_left", anchor="top_left"
            )
        self.map.add_layout(ScaleBar(
            range=self.map.x_range, unit="m", location="bottom_left", bar_length=120, label_text_font=FONT,
            bar_line_width=2, bar_line_color="#1f2933", padding=8, background_fill_color="white",
            background_fill_alpha=0.85, border_line_color=None,
        ))  # fmt: skip
        self.legend = Div(name="legend", disable_math=True)
        self.map.tags = [self._cursor()]
        self.map.on_event(RangesUpdate, lambda _: self.refresh())
        for side in ("inner_width", "inner_height"):
            self.map.on_change(side, lambda attr, old, new: self._fit())

    def _cursor(self) -> list[float]:
        """For ``page.js``: the affine from the map to the cube's coordinates, and their decimals."""
        high, wide = self.view.pixel_m
        a, b, c, d, e, f = tuple(self.view.grid.transform)[:6]
        digits = 5 if CRS.from_wkt(self.view.grid.crs_wkt).is_geographic else 1
        return [a / wide, -b / high, c, d / wide, -e / high, f, digits]

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """(row, column) of a point of the map."""
        high, wide = self.view.pixel_m
        return -y / high, x / wide

    def point(self, row: float, col: float) -> tuple[float, float]:
        """(x, y) on the map of a row and column."""
        high, wide = self.view.pixel_m
        return col * wide, -row * high

    def refresh(self) -> None:
        """Read and show the current request."""
        self.band.visible = self.subject.value in ("band", "sd")
        if self._busy:
            self._again = True
            return
        try:
            subject = self.view.subject(self.subject.value, self.band.value)
        except SpectileError as err:
            self.session.say(str(err))
            return
        self._busy = True
        # None before the page is laid out; then the coarsest level is shown at once.
        side = max(frame_of(self.map))
        wanted = Wanted(subject, self._on_screen(), side, self.stretch.value == "screen")
        self.session.run(self.session.pools.maps, partial(self._make, wanted), self._show, self._settled)

    def _settled(self) -> None:
        again, self._busy, self._again = self._again, False, False
        if again:
            self.refresh()

    def _on_screen(self) -> Window:
        across: Any = self.map.x_range
        down: Any = self.map.y_range
        top, left = map(int, np.floor(self.pixel(across.start, down.end)))
        bottom, right = map(int, np.ceil(self.pixel(across.end, down.start)))
        return Window(top, left, max(bottom - top, 1), max(right - left, 1))

    def _make(self, wanted: Wanted) -> Drawn:
        """Read and colour; in a thread."""
        view, subject = self.view, wanted.subject
        coarsest = view.levels[-1]
        if self._coarse is None or self._coarse[0] != subject:
            self._coarse = subject, view.read(subject, coarsest)
        whole = self._coarse[1]
        level = view.level_for(wanted.window, wanted.side)
        f = level.factor
        at = _pixels(wanted.window, f).intersection(level.grid.window)
        covered = Window(at.row * f, at.col * f, at.height * f, at.width * f)
        if (held := self.drawn) is not None and held.shows(subject, covered, f, wanted.of_screen):
            return replace(held, wanted=wanted)
        values = whole[(slice(None), *at.slices)]
        if level != coarsest:
            values = view.read(subject, level, at) if at.size else whole[:, :0, :0]
        limits = _limits(subject, whole, values if wanted.of_screen else None)
        palette = np.array([_bytes(colour) for colour in _colours(subject)], dtype=np.uint8)
        piece = picture(values, limits, palette) if level != coarsest and at.size else None
        return Drawn(wanted, limits, picture(whole, limits, palette), piece, covered, f)

    def _show(self, drawn: Drawn) -> None:
        before, self.drawn = self.drawn, drawn
        subject = drawn.wanted.subject
        if before is None or (before.wanted.subject, before.limits) != (subject, drawn.limits):
            f = self.view.levels[-1].factor
            rows, cols = drawn.base.shape
            self.base.data = self._placed(drawn.base, Window(0, 0, rows * f, cols * f))
            self.legend.text = "" if subject.is_colour else _legend(subject, drawn.limits)
            self.on_shown(subject)
        self.piece.data = _nothing() if drawn.piece is None else self._placed(drawn.piece, drawn.window)
        self.tell()

    def tell(self) -> None:
        """Write below the map what is shown and at which level."""
        if self.drawn is None:
            return
        told = ["full resolution" if self.drawn.factor == 1 else f"1 : {self.drawn.factor}"]
        subject = self.drawn.wanted.subject
        if subject.is_colour:
            told.append(f"white is a reflectance of {self.drawn.limits[1]:.2f}")
            told += [subject.note] if subject.note else []
        self.session.say(" · ".join(told))

    def _placed(self, image: NDArray[np.uint32], window: Window) -> dict[str, list[Any]]:
        x, y = self.point(window.row, window.col)
        high, wide = self.view.pixel_m
        size = {"dw": [window.width * wide], "dh": [window.height * high]}
        return {"image": [image], "x": [x], "y": [y], **size}

    def show_whole(self) -> None:
        """Show the whole scene."""
        rows, cols = self.view.grid.shape
        right, bottom = self.point(rows, cols)
        keep_square(self.map, right / 2, bottom / 2, right * 1.03, -bottom * 1.03)
        self.refresh()

    def _fit(self) -> None:
        """Keep pixels square when the layout changes; the centre stays, and nothing leaves the screen."""
        x: Any = self.map.x_range
        y: Any = self.map.y_range
        middle = (x.start + x.end) / 2, (y.start + y.end) / 2
        keep_square(self.map, *middle, x.end - x.start, y.end - y.start)
        self.refresh()


def _limits(subject: Subject, whole: Array, screen: Array | None) -> Limits:
    """What the first and the last colour stand for; by what is on the screen unless that is None or empty.

    A colour picture's black is black, and its channels have one white, so that its colours stay true.
    """
    if subject.flags:
        return -0.5, len(subject.flags) + 0.5
    if subject.is_colour:
        if screen is not None and np.isfinite(screen).any():
            return 0.0, replace(subject, white=None).white_of(screen)
        return 0.0, subject.white_of(whole)
    return (None if screen is None else stretch(screen)) or stretch(whole) or (0.0, 1.0)


def _nothing() -> dict[str, list[Any]]:
    return {"image": [], "x": [], "y": [], "dw": [], "dh": []}


def _pixels(window: Window, factor: int) -> Window:
    """The pixels of a level in a window of the cube, with the margin."""
    row, col = window.row // factor, window.col // factor
    high, wide = -(-window.row_stop // factor) - row, -(-window.col_stop // factor) - col
    down, right = round(MARGIN * high), round(MARGIN * wide)
    return Window(row - down, col - right, high + 2 * down, wide + 2 * right)


def _colours(subject: Subject) -> tuple[str, ...]:
    if subject.flags:
        return FLAG_COLOURS[: len(subject.flags) + 1]
    if subject.index is not None:
        return tuple(interp_palette(BrBG11[::-1], 256))  # from brown to green: soil to leaves
    return tuple(Viridis256 if subject.array == "reflectance" else Magma256)


def _bytes(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:7])
    return red, green, blue


def _legend(subject: Subject, limits: Limits) -> str:
    """The colour bar as HTML."""
    if subject.flags:
        meanings = ("none", *(name.replace("_", " ") for name, _ in subject.flags))
        lines = "".join(
            f'<div><i style="display:inline-block;width:10px;height:10px;margin-right:7px;'
            f'background:{colour}"></i>{escape(meaning)}</div>'
            for colour, meaning in zip(_colours(subject), meanings, strict=True)
            if meaning != "nodata"
        )
        return f'<div style="{_BOX}">{escape(subject.title)}<div style="margin-top:4px">{lines}</div></div>'
    low, high = limits
    digits = max(0, 1 - int(np.floor(np.log10(high - low))))
    ends = "".join(f"<span>{value:.{digits}f}</span>" for value in (low, (low + high) / 2, high))
    return (
        f'<div style="{_BOX};width:260px">{escape(subject.title)}<div style="height:12px;margin:4px 0 2px;'
        "background:"
        f'linear-gradient(to right, {", ".join(_colours(subject)[::15])})"></div><div style="display:flex;'
        f'justify-content:space-between;font-size:11.5px">{ends}</div></div>'
    )
