"""The spectra of a cube's page: of clicked points and of drawn areas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import numpy as np
from bokeh.events import DoubleTap, Tap
from bokeh.layouts import column, row
from bokeh.models import Button, ColumnDataSource, Div, HoverTool, Range1d, Toggle
from bokeh.plotting import figure
from rasterio.crs import CRS

from spectile.flows.view.map import MapPane
from spectile.flows.view.session import AXIS, FONT, Session, pixel_of
from spectile.pipeline.product.view import Place, Spectrum, Subject, View, to_csv

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#7f3fbf", "#4d4d4d")
"""Colours of places, also distinct for colour-blind people; they repeat after the last."""
EMPTY = 0.5
"""Upper end of an empty chart, reflectance."""
NEAR = 8
"""A click within this many screen pixels of a corner selects it."""

Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Spot:
    """A place with its spectrum."""

    number: int
    """Its label on the map."""
    outline: Outline
    """(row, column) of the point, or of the area's corners."""
    place: Place
    """The coordinates of its centre."""
    spectrum: Spectrum
    """The spectrum of the place."""

    @property
    def is_area(self) -> bool:
        """Whether it has more than one pixel."""
        return len(self.outline) > 1

    @property
    def colour(self) -> str:
        """The colour of its marker and its curve."""
        return COLOURS[(self.number - 1) % len(COLOURS)]

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{'area' if self.is_area else 'point'} {self.number}"


class SpectraPane:
    """The chart, the list of places and their marks on the map."""

    def __init__(self, session: Session, view: View) -> None:
        self.session, self.view = session, view
        self.map = MapPane(session, view, on_shown=self._mark_bands)
        self.spots: list[Spot] = []
        self._entries: dict[int, Any] = {}
        self._build_tools()
        self._build_chart()
        self._build_marks()

    @property
    def roots(self) -> tuple[Any, ...]:
        """The models that the page places."""
        return self.tools, self.chart, self.list

    def _build_tools(self) -> None:
        self.draw = Toggle(label="Draw area", width=100)
        self.clear = Button(label="Remove all", width=100, disabled=True)
        self.save = Button(name="save", label="Download CSV", width=120, disabled=True)
        self.tools = row(self.draw, self.clear, self.save, name="tools", spacing=8)
        self.hint = Div(
            text="Click the map for a pixel's spectrum, draw an area for its mean. "
            "A click into the chart shows the band there.",
            styles={"color": "#5f6c7b", "padding": "10px 14px"}, sizing_mode="stretch_width",
        )  # fmt: skip
        self.list = column(self.hint, name="list", sizing_mode="stretch_width", spacing=0)
        self.table = ColumnDataSource({"csv": [""]})
        name = f"{self.view.storage.name.removesuffix('.zarr')}.spectra.csv"
        self.save.tags = [name, self.table]  # for page.js
        self.clear.on_click(partial(self._keep, ()))
        self.draw.on_change("active", lambda attr, old, new: self._drawing())

    def _build_chart(self) -> None:
        centres = self.view.bands.centre_nm
        self.chart = figure(
            name="chart", sizing_mode="stretch_both", toolbar_location=None, min_border_right=18,
            min_border_top=14, tools="", x_axis_label="Wavelength (nm)", y_axis_label="Estimated reflectance",
            x_range=Range1d(min(centres), max(max(centres), min(centres) + 1)), y_range=Range1d(0, EMPTY),
            outline_line_color=None,
        )  # fmt: skip
        for axis in self.chart.axis:
            axis.update(**AXIS)
        self.chart.grid.grid_line_color = "#e8ecf0"
        self.shown = ColumnDataSource({"x": [], "colour": []})
        self.chart.vspan("x", source=self.shown, line_color="colour", line_width=1.5, line_alpha=0.6,
                         line_dash="dotted")  # fmt: skip
        self.bounds = ColumnDataSource({"x": [], "y": [], "colour": []})
        self.chart.patches("x", "y", source=self.bounds, fill_color="colour", fill_alpha=0.14,
                           line_color=None)  # fmt: skip
        self.curves = ColumnDataSource({"x": [], "y": [], "colour": [], "dash": [], "name": []})
        curves = self.chart.multi_line("x", "y", source=self.curves, line_color="colour", line_width=2,
                                       line_dash="dash")  # fmt: skip
        self.chart.add_tools(HoverTool(
            renderers=[curves], line_policy="nearest",
            tooltips=[("", "@name"), ("nm", "$x{0}"), ("reflectance", "$y{0.000}")],
        ))  # fmt: skip
        self.chart.on_event(Tap, lambda event: self._show_band(event.x))

    def _build_marks(self) -> None:
        drawn = self.map.map
        self.areas = ColumnDataSource({"x": [], "y": [], "colour": []})
        drawn.patches("x", "y", source=self.areas, line_color="white", fill_color=None, line_width=5)
        drawn.patches("x", "y", source=self.areas, line_color="colour", fill_color="colour", fill_alpha=0.15,
                      line_width=2)  # fmt: skip
        self.corners = ColumnDataSource({"x": [], "y": []})
        drawn.patch("x", "y", source=self.corners, fill_color="white", fill_alpha=0.25, line_color="white",
                    line_width=2, line_dash=[6, 4])  # fmt: skip
        drawn.scatter("x", "y", source=self.corners, size=9, fill_color="white", line_color="#1f2933")
        self.marks = ColumnDataSource({"x": [], "y": [], "colour": [], "text": []})
        drawn.scatter("x", "y", source=self.marks, size=19, fill_color="colour", line_color="white",
                      line_width=1.5)  # fmt: skip
        drawn.text("x", "y", "text", source=self.marks, text_align="center", text_baseline="middle",
                   text_color="white", text_font_size="11px", text_font_style="bold",
                   text_font={"value": FONT})  # fmt: skip
        # The second of two fast clicks comes as a DoubleTap only.
        for click in (Tap, DoubleTap):
            drawn.on_event(click, lambda event: self._tapped(event.x, event.y))

    def _tapped(self, x: float, y: float) -> None:
        """Read the spectrum of the pixel at a point of the map, or add the point as a corner of an area."""
        if self.draw.active:
            self._corner(x, y)
            return
        at, col = (int(np.floor(number)) for number in self.map.pixel(x, y))
        centre = at + 0.5, col + 0.5
        take = partial(self._add, (centre,), self.view.place(*centre))
        self.session.run(self.session.pools.spectra, partial(self.view.spectrum, at, col), take)

    def _corner(self, x: float, y: float) -> None:
        """Add a corner to the area; one at the first or the last corner ends it."""
        xs, ys = self.corners.data["x"], self.corners.data["y"]
        near = NEAR * pixel_of(self.map.map)
        if xs and min(np.hypot(xs[at] - x, ys[at] - y) for at in (0, -1)) < near:
            self.draw.active = len(xs) < 3
            return
        self.corners.data = {"x": [*xs, x], "y": [*ys, y]}

    def _drawing(self) -> None:
        """Begin an area, or read the mean spectrum of the finished one."""
        if self.draw.active:
            self.draw.label = "Finish area"
            self.session.say("Click the corners of the area; the first one again, or Finish area, ends it")
            return
        self.draw.label = "Draw area"
        self.map.tell()
        corners = zip(self.corners.data["x"], self.corners.data["y"], strict=True)
        ring = tuple(self.map.pixel(x, y) for x, y in corners)
        self.corners.data = {"x": [], "y": []}
        if len(ring) > 2:
            take = partial(self._add, ring, self.view.place(*_middle(ring)))
            self.session.run(self.session.pools.spectra, partial(self.view.area, ring), take)

    def _add(self, outline: Outline, place: Place, spectrum: Spectrum) -> None:
        if outline in [spot.outline for spot in self.spots]:
            return
        taken = {spot.number for spot in self.spots}
        number = min(set(range(1, len(taken) + 2)) - taken)
        self._keep((*self.spots, Spot(number, outline, place, spectrum)))

    def _remove(self, spot: Spot) -> None:
        self._keep(tuple(each for each in self.spots if each is not spot))

    def _mark_bands(self, subject: Subject) -> None:
        """Mark in the chart what the map shows."""
        tints = ["#c62828", "#2e7d32", "#1565c0"] if subject.is_colour else ["#52606d"] * len(subject.marked)
        self.shown.data = {"x": [self.view.bands.centre_nm[at] for at in subject.marked], "colour": tints}

    def _show_band(self, wavelength_nm: float) -> None:
        """Show on the map the band at a wavelength of the chart."""
        self.map.band.value = self.view.bands.centre_nm[self.view.bands.nearest(wavelength_nm)]
        if self.map.subject.value not in ("band", "sd"):
            self.map.subject.value = "band"
        self.map.refresh()

    def _keep(self, spots: tuple[Spot, ...]) -> None:
        """Show these places on the map, in the chart, in the list and in the table."""
        self.spots = list(spots)
        colours = [spot.colour for spot in spots]
        places = [self.map.point(*_middle(spot.outline)) for spot in spots]
        self.marks.data = {
            "x": [x for x, _ in places], "y": [y for _, y in places], "colour": colours,
            "text": [str(spot.number) for spot in spots],
        }  # fmt: skip
        rings = [
            (spot, [self.map.point(*corner) for corner in spot.outline]) for spot in spots if spot.is_area
        ]
        self.areas.data = {
            "x": [[x for x, _ in ring] for _, ring in rings],
            "y": [[y for _, y in ring] for _, ring in rings], "colour": [spot.colour for spot, _ in rings],
        }  # fmt: skip
        centres = np.asarray(self.view.bands.centre_nm)
        self.curves.data = {
            "x": [centres] * len(spots), "y": [spot.spectrum.reflectance for spot in spots],
            "colour": colours, "name": [spot.name for spot in spots],
            "dash": ["dashed" if spot.is_area else "solid" for spot in spots],
        }  # fmt: skip
        bounded = [(spot, interval) for spot in spots if (interval := spot.spectrum.interval)]
        self.bounds.data = {
            "x": [np.concatenate([centres, centres[::-1]])] * len(bounded),
            "y": [np.concatenate([low, high[::-1]]) for _, (low, high) in bounded],
            "colour": [spot.colour for spot, _ in bounded],
        }  # fmt: skip
        tops = [float(np.nanmax(y)) for y in (*self.curves.data["y"], *(high for _, (_, high) in bounded))]
        self.chart.y_range.update(end=1.05 * max(tops, default=EMPTY / 1.05))
        # Places that stay keep their elements in the browser.
        before = self._entries
        self._entries = {spot.number: before.get(spot.number) or self._entry(spot) for spot in spots}
        self.list.children = [*self._entries.values()] or [self.hint]
        self.clear.disabled = self.save.disabled = not spots
        named = [(spot.name, spot.place, spot.spectrum) for spot in spots]
        self.table.data = {"csv": [to_csv(named, self.view.bands)]}

    def _entry(self, spot: Spot) -> Any:
        x, y, lon, lat = spot.place
        digits = 6 if CRS.from_wkt(self.view.grid.crs_wkt).is_geographic else 2
        lines = [f"x {x:.{digits}f} · y {y:.{digits}f}"]
        if np.isfinite([lon, lat]).all():
            north, east = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
            lines.append(f"{abs(lat):.6f}° {north} · {abs(lon):.6f}° {east}")
        if spot.is_area:
            of = f" of level 1 : {spot.spectrum.factor}" if spot.spectrum.factor > 1 else ""
            lines.append(f"mean of {spot.spectrum.pixels:,} pixels{of}, ± their sd")
        text = "<br>".join(map(escape, lines))
        shown = Div(
            text='<div style="display:flex;gap:10px;padding:6px 0 6px 12px;font-size:12.5px;color:#5f6c7b;'
            f'font-variant-numeric:tabular-nums"><b style="background:{spot.colour};color:#fff;flex:none;'
            "width:20px;height:20px;border-radius:10px;line-height:20px;text-align:center;font-size:11px"
            f'">{spot.number}</b><div><b style="color:#1f2933">{spot.name.capitalize()}</b><br>{text}'
            "</div></div>",
            disable_math=True, sizing_mode="stretch_width",
        )  # fmt: skip
        remove = Button(
            label="✕", width=34, align="center", margin=(5, 14, 5, 5), name=f"remove {spot.number}"
        )
        remove.on_click(partial(self._remove, spot))
        return row(shown, remove, sizing_mode="stretch_width")


def _middle(outline: Outline) -> tuple[float, float]:
    at, col = np.mean(outline, axis=0)
    return float(at), float(col)
