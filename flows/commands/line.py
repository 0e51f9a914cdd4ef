"""``spectile flight-line``: overlapping scenes into one cube."""

from __future__ import annotations

from typing import Any

from spectile.flows.commands.options import with_options
from spectile.flows.commands.root import app
from spectile.flows.commands.run import DryRun, JsonFile, Prefect, process
from spectile.flows.run.settings import LineSettings


@app.command("flight-line")
@with_options(LineSettings)
def flight_line(
    prefect: Prefect = False, dry_run: DryRun = False, json_file: JsonFile = None, **options: Any
) -> None:
    """Turn overlapping scenes into one hyperspectral cube on one grid.

    RGB is resampled and combined before the network. Blocks that no scene reaches are left out.
    """
    process(LineSettings, options, prefect=prefect, dry_run=dry_run, json_file=json_file)
