"""``spectile compare``: a cube beside a measurement."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectile.catalog.errors import UsageError
from spectile.catalog.files import write_bytes
from spectile.flows.commands.root import app, check_json, in_lines, write_json
from spectile.flows.console import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spectile.pipeline.comparison.comparison import Comparison

MOST_ROWS = 50
"""Spectra of the field that are printed, at most."""


@app.command()
def compare(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A finished cube, a path or URL.")],
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="A hyperspectral GeoTIFF, ENVI file or Zarr store, or a table (.csv) of field spectra: x,y "
            "or lon,lat, maybe name, and a column for each wavelength in nm.",
        ),
    ],
    radius: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="M", help="Compare the cube's mean within, m, with a field spectrum.",
            show_default="the pixel under it",
        ),
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option(metavar="CRS", help="CRS of the x and y of a table.", show_default="the cube's"),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Reflectance of a stored 1 where the reference does not say it: 0.01 for per cent, 0.0001.",
            show_default="what it says; of a table 1",
        ),
    ] = None,
    bands_of: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take wavelengths from another file, or a table (.csv) with wavelength and fwhm.",
            show_default="what it says",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw spectra, errors by band and a map of spectral angles."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers as JSON.")
    ] = None,
) -> None:  # fmt: skip
    """Hold a cube against a measurement: RMSE, bias and spectral angle, and how its intervals hold up."""
    in_lines()
    check_json(json_file, reference, cube)
    check_json(picture, reference, cube, option="--picture")
    if picture is not None and picture.suffix.lower() != ".png":
        raise UsageError("a picture is PNG", got=f"--picture {picture}", expected="a name that ends in .png")
    from spectile.pipeline.comparison.compare import compare as compare_it
    from spectile.pipeline.spectra.hyperspectral import read_bands

    bands = None if bands_of is None else read_bands(bands_of)
    found = compare_it(cube, reference, radius=radius, crs=crs, scale=scale, bands=bands)
    console.print_pairs(dict(_pairs(found)))
    if found.points:
        rows = [
            [each.name, str(each.pixels), f"{each.rmse:.4f}", f"{each.bias:+.4f}", _number(each.angle)]
            for each in found.points[:MOST_ROWS]
        ]
        console.print_table(("spectrum", "pixels", "RMSE", "bias", "angle, rad"), rows)
        if len(found.points) > MOST_ROWS:
            console.print_line(f"and {len(found.points) - MOST_ROWS} more; --json has all")
    console.print_table(*_by_band(found))
    if json_file is not None:
        write_json(json_file, found.to_json())
    if picture is not None:
        from spectile.pipeline.comparison.comparison_picture import draw_comparison

        write_bytes(picture, draw_comparison(found))


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "none"


def _pairs(found: Comparison) -> Iterator[tuple[str, str]]:
    yield "cube", found.cube
    yield "reference", f"{found.reference}, {found.way}"
    dark = f", {found.pixels_dark} of them dark" if found.pixels_dark else ""
    zero = f", {found.pixels_zero} without an angle" if found.pixels_zero else ""
    yield "compared", f"{found.pixels} {'spectra' if found.points else 'pixels'}{dark}{zero}"
    yield "bands", f"{found.bands}, the {found.bands_of}'s"
    for of, left in (("cube", found.cube_left_out_nm), ("reference", found.reference_left_out_nm)):
        if left:
            yield f"left out of {of}", _ranges(left)
    if found.points_left_out:
        yield (
            "no pixel for",
            ", ".join(found.points_left_out[:10])
            + (f" and {len(found.points_left_out) - 10} more" if len(found.points_left_out) > 10 else ""),
        )
    yield "RMSE", f"{found.rmse:.4f}, bias {found.bias:+.4f} (cube - reference)"
    yield (
        "spectral angle",
        f"{_number(found.angle)} rad"
        + (f", of dark pixels {_number(found.angle_dark)}" if found.pixels_dark else ""),
    )
    if found.intervals is not None:
        yield (
            "q05 to q95",
            (
                f"cover {100 * found.intervals.cover:.1f} % of the values (90 % is right), "
                f"mean width {found.intervals.width:.4f}"
            ),
        )
    for note in found.notes:
        yield "note", note


def _ranges(left: tuple[float, ...]) -> str:
    """Wavelengths in words: all of a few, else the first and the last."""
    if len(left) <= 6:
        return ", ".join(f"{nm:g}" for nm in left) + " nm"
    return f"{len(left)} bands from {left[0]:g} to {left[-1]:g} nm"


def _by_band(found: Comparison) -> tuple[tuple[str, ...], list[list[str]]]:
    columns = [found.rmse_by_band, found.bias_by_band, found.mean_cube, found.mean_reference]
    names = ["nm", "RMSE", "bias", "mean of cube", "mean of reference"]
    if found.intervals is not None:
        columns += [found.intervals.cover_by_band, found.intervals.width_by_band]
        names += ["cover", "width"]
    rows = [
        [f"{nm:g}", *map(_number, row)]
        for nm, row in zip(found.bands.centre_nm, zip(*columns, strict=True), strict=True)
    ]
    return tuple(names), rows
