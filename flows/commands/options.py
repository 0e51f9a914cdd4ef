"""The options of a command, from the settings that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from copy import copy
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from annotated_types import Ge, Le
from typer.models import ParameterInfo

from spectile.flows.commands.config import config_option
from spectile.flows.run.settings import Settings, field_of, parameters_of

Command = Callable[..., None]


def with_options(
    kind: type[Settings], *, without: Collection[str] = (), called: Mapping[str, str] | None = None
) -> Callable[[Command], Command]:
    """A decorator that gives a command an option for each setting, in place of its ``**options``.

    It gets ``--config`` too, which takes them from a file.

    Parameters
    ----------
    without : names of settings that it does not take; a file may have them.
    called : what a setting of a file is called here, by its name there.
    """

    def extend(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        known = {parameter.name for parameter in own} | set(without)
        names = [parameter.name for parameter in parameters_of(kind) if parameter.name not in without]
        config = config_option(names, skipped=without, called=called)
        own.append(Parameter("config", Parameter.KEYWORD_ONLY, default=None,
                             annotation=Annotated[Path | None, config]))  # fmt: skip
        added = [_option(kind, parameter) for parameter in parameters_of(kind) if parameter.name not in known]
        # What must be given comes first, the command's own options last.
        parameters = sorted([*added, *own], key=lambda parameter: parameter.default is not parameter.empty)
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return extend


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given; those that are left keep the settings' own defaults."""
    return {name: value for name, value in options.items() if value is not None}


def _option(kind: type[Settings], parameter: Parameter) -> Parameter:
    """A setting as an option or argument, with its limits and its text."""
    field = field_of(kind, parameter.name)
    type_, default, flag = field.annotation, parameter.default, f"--{parameter.name.replace('_', '-')}"
    shown = [info for info in field.metadata if isinstance(info, ParameterInfo)]
    # A flag of one name has no opposite, --no-….
    option = copy(shown[0]) if shown else typer.Option(flag) if type_ is bool else typer.Option()
    option.help = field.description
    if option.parser is not None:
        type_, default = Any, None
    elif getattr(type_, "__origin__", None) is tuple:
        type_ = list[str] if default is parameter.empty else list[str] | None
        default = default if default is parameter.empty else None
    else:
        for limit in field.metadata:
            if isinstance(limit, Ge):
                option.min = limit.ge
            elif isinstance(limit, Le):
                option.max = limit.le
    return parameter.replace(annotation=Annotated[type_, option], default=default)
