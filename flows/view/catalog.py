"""The page of a catalog: a map and a list of its cubes, with a link to each."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np
import shapely
from bokeh.document import Document
from bokeh.events import Tap
from bokeh.models import (
    ColumnDataSource,
    Div,
    HoverTool,
    MercatorTicker,
    MercatorTickFormatter,
    PanTool,
    Range1d,
    WheelZoomTool,
)
from bokeh.plotting import figure

from spectile.catalog.stac.index import Query, newest
from spectile.catalog.times import when
from spectile.flows.view.session import AXIS, keep_square, pixel_of
from spectile.pipeline.geometry.placing import transform_points
from spectile.pipeline.stac.collection import Collection

MOST = 1000
"""Most cubes on the page; if there are more, the last written ones are shown."""
NEAR = 12
"""A click within this many pixels of a footprint's centre selects it, so that small ones can be hit."""
_WORLD = (-180.0, -85.0, 180.0, 85.0)
_MERCATOR = "EPSG:3857"


class CatalogPage:
    """The models of one document and their events."""

    def __init__(self, document: Document, collection: Collection) -> None:
        found = collection.search(Query(), geometry=True)
        self.rows = newest(found, MOST).to_pylist()
        self.said = f"{found.num_rows:,} cubes"
        if found.num_rows > len(self.rows):
            self.said += f", the {len(self.rows):,} last written are shown"
        box = shapely.box(*_WORLD)
        cut = [shapely.intersection(shapely.from_wkb(row["geometry"]), box) for row in self.rows]
        # By row: an item without a footprint, or with one beyond the map, is in the list alone.
        self.shapes = {
            at: shapely.transform(shape, _project)
            for at, shape in enumerate(cut)
            if shape is not None and not shape.is_empty
        }
        self.map = self._build_map()
        self.open = ColumnDataSource({"href": [""]}, name="open")  # page.js opens this address
        entries = "".join(self._entry(at) for at in range(len(self.rows)))
        self.list = Div(
            name="list", disable_math=True, sizing_mode="stretch_both", styles={"overflow-y": "auto"},
            text=entries or "<p style='padding:12px'>No cubes yet; spectile catalog add adds some.</p>",
        )  # fmt: skip
        self.status = Div(
            name="status",
            tags=[self.open],
            text="Click a footprint to open its cube",
            sizing_mode="stretch_width",
        )
        for model in (self.map, self.list, self.status):
            document.add_root(model)

    def _build_map(self) -> Any:
        parts = [(at, part) for at, shape in self.shapes.items() for part in shapely.get_parts(shape)]
        everywhere = (-2e7, -1e7, 2e7, 1e7)
        left, bottom, right, top = shapely.total_bounds([*self.shapes.values()]) if parts else everywhere
        wide, high = max(right - left, 200.0) * 1.2, max(top - bottom, 200.0) * 1.2
        x, y = (left + right) / 2, (bottom + top) / 2
        drawn = figure(
            name="map", sizing_mode="stretch_both", toolbar_location=None, tools="", outline_line_color=None,
            x_range=Range1d(x - wide / 2, x + wide / 2), y_range=Range1d(y - high / 2, y + high / 2),
            background_fill_color="#eef2f5", min_border_right=16, min_border_top=12,
        )  # fmt: skip
        for axis, dimension, label in zip(drawn.axis, ("lon", "lat"), ("Longitude", "Latitude"), strict=True):
            axis.update(ticker=MercatorTicker(dimension=dimension), axis_label=f"{label} (°)",
                        formatter=MercatorTickFormatter(dimension=dimension), **AXIS)  # fmt: skip
        drawn.grid.grid_line_color = "#d7dee5"
        zoom = WheelZoomTool()
        drawn.add_tools(PanTool(), zoom)
        drawn.toolbar.active_scroll = zoom
        rings = [np.asarray(part.exterior.coords) for _, part in parts]
        source = ColumnDataSource({
            "x": [ring[:, 0] for ring in rings], "y": [ring[:, 1] for ring in rings],
            "colour": [_colour(self.rows[at]) for at, _ in parts],
            "name": [str(self.rows[at]["title"]) for at, _ in parts],
            "told": [_told(self.rows[at]) for at, _ in parts],
        })  # fmt: skip
        shown = drawn.patches("x", "y", source=source, line_width=1.5, line_color="colour",
                              fill_color="colour", fill_alpha=0.25)  # fmt: skip
        middles = [shapely.centroid(shape) for shape in self.shapes.values()]
        drawn.scatter([p.x for p in middles], [p.y for p in middles], size=7, line_color="white",
                      fill_color=[_colour(self.rows[at]) for at in self.shapes])  # fmt: skip
        drawn.add_tools(HoverTool(renderers=[shown], tooltips=[("", "@name"), ("", "@told")]))
        drawn.on_event(Tap, lambda event: self.tapped(event.x, event.y))
        for side in ("inner_width", "inner_height"):
            drawn.on_change(side, lambda attr, old, new: keep_square(drawn, x, y, wide, high))
        return drawn

    def tapped(self, x: float, y: float) -> None:
        """Open the cube of the smallest footprint at a point, or of the nearest centre."""
        point = shapely.Point(x, y)
        hit = [at for at, shape in self.shapes.items() if shapely.intersects(shape, point)]
        if hit:
            self._open(min(hit, key=lambda at: float(shapely.area(self.shapes[at]))))
            return
        away = {at: shapely.distance(shapely.centroid(shape), point) for at, shape in self.shapes.items()}
        if away and min(away.values()) <= NEAR * pixel_of(self.map):
            self._open(min(away, key=away.__getitem__))

    def _open(self, at: int) -> None:
        self.open.data = {"href": [_query(self.rows[at])]}

    def _entry(self, at: int) -> str:
        row = self.rows[at]
        told = _told(row) + ("" if at in self.shapes else " · not on the map")
        return (
            f'<a href="?{escape(_query(row))}" style="display:flex;gap:10px;padding:9px 14px;'
            'color:#1f2933;border-bottom:1px solid #dde3ea;text-decoration:none"><i style="flex:none;'
            f'width:10px;height:10px;margin-top:5px;border-radius:5px;background:{_colour(row)}"></i><span><b>'
            f'{escape(str(row["title"]))}</b><br><span style="color:#5f6c7b;font-size:12.5px">'
            f"{escape(told)}</span></span></a>"
        )


def _query(row: dict[str, Any]) -> str:
    return f"id={quote(row['id'], safe='')}"


def _colour(row: dict[str, Any]) -> str:
    return "#0b6e8f" if row["spectile:status"] == "complete" else "#b7791f"


def _told(row: dict[str, Any]) -> str:
    taken = when(row["datetime"], row["start_datetime"], row["end_datetime"])
    low, high = row["spectile:wavelength_min"], row["spectile:wavelength_max"]
    parts = [
        f"taken {taken}" if taken != "unknown" else "",
        f"{row['spectile:bands']} bands, {low:.0f}–{high:.0f} nm",
        str(row["spectile:model"]), "" if row["spectile:status"] == "complete" else "not finished",
    ]  # fmt: skip
    return " · ".join(filter(None, parts))


def _project(points: Any) -> Any:
    return np.column_stack(transform_points(points[:, 0], points[:, 1], "OGC:CRS84", _MERCATOR))
