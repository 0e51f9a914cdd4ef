"""``--config``: settings from a TOML file, which the options of the command line override."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.models import OptionInfo

from spectile.catalog.errors import UsageError

LONGEST = 1_000_000
"""Characters of a file at most."""


def config_option(
    names: Collection[str], *, skipped: Collection[str] = (), called: Mapping[str, str] | None = None
) -> OptionInfo:
    """The option. Its values become the defaults of the command's other options, so each keeps its checks.

    Parameters
    ----------
    names : of the settings that the command takes.
    skipped : of settings that other commands take and this one does not, so that one file serves all.
    called : what a setting is called here, by its name in the file.
    """

    def load(context: typer.Context, path: Path | None) -> Path | None:
        if path is not None:
            # What must be given is not asked for where the file has it.
            context.default_map = _defaults(context, path, names, skipped, called or {})
        return path

    option: OptionInfo = typer.Option(
        "--config", metavar="FILE.toml", is_eager=True, expose_value=False, callback=load,
        help="Take settings from a file, by their names (--block-retries is block_retries).",
    )  # fmt: skip
    return option


def _defaults(
    context: typer.Context,
    path: Path,
    names: Collection[str],
    skipped: Collection[str],
    called: Mapping[str, str],
) -> dict[str, Any]:
    by_name: dict[str, Any] = {param.name: param for param in context.command.params if param.name}
    found = {}
    for name, value in read_config(path).items():
        here = called.get(name, name)
        if here in names and here in by_name:
            found[here] = _as_given(by_name[here], value, f"{path}: {name}")
        elif name not in skipped:
            known = ", ".join(sorted(names))
            raise UsageError("unknown setting", where=str(path), got=name, expected=known)
    return found


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, as they are written.

    Raises
    ------
    UsageError : it cannot be read, or is no TOML.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise UsageError("the file is too large for settings", where=str(path))
        return tomllib.loads(text)
    except OSError as err:
        raise UsageError("the settings cannot be read", where=str(path), got=err.strerror) from err
    except RecursionError:
        raise UsageError("not TOML", where=str(path), got="values that are nested too deep") from None
    except ValueError as err:  # no UTF-8, or no TOML
        raise UsageError("not TOML", where=str(path), got=str(err)[:200]) from err


def _as_given(param: Any, value: Any, where: str) -> Any:
    """A value as the command line would have it: a text, a list of texts, or whether a flag is set."""
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise UsageError("a setting that is true or false", where=where, got=str(value)[:80])
        return value
    several = getattr(param, "multiple", False) or param.nargs != 1
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, dict | list | bool) for part in parts):
        raise UsageError("no value of a setting", where=where, got=str(value)[:80])
    texts = [part.isoformat() if hasattr(part, "isoformat") else str(part) for part in parts]
    return texts if several else ",".join(texts)
