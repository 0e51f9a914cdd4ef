"""``spectile report``: what a cube holds and how it was made, as one HTML file."""

from __future__ import annotations

from typing import Annotated

import typer

from spectile.catalog.errors import UsageError
from spectile.catalog.urls import locate, nested
from spectile.flows.commands.root import app
from spectile.flows.console import console


@app.command()
def report(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A finished cube, a path or URL.")],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.html",
            help="The file to write; an existing one is replaced.",
            show_default="NAME.report.html beside the cube",
        ),
    ] = None,
) -> None:
    """Write the report of a finished cube again: settings, maps, spectra, statistics, seams, times, warnings.

    The file contains its pictures and loads no other file.
    """
    if out is not None:
        if not out.endswith((".html", ".htm")):
            raise UsageError("a report is HTML", got=out, expected="a name that ends in .html")
        if nested(locate(cube), locate(out)):
            raise UsageError("the report would overwrite data", where=out, remedy="choose another file")
    from spectile.pipeline.product.report import write_report
    from spectile.pipeline.store.opening import open_storage

    console.print_line(write_report(open_storage(cube), None if out is None else open_storage(out)))
