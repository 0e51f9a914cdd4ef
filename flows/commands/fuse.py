"""``spectile fuse``: a coarse hyperspectral and a sharp multispectral scene into one cube."""

from __future__ import annotations

from typing import Any

from spectile.flows.commands.options import with_options
from spectile.flows.commands.root import app
from spectile.flows.commands.run import DryRun, JsonFile, Prefect, process
from spectile.flows.run.settings import FuseSettings


@app.command()
@with_options(FuseSettings, without={"steps", "compiled"})
def fuse(
    prefect: Prefect = False, dry_run: DryRun = False, json_file: JsonFile = None, **options: Any
) -> None:
    """Fuse a coarse hyperspectral and a sharp multispectral scene into a sharp cube.

    The cube lies on the hyperspectral scene's grid, each pixel divided by a whole ratio, and has its bands.
    What the pair needs (response, blur, shift, noise) is estimated from both scenes.
    """
    process(FuseSettings, options, prefect=prefect, dry_run=dry_run, json_file=json_file)
