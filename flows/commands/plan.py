"""``spectile plan`` and ``spectile status``: what a run will do, and how far it is, as maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spectile.catalog.errors import UsageError
from spectile.flows.commands.options import given, with_options
from spectile.flows.commands.root import app, check_json, in_lines, write_json
from spectile.flows.console import console
from spectile.flows.run.settings import FuseSettings, LineSettings, field_of

_OF_A_LINE = {"crs", "resolution", "frame", "extent", "combine", "resampling"}
_OF_NO_PLAN = {
    "add", "workers", "dask_address", "block_retries", "overwrite", "checksum", "max_block_time", "lease",
    "datetime", "catalog", "resume", "out",
}  # fmt: skip
"""Settings that change neither a plan nor its time: they concern a cube, or the processes."""


@app.command()
@with_options(LineSettings, without=_OF_NO_PLAN, called={"scene": "scenes"})
def plan(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENES...", help="Rasters, a folder of them, or a STAC item collection (.json)."
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="PLAN.geojson", help="The map to write, a path, s3:// or gs://.")
    ],
    flight_line: Annotated[
        bool, typer.Option("--flight-line", help="Plan all scenes as one flight line, not one cube each.")
    ] = False,
    msi: Annotated[
        str | None,
        typer.Option(metavar="SCENE", help="Plan the fusion of one hyperspectral scene with this one."),
    ] = None,
    ratio: Annotated[int | None, typer.Option(metavar="N", min=2, help="Of a fusion, as for fuse.")] = None,
    wavelengths: Annotated[str | None, typer.Option(metavar="FILE", help="Of a fusion, as for fuse.")] = None,
    hsi_radiometry: Annotated[
        str | None, typer.Option(metavar="KIND", help="Of a fusion, as for fuse; --radiometry is the MSI's.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the plans as JSON.")
    ] = None,
    **options: Any,
) -> None:
    """Write the blocks of runs as a map, with their cost.

    Each block is a polygon in longitude and latitude, for any GIS. At most two pixels of each scene are read,
    the masks of a flight line, and of a fusion the windows from which it is estimated. The options are those
    of run, or of flight-line.
    """
    in_lines()
    data = [scene for scene in scenes if not Path(scene).is_dir()]
    for place in (*data, out):
        check_json(json_file, place, out)
    from spectile.flows.console import plan_map

    plan_map.check_map(out, data)
    chosen = {**given(options), "out": out}
    fused = {
        "msi": msi, "ratio": ratio, "wavelengths": wavelengths, "hsi_radiometry": hsi_radiometry,
    }  # fmt: skip
    if flight_line and any(fused.values()):
        raise UsageError("--flight-line and the options of a fusion exclude each other")
    if flight_line:
        settings: Any = LineSettings(scenes=tuple(scenes), **chosen)
    else:
        of_a_line = {name: chosen.pop(name) for name in _OF_A_LINE & chosen.keys()}
        for name, value in of_a_line.items():
            if value != field_of(LineSettings, name).default:
                raise UsageError(
                    "an option of flight lines", got=f"--{name}", remedy="use it with --flight-line"
                )
        radiometry = chosen.pop("radiometry", None) or [None]
        if len(radiometry) > 1:
            raise UsageError("two radiometries for all scenes", got=f"--radiometry {', '.join(radiometry)}")
        if any(fused.values()):
            settings = _fusion(scenes, {**chosen, **fused, "msi_radiometry": radiometry[0]})
        else:
            settings = plan_map.scene_settings(scenes, {**chosen, "radiometry": radiometry[0]})
    features, report = plan_map.map_plans(settings)
    plan_map.write_map(out, features)
    console.print_pairs(plan_map.channel_pairs(report))
    console.print_table(plan_map.PLAN_COLUMNS, plan_map.plan_rows(report))
    if json_file is not None:
        write_json(json_file, report)


def _fusion(scenes: list[str], chosen: dict[str, Any]) -> FuseSettings:
    """The settings of the fusion that ``--msi`` asks for."""
    if len(scenes) != 1 or chosen["msi"] is None:
        raise UsageError(
            "a fusion has one hyperspectral scene and one other",
            got=f"{len(scenes)} scenes, --msi {chosen['msi'] or 'not given'}",
        )
    known = {name: value for name, value in chosen.items() if value is not None}
    if known.get("model") == "auto":
        del known["model"]
    return FuseSettings(hsi=scenes[0], **known)


@app.command()
def status(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A cube, finished or not.")],
    geojson: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write its blocks as a map, a path, s3:// or gs://."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the summary as JSON.")
    ] = None,
) -> None:
    """Print the progress of a cube: blocks, pixels, time used and left. Reads no pixel."""
    check_json(json_file, cube, cube)
    from spectile.flows.console import plan_map

    if geojson is not None:
        plan_map.check_map(geojson, [cube])
    features, summary = plan_map.map_cube(cube)
    if geojson is not None:
        plan_map.write_map(geojson, features)
    console.print_pairs(plan_map.status_pairs(summary))
    if json_file is not None:
        write_json(json_file, summary)
