"""``spectile demo``: the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectile.flows.commands.root import app, in_lines, stoppable


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")] = Path("demo-out"),
    model: Annotated[str, typer.Option(metavar="NAME|PATH", help="The model to show.")] = "vnir48-rgb",
) -> None:
    """Simulate a scene, turn it into a cube, and compare with the truth and two baselines."""
    from spectile.flows.commands.demonstration import run_demo

    in_lines()
    with stoppable():
        run_demo(out, model)
