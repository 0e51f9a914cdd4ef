"""The parameters of the flows, from the settings, and how a flow is run with them in this process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spectile.catalog.errors import UsageError
from spectile.catalog.redaction import redact_url
from spectile.flows.run.settings import Settings, field_of, parameters_of

if TYPE_CHECKING:
    from prefect import Flow

Body = Callable[..., dict[str, Any]]


def takes(kind: type[Settings]) -> Callable[[Body], Body]:
    """A decorator that gives the function of a flow the fields of settings as its parameters.

    They are flat, not one parameter that holds the settings: Prefect merges the parameters of a deployment
    with those of a run by their names, so a run that sets ``samples`` would otherwise lose the deployment's
    ``device``.
    """

    def give(body: Body) -> Body:
        parameters = parameters_of(kind)
        body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            parameters, return_annotation=dict[str, Any]
        )
        # Where Prefect looks for what its pages say of a parameter.
        texts = "\n".join(
            f"    {parameter.name}: {field_of(kind, parameter.name).description}" for parameter in parameters
        )
        body.__doc__ = f"{inspect.getdoc(body)}\n\nArgs:\n{texts}\n"
        return body

    return give


def check_recordable(settings: Settings) -> None:
    """Refuse URLs with a signature: Prefect would keep it among the parameters of the run.

    Raises
    ------
    UsageError : there is one.
    """
    for place in settings.places:
        if redact_url(place) != place:
            raise UsageError(
                "Prefect would record the URL's signature",  # and its path may be a secret too
                remedy="run without Prefect, or use s3:// with credentials in the environment",
            )  # fmt: skip


def report_of(flow: Flow[..., Any], settings: Settings) -> dict[str, Any]:
    """The report of a flow that is run here, of a failed one too.

    Raises
    ------
    UsageError : Prefect would keep the signature of a URL.
    SpectileError : the run failed before it could report.
    """
    check_recordable(settings)
    state: Any = flow(**asdict(settings), return_state=True)
    facts = state.result(raise_on_failure=False)
    if isinstance(facts, BaseException):
        raise facts
    assert isinstance(facts, dict)
    return facts
