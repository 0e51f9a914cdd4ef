"""The server of ``spectile view``: on loopback, for one cube or the cubes of one catalog."""

from __future__ import annotations

import logging
import signal
import socket
import webbrowser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html import escape
from pathlib import Path

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.models import Div
from bokeh.server.server import BaseServer
from rasterio.crs import CRS
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.sizes import width_by_height
from spectile.catalog.stac.index import Query
from spectile.catalog.stac.items import COLLECTION_FILE
from spectile.flows.view.catalog import CatalogPage
from spectile.flows.view.guard import NAMES, SCRIPTS, GuardedApplication
from spectile.flows.view.session import Pools, Session
from spectile.flows.view.spectra import SpectraPane
from spectile.pipeline.cube.arrays import readable
from spectile.pipeline.product.report_pair import quality_of
from spectile.pipeline.product.view import View, open_view
from spectile.pipeline.stac.collection import Collection
from spectile.pipeline.store.opening import open_storage

LOG = logging.getLogger("spectile")

ADDRESS = NAMES[0]
WARNING = (
    "Synthetic estimate: three colours do not determine a spectrum. Not for identifying materials, detecting "
    "targets, measuring or calibrating."
)
WARNING_OF_PAIRS = (
    "Fused of two scenes: what is finer than a pixel of the hyperspectral one is inferred from the few bands "
    "of the other. Not for identifying materials, detecting targets, measuring or calibrating."
)
THREADS = 4
"""Pieces of maps that are read at the same time, over all pages."""
MOST_OPEN = 4
"""Cubes that stay open."""
_HERE = Path(__file__).parent


def make_server(place: str, port: int) -> BaseServer:
    """The server for a cube or a catalog. Opens the place at once; answers requests when its loop runs.

    Parameters
    ----------
    port : 0 takes a free one.

    Raises
    ------
    CubeError, UsageError : there is neither a cube nor a catalog, or the port is in use.
    StoreError : the place cannot be read.
    """
    storage = open_storage(place)
    cubes = _Cubes()
    if storage.get(COLLECTION_FILE) is not None:
        collection = Collection(storage)
        collection.search(Query())
        show = partial(_catalog_or_cube, collection=collection, cubes=cubes)
        return _listening(partial(_told, show=show, back=True), port)
    cubes.open(place)
    return _listening(partial(_told, show=partial(_cube, place=place, cubes=cubes)), port)


def serve(place: str, port: int, *, browser: bool) -> None:
    """Serve the page until Ctrl-C or SIGTERM; ``browser`` opens it. Raises as ``make_server``."""
    server = make_server(place, port)
    url = f"http://{ADDRESS}:{server.port}/"
    LOG.info("%s is shown at %s; Ctrl-C ends it", place, url)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.io_loop.add_callback_from_signal(server.io_loop.stop))
    server.start()
    if browser:
        server.io_loop.add_callback(webbrowser.open, url)
    server.io_loop.start()
    server.stop()


class _Cubes:
    """The open cubes, and the threads that read them."""

    def __init__(self) -> None:
        self.pools = Pools(ThreadPoolExecutor(THREADS), ThreadPoolExecutor(1))
        self._open: dict[str, View] = {}

    def open(self, place: str) -> View:
        """The cube at a place; one that is open and has not changed is not read again."""
        held = self._open.pop(place, None)
        view = open_view(place)
        if held is not None and held.complete and held.facts == view.facts:
            view = held  # keeps what it has read already
        self._open[place] = view
        self.pools.spectra.submit(view.place, 0.5, 0.5)  # PROJ's first transformation is slow
        while len(self._open) > MOST_OPEN:
            self._open.pop(next(iter(self._open)))
        return view


def _cube(document: Document, *, place: str, cubes: _Cubes, back: bool = False) -> None:
    view = cubes.open(place)
    session = Session(document, cubes.pools)
    spectra = SpectraPane(session, view)
    with document.models.freeze():  # otherwise Bokeh scans all models for each addition
        for model in (*spectra.map.roots, *spectra.roots, session.status):
            document.add_root(model)
    spectra.map.refresh()
    settings = view.facts["plan"]["settings"]
    warning = WARNING_OF_PAIRS if isinstance(settings, dict) and settings.get("pair") else WARNING
    _frame(document, view.storage.name, _facts(view), chart=True, back=back, warning=warning)


def _catalog_or_cube(document: Document, *, collection: Collection, cubes: _Cubes) -> None:
    """The catalog, or with ``?id=`` the cube of one of its items; no other cube can be opened."""
    asked = document.session_context.request.arguments.get("id")
    if asked:
        _cube(document, place=collection.cube(asked[0].decode()), cubes=cubes, back=True)
        return
    with readable(collection.storage, "catalog"):
        page = CatalogPage(document, collection)
    _frame(document, collection.storage.name, page.said, chart=False)


def _told(document: Document, *, show: Callable[[Document], None], back: bool = False) -> None:
    """The page, or a page with the error."""
    try:
        show(document)
    except (SpectileError, OSError, UnicodeDecodeError) as err:
        document.clear()
        for name in ("map", "list", "status"):
            text = escape(str(err)) if name == "status" else ""
            document.add_root(Div(name=name, text=text, disable_math=True))
        _frame(document, "Cannot be shown", str(err), chart=False, back=back)


def _facts(view: View) -> str:
    crs = CRS.from_wkt(view.grid.crs_wkt)
    authority = crs.to_authority()
    centres = view.bands.centre_nm
    high, wide = view.pixel_m
    size = f"{wide:.3g} m" if abs(high - wide) < 0.01 * wide else f"{wide:.3g} × {high:.3g} m"
    plan = view.facts["plan"]
    settings = plan["settings"]
    model = settings.get("model") if isinstance(settings, dict) else None
    parts = [
        "" if view.complete else "not finished",
        f"{width_by_height(view.grid.shape)} of {size}",
        ":".join(authority) if authority else crs.to_dict().get("proj", "own CRS"),
        f"{len(centres)} bands, {min(centres):.0f}–{max(centres):.0f} nm",
        str(model.get("name", "")) if isinstance(model, dict) else "",
        f"{plan['samples']} samples" if plan["samples"] > 1 else "",
        *quality_of(settings),
    ]
    return " · ".join(filter(None, parts))


def _frame(
    document: Document,
    heading: str,
    facts: str,
    *,
    chart: bool,
    back: bool = False,
    warning: str = WARNING,
) -> None:
    """Put a document's models into the page; ``chart`` is True if there are spectra among them."""
    document.title = heading
    document.template = (_HERE / "page.html").read_text(encoding="utf-8")
    document.template_variables.update(
        heading=heading, facts=facts, scripts=SCRIPTS, warning=warning, chart=chart, back=back
    )


def _listening(page: Callable[[Document], None], port: int) -> BaseServer:
    try:
        listening = socket.create_server((ADDRESS, port))
    except OSError as err:
        raise UsageError(
            "the port cannot be used", got=f"--port {port}, {err.strerror}",
            remedy="use another, or --port 0 for a free one",
        ) from err  # fmt: skip
    listening.setblocking(False)
    application = GuardedApplication(Application(FunctionHandler(page)), listening.getsockname()[1])
    server = HTTPServer(application)
    server.add_sockets([listening])
    return BaseServer(IOLoop.current(), application, server)
