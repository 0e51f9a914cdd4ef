"""The page of a cube: a map that is read anew when it is moved, and the spectra of the places clicked.

Reading happens in threads; what comes of it is put into the document afterwards, in one step. Nothing waits for
a piece of the map that is no longer asked for: while one is read, only the last of further wishes is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any, TypeVar

import numpy as np
from bokeh.core.property.descriptors import UnsetValueError
from bokeh.document import Document, without_document_lock
from bokeh.events import DoubleTap, MouseMove, RangesUpdate, Tap
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    ColumnDataSource,
    CustomJS,
    Div,
    HoverTool,
    PanTool,
    PrintfTickFormatter,
    Range1d,
    ScaleBar,
    Select,
    Slider,
    Toggle,
    WheelZoomTool,
)
from bokeh.palettes import BrBG11, Magma256, Viridis256, interp_palette
from bokeh.plotting import figure
from numpy.typing import NDArray
from rasterio.crs import CRS

from catalog.errors import SpectileError
from pipeline.grid import Window
from pipeline.viewing import Array, Limits, Place, Spectrum, Subject, View, picture, stretch, to_csv

LOG = logging.getLogger("spectile")

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#7f3fbf", "#4d4d4d")
"""Of places, told apart also by those who see few colours; they begin anew after the last."""
MARGIN = 0.15
"""The piece that is read reaches beyond the screen by this share of it on each side."""
EMPTY = 0.5
"""Reflectance up to which an empty chart reaches."""
NEAR = 8
"""A click this many pixels of the screen from a corner means that corner."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
Made = TypeVar("Made")


@dataclass(frozen=True)
class Pools:
    """The threads that read, for all pages together."""

    maps: Executor
    """For pieces of maps."""
    spectra: Executor
    """One thread, so that spectra come in the order of the clicks, and wait for no map."""


@dataclass(frozen=True)
class Wanted:
    """What the map is to show."""

    subject: Subject
    """What of the cube."""
    window: Window
    """The cube's pixels that are on the screen."""
    side: int
    """Pixels of the screen along the longer side."""
    of_screen: bool
    """Whether the stretch is that of the screen and not of the whole scene."""


@dataclass(frozen=True)
class Drawn:
    """What the map shows."""

    wanted: Wanted
    """What was asked for."""
    limits: Limits
    """The stretch."""
    base: NDArray[np.uint32]
    """The whole scene, coarse."""
    piece: tuple[NDArray[np.uint32], Window] | None
    """What is on the screen, and its window of the cube; None where the coarse level is fine enough."""
    factor: int
    """The level that is on the screen."""


@dataclass(frozen=True)
class Spot:
    """A place with its spectrum."""

    number: int
    """What it is called on the map."""
    outline: tuple[tuple[float, float], ...]
    """(row, column) of its point, or of the corners of its area."""
    place: Place
    """Where its middle is."""
    spectrum: Spectrum
    """What was read there."""

    @property
    def colour(self) -> str:
        """Of its marker and its curve."""
        return COLOURS[(self.number - 1) % len(COLOURS)]

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{'area' if len(self.outline) > 1 else 'point'} {self.number}"


class CubePage:
    """The models of one document and what happens to them."""

    def __init__(self, document: Document, view: View, pools: Pools) -> None:
        self.document, self.view, self.pools = document, view, pools
        self.spots: list[Spot] = []
        self.drawn: Drawn | None = None
        self._coarse: tuple[Subject, Array] | None = None
        self._shown = view.grid.window
        self._busy = self._again = False
        self._build_controls()
        self._build_map()
        self._build_spectra()
        for model in (
            self.subject, self.band, self.stretch, self.whole, self.map, self.legend, self.status, self.tools,
            self.spectra, self.list,
        ):  # fmt: skip
            document.add_root(model)
        self.refresh()

    # What is on the page.

    def _build_controls(self) -> None:
        view, centres = self.view, self.view.bands.centre_nm
        options = list(view.subjects.items())
        self.subject = Select(name="subject", options=options, value=options[0][0], width=280)
        order = sorted(centres)
        step = float(np.median(np.diff(order))) if len(order) > 1 else 1.0
        self.band = Slider(
            name="band", title="Wavelength", format=PrintfTickFormatter(format="%.0f nm"), start=order[0], end=max(order[-1], order[0] + 1),
            step=round(step, 1) or 1.0, value=order[len(order) // 2], visible=False,
            sizing_mode="stretch_width", bar_color="#0b6e8f",
        )  # fmt: skip
        self.stretch = Select(
            name="stretch", value="scene", width=220,
            options=[("scene", "Stretch: 2–98 % of scene"), ("screen", "Stretch: 2–98 % of view")],
        )  # fmt: skip
        self.whole = Button(name="whole", label="Whole scene", width=100)
        self.draw = Toggle(label="Draw area", width=100)
        self.clear = Button(label="Remove all", width=100, disabled=True)
        self.save = Button(label="Download CSV", width=120, disabled=True)
        self.tools = row(self.draw, self.clear, self.save, name="tools", spacing=8)
        self.hint = Div(
            text="Click the map for a pixel's spectrum; draw an area for its mean. A click into the chart shows "
            "the band there.",
            styles={"color": "#5f6c7b", "padding": "10px 14px"}, sizing_mode="stretch_width",
        )  # fmt: skip
        self.list = column(self.hint, name="list", sizing_mode="stretch_width", spacing=0)
        self.status = Div(name="status", disable_math=True, sizing_mode="stretch_width")
        self.table = ColumnDataSource({"csv": [""]})
        self.save.js_on_click(CustomJS(
            args={"table": self.table, "name": f"{view.storage.name.removesuffix('.zarr')}.spectra.csv"},
            code="""
            const link = document.createElement("a")
            link.href = URL.createObjectURL(new Blob([table.data.csv[0]], {type: "text/csv"}))
            link.download = name
            link.click()
            URL.revokeObjectURL(link.href)
            """,
        ))  # fmt: skip
        self.subject.on_change("value", lambda attr, old, new: self.refresh())
        self.band.on_change("value_throttled", lambda attr, old, new: self.refresh())
        self.stretch.on_change("value", lambda attr, old, new: self.refresh())
        self.whole.on_click(self.show_whole)
        self.clear.on_click(self._remove_all)
        self.draw.on_change("active", lambda attr, old, new: self._drawing())

    def _build_map(self) -> None:
        # Metres from the upper left corner along the grid's own axes: rotated grids are drawn upright.
        rows, cols = self.view.grid.shape
        high, wide = self.view.pixel_m
        self.map = figure(
            name="map", sizing_mode="stretch_both", toolbar_location=None, tools="", lod_timeout=120,
            x_range=Range1d(0, cols * wide), y_range=Range1d(-rows * high, 0), min_border=0,
            outline_line_color=None, background_fill_color="#e4e8ec", output_backend="canvas",
        )  # fmt: skip
        self.map.axis.visible = False
        self.map.grid.visible = False
        self.map.stylesheets = [":host *:focus { outline: none; }"]
        zoom = WheelZoomTool()
        self.map.add_tools(PanTool(), zoom)
        self.map.toolbar.active_scroll = zoom
        empty: dict[str, list[Any]] = {"image": [], "x": [], "y": [], "dw": [], "dh": []}
        self.base, self.piece = ColumnDataSource(dict(empty)), ColumnDataSource(dict(empty))
        for source in (self.base, self.piece):
            self.map.image_rgba(
                "image", "x", "y", "dw", "dh", source=source, origin="top_left", anchor="top_left"
            )
        self.areas = ColumnDataSource({"x": [], "y": [], "colour": []})
        self.map.patches("x", "y", source=self.areas, line_color="colour", fill_color="colour",
                         fill_alpha=0.15, line_width=2)  # fmt: skip
        self.corners = ColumnDataSource({"x": [], "y": []})
        self.map.patch("x", "y", source=self.corners, fill_color="white", fill_alpha=0.25, line_color="white",
                       line_width=2, line_dash=[6, 4])  # fmt: skip
        self.map.scatter("x", "y", source=self.corners, size=9, fill_color="white",
                         line_color="#1f2933")  # fmt: skip
        self.marks = ColumnDataSource({"x": [], "y": [], "colour": [], "text": []})
        self.map.scatter("x", "y", source=self.marks, size=19, fill_color="colour", line_color="white",
                         line_width=1.5)  # fmt: skip
        self.map.text("x", "y", "text", source=self.marks, text_align="center", text_baseline="middle",
                      text_color="white", text_font_size="11px", text_font_style="bold",
                      text_font={"value": FONT})  # fmt: skip
        self.map.add_layout(ScaleBar(
            range=self.map.x_range, unit="m", location="bottom_left", bar_length=120, label_text_font=FONT,
            bar_line_width=2, bar_line_color="#1f2933", padding=8, background_fill_color="white",
            background_fill_alpha=0.85, border_line_color=None,
        ))  # fmt: skip
        self.legend = Div(name="legend", disable_math=True)
        a, b, c, d, e, f = tuple(self.view.grid.transform)[:6]
        digits = 5 if CRS.from_wkt(self.view.grid.crs_wkt).is_geographic else 1
        self.map.js_on_event(MouseMove, CustomJS(
            args={"t": [a / wide, -b / high, c, d / wide, -e / high, f, digits]},
            code="""
            const [a, b, c, d, e, f, digits] = t, at = cb_obj
            document.getElementById("cursor").textContent =
              `x ${(a * at.x + b * at.y + c).toFixed(digits)}  ·  y ${(d * at.x + e * at.y + f).toFixed(digits)}`
            """,
        ))  # fmt: skip
        self.map.on_event(RangesUpdate, lambda _: self.refresh())
        self.map.on_event(Tap, lambda event: self.tapped(event.x, event.y))
        self.map.on_event(DoubleTap, lambda _: self.draw.update(active=False))
        for side in ("inner_width", "inner_height"):
            self.map.on_change(side, lambda attr, old, new: self._fit())

    def _build_spectra(self) -> None:
        centres = self.view.bands.centre_nm
        ends = min(centres), max(max(centres), min(centres) + 1)
        self.spectra = figure(
            name="spectra", sizing_mode="stretch_both", toolbar_location=None, min_border_right=18,
            min_border_top=14, tools="", x_axis_label="Wavelength (nm)", y_axis_label="Estimated reflectance",
            x_range=Range1d(*ends), y_range=Range1d(0, EMPTY), outline_line_color=None,
        )  # fmt: skip
        for axis in self.spectra.axis:
            axis.axis_label_text_font = axis.major_label_text_font = FONT
            axis.axis_label_text_font_style = "normal"
            axis.axis_label_text_font_size, axis.major_label_text_font_size = "13px", "12px"
            axis.axis_line_color = axis.major_tick_line_color = "#9aa5b1"
            axis.minor_tick_line_color = None
        self.spectra.grid.grid_line_color = "#e8ecf0"
        self.shown = ColumnDataSource({"x": [], "colour": []})
        self.spectra.vspan("x", source=self.shown, line_color="colour", line_width=1.5, line_alpha=0.6,
                           line_dash="dotted")  # fmt: skip
        self.bounds = ColumnDataSource({"x": [], "y": [], "colour": []})
        self.spectra.patches("x", "y", source=self.bounds, fill_color="colour", fill_alpha=0.14,
                             line_color=None)  # fmt: skip
        self.curves = ColumnDataSource({"x": [], "y": [], "colour": [], "dash": [], "name": []})
        drawn = self.spectra.multi_line("x", "y", source=self.curves, line_color="colour", line_width=2,
                                        line_dash="dash")  # fmt: skip
        self.spectra.add_tools(HoverTool(
            renderers=[drawn], line_policy="nearest",
            tooltips=[("", "@name"), ("nm", "$x{0}"), ("reflectance", "$y{0.000}")],
        ))  # fmt: skip
        self.spectra.on_event(Tap, lambda event: self._to_band(event.x))

    # The map.

    def refresh(self) -> None:
        """Show what is wanted now."""
        takes_band = self.subject.value in ("band", "sd")
        self.band.visible = takes_band
        self._shown = self._on_screen()
        if self._busy:
            self._again = True
            return
        self._busy = True
        wanted = Wanted(
            self.view.subject(self.subject.value, self.band.value), self._shown, self._side(),
            self.stretch.value == "screen",
        )  # fmt: skip
        self._run(self.pools.maps, partial(self._make, wanted), self._show, self._settled)

    def _settled(self) -> None:
        self._busy, again = False, self._again
        self._again = False
        if again:
            self.refresh()

    def _side(self) -> int:
        return max(frame_of(self.map)) or 900

    def _on_screen(self) -> Window:
        """The cube's pixels that the ranges hold."""
        high, wide = self.view.pixel_m
        x, y = self.map.x_range, self.map.y_range
        top, left = int(np.floor(-y.end / high)), int(np.floor(x.start / wide))  # type: ignore[attr-defined]
        bottom, right = int(np.ceil(-y.start / high)), int(np.ceil(x.end / wide))  # type: ignore[attr-defined]
        return Window(top, left, max(bottom - top, 1), max(right - left, 1))

    def _make(self, wanted: Wanted) -> Drawn:
        """Read and colour; in a thread."""
        view = self.view
        if self._coarse is None or self._coarse[0] != wanted.subject:
            self._coarse = wanted.subject, view.read(wanted.subject, view.levels[-1])
        whole = self._coarse[1]
        level = view.level_for(wanted.window, wanted.side)
        f = level.factor
        down, right = (round(MARGIN * size / f) for size in wanted.window.shape)
        at = wanted.window
        first = Window(at.row // f, at.col // f, -(-at.height // f) + 1, -(-at.width // f) + 1)
        wider = Window(first.row - down, first.col - right, first.height + 2 * down, first.width + 2 * right)
        window = wider.intersection(level.grid.window)
        values = whole[(slice(None), *window.slices)] if level == view.levels[-1] else (
            view.read(wanted.subject, level, window) if window.size else whole[:, :0, :0]
        )  # fmt: skip
        limits = (stretch(values) if wanted.of_screen else None) or stretch(whole) or (0.0, 1.0)
        palette = _palette(wanted.subject)
        piece = None
        if level != view.levels[-1] and window.size:
            piece = picture(values, limits, palette), Window(*(f * n for n in (
                window.row, window.col, window.height, window.width)))  # fmt: skip
        return Drawn(wanted, limits, picture(whole, limits, palette), piece, f)

    def _show(self, drawn: Drawn) -> None:
        before, self.drawn = self.drawn, drawn
        wanted, subject = drawn.wanted, drawn.wanted.subject
        if before is None or (before.wanted.subject, before.limits) != (subject, drawn.limits):
            rows, cols = drawn.base.shape
            factor = self.view.levels[-1].factor
            self.base.data = self._placed(drawn.base, Window(0, 0, rows * factor, cols * factor))
        self.piece.data = (
            self._placed(*drawn.piece) if drawn.piece else {name: [] for name in self.piece.data}
        )
        centres = [self.view.bands.centre_nm[band] for band in subject.bands]
        tints = ["#c62828", "#2e7d32", "#1565c0"] if subject.is_colour else ["#52606d"] * len(centres)
        self.shown.data = {"x": centres, "colour": tints}
        self.legend.text = "" if subject.is_colour else _legend(subject, drawn.limits)
        made = " · ".join(f"{name} {nm:.0f} nm" for name, nm in zip("RGB", centres, strict=False))
        level = "full resolution" if drawn.factor == 1 else f"1 : {drawn.factor}"
        self.say(" · ".join(filter(None, [level, made if subject.is_colour else ""])))

    def _placed(self, image: NDArray[np.uint32], window: Window) -> dict[str, list[Any]]:
        high, wide = self.view.pixel_m
        return {
            "image": [image], "x": [window.col * wide], "y": [-window.row * high],
            "dw": [window.width * wide], "dh": [window.height * high],
        }  # fmt: skip

    def show_whole(self) -> None:
        """Show the whole scene."""
        rows, cols = self.view.grid.shape
        high, wide = self.view.pixel_m
        self._centre(cols * wide / 2, -rows * high / 2, cols * wide * 1.03, rows * high * 1.03)

    def _fit(self) -> None:
        """Keep pixels square when the page is laid out: the middle stays, and all that was on the screen."""
        x, y = self.map.x_range, self.map.y_range
        self._centre((x.start + x.end) / 2, (y.start + y.end) / 2, x.end - x.start, y.end - y.start)  # type: ignore[attr-defined]

    def _centre(self, x: float, y: float, wide: float, high: float) -> None:
        keep_square(self.map, x, y, wide, high)
        self.refresh()

    # Spectra.

    def tapped(self, x: float, y: float) -> None:
        """Take the spectrum of the pixel at a point of the map, or the point as a corner of an area."""
        if self.draw.active:
            self._corner(x, y)
            return
        high, wide = self.view.pixel_m
        row, col = int(np.floor(-y / high)), int(np.floor(x / wide))
        centre = row + 0.5, col + 0.5
        place = self.view.place(*centre)
        self._run(
            self.pools.spectra, partial(self.view.spectrum, row, col), partial(self._add, (centre,), place)
        )

    def _corner(self, x: float, y: float) -> None:
        """Add a corner to the area; one at the first or the last corner ends it."""
        xs, ys = self.corners.data["x"], self.corners.data["y"]
        pixel = (self.map.x_range.end - self.map.x_range.start) / (frame_of(self.map)[0] or 900)  # type: ignore[attr-defined]
        if any(np.hypot(xs[at] - x, ys[at] - y) < NEAR * pixel for at in (0, -1) if xs):
            self.draw.active = len(xs) < 3
            return
        self.corners.data = {"x": [*xs, x], "y": [*ys, y]}

    def _drawing(self) -> None:
        """Begin an area, or take the mean spectrum of the one that was drawn."""
        if self.draw.active:
            self.draw.label = "Finish area"
            self.say("Click the corners of the area; the first one again, or Finish area, ends it")
            return
        self.draw.label = "Draw area"
        high, wide = self.view.pixel_m
        cols, rows = np.asarray(self.corners.data["x"]) / wide, -np.asarray(self.corners.data["y"]) / high
        self.corners.data = {"x": [], "y": []}
        self.say("")
        if len(rows) < 3:
            return
        ring = tuple(zip(rows.tolist(), cols.tolist(), strict=True))
        place = self.view.place(float(rows.mean()), float(cols.mean()))
        self._run(self.pools.spectra, partial(self.view.area, ring), partial(self._add, ring, place))

    def _add(self, outline: tuple[tuple[float, float], ...], place: Place, spectrum: Spectrum) -> None:
        number = next(
            n for n in range(1, len(self.spots) + 2) if n not in {spot.number for spot in self.spots}
        )
        self.spots.append(Spot(number, outline, place, spectrum))
        self._list()

    def _remove(self, spot: Spot) -> None:
        self.spots.remove(spot)
        self._list()

    def _remove_all(self) -> None:
        self.spots.clear()
        self._list()

    def _to_band(self, wavelength_nm: float) -> None:
        """Show the band at a wavelength of the chart."""
        self.band.value = self.view.bands.centre_nm[self.view.bands.nearest(wavelength_nm)]
        if self.subject.value not in ("band", "sd"):
            self.subject.value = "band"
        else:
            self.refresh()

    def _list(self) -> None:
        """Show the spots that there are on the map, in the chart, in the list and in the table."""
        high, wide = self.view.pixel_m
        centres = np.asarray(self.view.bands.centre_nm)
        areas = [spot for spot in self.spots if len(spot.outline) > 1]
        middles = [np.mean(spot.outline, axis=0) for spot in self.spots]
        self.marks.data = {
            "x": [middle[1] * wide for middle in middles], "y": [-middle[0] * high for middle in middles],
            "colour": [spot.colour for spot in self.spots], "text": [str(spot.number) for spot in self.spots],
        }  # fmt: skip
        self.areas.data = {
            "x": [[col * wide for _, col in spot.outline] for spot in areas],
            "y": [[-row * high for row, _ in spot.outline] for spot in areas],
            "colour": [spot.colour for spot in areas],
        }  # fmt: skip
        self.curves.data = {
            "x": [centres for _ in self.spots], "y": [spot.spectrum.reflectance for spot in self.spots],
            "colour": [spot.colour for spot in self.spots], "name": [spot.name for spot in self.spots],
            "dash": ["dashed" if len(spot.outline) > 1 else "solid" for spot in self.spots],
        }  # fmt: skip
        bounds = [(spot, bounds) for spot in self.spots if (bounds := spot.spectrum.interval)]
        self.bounds.data = {
            "x": [np.concatenate([centres, centres[::-1]]) for _ in bounds],
            "y": [np.concatenate([low, high[::-1]]) for _, (low, high) in bounds],
            "colour": [spot.colour for spot, _ in bounds],
        }  # fmt: skip
        tops = [float(np.nanmax(each)) for each in (*self.curves.data["y"], *self.bounds.data["y"])]
        self.spectra.y_range.update(end=1.05 * max(tops) if tops else EMPTY)
        self.list.children = [self._entry(spot) for spot in self.spots] or [self.hint]
        self.clear.disabled = self.save.disabled = not self.spots
        named = [(spot.name, spot.place, spot.spectrum) for spot in self.spots]
        self.table.data = {"csv": [to_csv(named, self.view.bands)]}

    def _entry(self, spot: Spot) -> Any:
        x, y, lon, lat = spot.place
        digits = 6 if CRS.from_wkt(self.view.grid.crs_wkt).is_geographic else 2
        lines = [f"x {x:.{digits}f} · y {y:.{digits}f}"]
        if np.isfinite([lon, lat]).all():
            lines.append(
                f"{abs(lat):.6f}° {'N' if lat >= 0 else 'S'} · {abs(lon):.6f}° {'E' if lon >= 0 else 'W'}"
            )
        spectrum = spot.spectrum
        if len(spot.outline) > 1:
            of = f" of 1 : {spectrum.factor}" if spectrum.factor > 1 else ""
            lines.append(f"mean of {spectrum.pixels:,} pixels{of}, band ± sd of the pixels")
        text = "<br>".join(map(escape, lines))
        shown = Div(
            text=f'<div style="display:flex;gap:10px;align-items:flex-start;padding:7px 0 7px 12px">'
            f'<b style="background:{spot.colour};color:#fff;border-radius:10px;min-width:20px;height:20px;'
            f'line-height:20px;text-align:center;font-size:11px">{spot.number}</b><div style="font-size:12.5px;'
            f'color:#5f6c7b;font-variant-numeric:tabular-nums"><span style="color:#1f2933;font-weight:600">'
            f"{spot.name.capitalize()}</span><br>{text}</div></div>",
            disable_math=True, sizing_mode="stretch_width",
        )  # fmt: skip
        remove = Button(label="✕", width=34, align="center", name=f"remove {spot.number}")
        remove.on_click(partial(self._remove, spot))
        return row(shown, remove, sizing_mode="stretch_width")

    def say(self, text: str) -> None:
        """Put a line below the map."""
        self.status.text = escape(text)

    def _run(
        self,
        pool: Executor,
        work: Callable[[], Made],
        done: Callable[[Made], None],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Work in a thread, and then, with the document locked, use what came of it."""

        @without_document_lock
        async def task() -> None:
            def finish() -> None:
                if result is not None:
                    done(result)
                else:
                    self.say(told)
                after()

            result, told = None, ""
            try:
                result = await asyncio.get_running_loop().run_in_executor(pool, work)
            except (SpectileError, OSError) as err:
                told = str(err)
            self.document.add_next_tick_callback(finish)

        self.document.add_next_tick_callback(task)


def frame_of(drawn: Any) -> tuple[int, int]:
    """Width and height of a figure's frame on the screen, px; nothing before a browser has laid it out."""
    try:
        return drawn.inner_width or 0, drawn.inner_height or 0
    except UnsetValueError:
        return 0, 0


def keep_square(drawn: Any, x: float, y: float, wide: float, high: float) -> None:
    """Show a rectangle about a point on a figure, and as much more as keeps its units as long as they are high."""
    across, down = frame_of(drawn)
    if across and down:
        scale = max(wide / across, high / down)
        wide, high = scale * across, scale * down
    drawn.x_range.update(start=x - wide / 2, end=x + wide / 2)
    drawn.y_range.update(start=y - high / 2, end=y + high / 2)


def _colours(subject: Subject) -> tuple[str, ...]:
    if subject.index is not None:
        return tuple(interp_palette(BrBG11[::-1], 256))  # from brown to green, as of land and leaves
    return tuple(Magma256 if subject.array != "reflectance" else Viridis256)


def _legend(subject: Subject, limits: Limits) -> str:
    """The colour bar as HTML."""
    low, high = limits
    digits = max(0, 2 - int(np.floor(np.log10(high - low))))
    stops = ", ".join(_colours(subject)[::15])
    ends = "".join(f"<span>{value:.{digits}f}</span>" for value in (low, (low + high) / 2, high))
    return (
        f'<div style="background:rgba(255,255,255,.85);padding:7px 10px;width:260px;font-size:12px;color:#1f2933">'
        f'{escape(subject.title)}<div style="height:12px;margin:4px 0 2px;background:linear-gradient(to right, '
        f'{stops})"></div><div style="display:flex;justify-content:space-between;font-size:11.5px">{ends}</div></div>'
    )


def _palette(subject: Subject) -> NDArray[np.uint8]:
    return np.array(
        [[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in _colours(subject)], np.uint8
    )
