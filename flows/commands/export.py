"""``spectile export``: a cube, or a part of it, as a file for other software."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import typer

from spectile.catalog.sizes import width_by_height
from spectile.flows.commands.root import LOG, app, in_lines, stoppable
from spectile.flows.console import console
from spectile.flows.run.texts import parse_region


@app.command()
def export(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A cube, a path or URL.")],
    to: Annotated[
        Literal["cog", "geotiff", "envi", "netcdf", "zarr2"],
        typer.Option(help="The format; zarr2 is a folder, envi a file with its header beside it."),
    ],
    out: Annotated[str, typer.Option(metavar="FILE", help="The file or folder to write.")],
    bands: Annotated[
        str | None,
        typer.Option(
            metavar="NM,NM-NM,B001,...",
            help="The bands nearest to wavelengths or within ranges, nm, or by name.",
            show_default="all",
        ),
    ] = None,
    region: Annotated[
        Any,
        typer.Option(
            parser=parse_region,
            metavar="XMIN,YMIN,XMAX,YMAX",
            help="Part of the cube, in units of its CRS.",
            show_default="the whole cube",
        ),
    ] = None,
    region_crs: Annotated[
        str | None,
        typer.Option(
            metavar="CRS",
            help="CRS of the region, x first; EPSG:4326 is longitude, latitude.",
            show_default="the cube's",
        ),
    ] = None,
    layer: Annotated[
        str,
        typer.Option(metavar="NAME", help="reflectance, sd, q05, q95, valid, or another array of the cube."),
    ] = "reflectance",
    dtype: Annotated[
        Literal["stored", "float32"],
        typer.Option(help="Stored counts with scale and nodata, or reflectance with NaN for none."),
    ] = "stored",
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing export.")] = False,
    allow_incomplete: Annotated[
        bool,
        typer.Option("--allow-incomplete", help="Export an unfinished cube too; missing blocks are nodata."),
    ] = False,
) -> None:
    """Write a cube, or a part of it, as a file for other software.

    The cube is read piece by piece. The export gets its name when it is complete.
    """
    in_lines()
    from spectile.pipeline.product.export import export_cube

    last_line = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last_line
        if time.monotonic() - last_line >= console.SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            LOG.info("%d of %d pieces, %.0f %%", done, total, 100 * done / total)

    with stoppable():
        facts = export_cube(
            cube, out, to=to, bands=bands, region=region, region_crs=region_crs, layer=layer, dtype=dtype,
            replace=replace, allow_incomplete=allow_incomplete, progress=progress,
        )  # fmt: skip
    count, size = facts["shape"][0], width_by_height(facts["shape"][1:])
    console.print_pairs(
        {
            "export": f"{facts['out']}, {facts['format']}, {console.size(facts['bytes'])}",
            "holds": f"{facts['layer']}, {size}, {count} band(s), {facts['dtype']}",
        }
    )
