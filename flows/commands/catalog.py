"""``spectile catalog``: search cubes by place, time, model and bands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.times import when
from spectile.flows.commands.root import app
from spectile.flows.console import console

if TYPE_CHECKING:
    from spectile.catalog.stac.index import Query
    from spectile.pipeline.stac.collection import Collection

catalog = typer.Typer(help="List and search the cubes of a STAC catalog; add to it.")
app.add_typer(catalog, name="catalog")

COLUMNS = ("id", "status", "model", "taken", "bands", "range, nm", "west,south,east,north")
Place = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        metavar="FOLDER|URL",
        help="The catalog.",
        show_default="the environment's SPECTILE_CATALOG",
    ),
]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="Items to print at most.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print them as a STAC item collection.")]


def _open(place: str | None) -> Collection:
    from spectile.pipeline.stac.collection import ENVIRONMENT, open_collection

    collection = open_collection(place)
    if collection is None:
        raise UsageError("no catalog is named", remedy=f"use --catalog FOLDER|URL, or set {ENVIRONMENT}")
    return collection


def _parse_numbers(count: int, form: str) -> Any:
    def parse(text: str) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError as err:
            raise typer.BadParameter(f"{text!r} is not {form}") from err
        if len(numbers) != count:
            raise typer.BadParameter(f"{text!r} is not {form}")
        return numbers

    return parse


@catalog.command()
def add(
    cubes: Annotated[list[str], typer.Argument(metavar="CUBES...", help="Cubes, finished or not.")],
    place: Place = None,
    taken: Annotated[
        str | None,
        typer.Option(
            "--datetime",
            metavar="TIME|START/END",
            help="When the scene was taken, UTC.",
            show_default="what the cube says",
        ),
    ] = None,
) -> None:
    """Write or replace the items of cubes; make the catalog if there is none."""
    from spectile.catalog.times import parse_span
    from spectile.pipeline.stac.item import cube_facts
    from spectile.pipeline.store.opening import open_storage

    collection, span = _open(place), None if taken is None else parse_span(taken)
    for cube in cubes:
        console.print_line(collection.add(cube, cube_facts(open_storage(cube), taken=span)))


@catalog.command("list")
def list_items(place: Place = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List the items, newest first."""
    from spectile.catalog.stac.index import Query

    _print(_open(place), Query(), limit, as_json)


@catalog.command()
def search(
    place: Place = None,
    bbox: Annotated[
        Any,
        typer.Option(
            parser=_parse_numbers(4, "WEST,SOUTH,EAST,NORTH"),
            metavar="WEST,SOUTH,EAST,NORTH",
            help="Footprints that touch this box, degrees; WEST > EAST crosses the antimeridian.",
        ),
    ] = None,
    span: Annotated[
        str | None,
        typer.Option(
            "--datetime", metavar="TIME|START/END", help="Taken at this time, UTC; .. is an open end."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Cubes of this model.")] = None,
    wavelength: Annotated[
        Any,
        typer.Option(
            parser=_parse_numbers(2, "LOWEST,HIGHEST"),
            metavar="LOWEST,HIGHEST",
            help="Both wavelengths within the range of the bands, nm.",
        ),
    ] = None,
    status: Annotated[
        Literal["complete", "incomplete"] | None,
        typer.Option(help="State of the cube when it was last added."),
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Find the items that match all options, newest first."""
    from spectile.catalog.stac.index import Query
    from spectile.catalog.times import parse_open_span

    when = None if span is None else parse_open_span(span)
    _print(_open(place), Query(bbox, when, model, status, wavelength), limit, as_json)


@catalog.command()
def show(
    item: Annotated[str, typer.Argument(metavar="ID", help="The item's id, as list prints it.")],
    place: Place = None,
) -> None:
    """Print an item as it is stored."""
    print(json.dumps(_open(place).get(item), indent=2, ensure_ascii=False))


@catalog.command()
def rebuild(place: Place = None) -> None:
    """Check every item, and make the index again from the valid ones."""
    collection = _open(place)
    done = collection.rebuild()
    for problem in done.problems:
        console.print_line(problem)
    console.print_line(f"{collection.storage}: {done.items} item(s)")
    if done.problems:
        raise SpectileError(f"{len(done.problems)} item(s) left out", where=str(collection.storage))


def _print(collection: Collection, query: Query, limit: int, as_json: bool) -> None:
    from spectile.catalog.stac.index import newest

    matches = collection.search(query)
    rows = newest(matches, limit).to_pylist()
    if as_json:
        items = [collection.resolve(collection.get(row["id"])) for row in rows]
        print(json.dumps({"type": "FeatureCollection", "features": items}, indent=1, ensure_ascii=False))
        return
    if not rows:
        print("no items")
        return
    console.print_table(COLUMNS, [_line(row) for row in rows])
    if matches.num_rows > limit:
        print(f"{limit} of {matches.num_rows} items; --limit shows more")


def _line(row: dict[str, Any]) -> list[str]:
    box = row["bbox"]
    return [
        row["id"],
        str(row["spectile:status"]),
        str(row["spectile:model"]),
        when(row["datetime"], row["start_datetime"], row["end_datetime"]),
        str(row["spectile:bands"]),
        f"{row['spectile:wavelength_min']:g} to {row['spectile:wavelength_max']:g}",
        "none" if box is None else ",".join(f"{box[side]:.5g}" for side in ("xmin", "ymin", "xmax", "ymax")),
    ]
