"""``spectile view``: look at a cube or a catalog in the browser."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spectile.catalog.errors import UsageError
from spectile.flows.commands.root import app, in_lines


@app.command()
def view(
    place: Annotated[
        str,
        typer.Argument(metavar="CUBE|CATALOG", help="A cube, finished or not, or a catalog; a path or URL."),
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port on loopback; 0 takes a free one.")
    ] = 5006,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Open no browser, only print the address.")
    ] = False,
) -> None:
    """Look at a cube in the browser: maps, spectra of points and areas. Only this machine can reach it."""
    in_lines()
    try:
        import bokeh  # noqa: F401
    except ImportError as err:
        raise UsageError(
            "the page needs the extra view", remedy=f"{sys.executable} -m pip install 'bokeh>=3.8,<4'"
        ) from err
    from spectile.flows.view.page import serve

    serve(place, port, browser=not no_browser)
