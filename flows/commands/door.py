"""Whether a run goes through Prefect, and how."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from spectile.flows.commands.root import LOG
from spectile.flows.run.settings import FuseSettings, LineSettings, SceneSettings, Settings

if TYPE_CHECKING:
    from prefect import Flow


@contextmanager
def flow_of(*settings: Settings, prefect: bool) -> Iterator[Callable[[Settings], dict[str, Any]] | None]:
    """What runs the flow of each of the settings and returns its report; None without Prefect.

    Prefect is used where it is wanted, or the environment names a server. Where none is set, one is started
    for as long as it is needed.

    Raises
    ------
    UsageError : Prefect would keep the signature of a URL.
    """
    if not prefect and not os.environ.get("PREFECT_API_URL"):
        yield None
        return
    from spectile.flows.deployed.parameters import check_recordable, report_of
    from spectile.flows.deployed.server import local_server, server_configured

    for each in settings:
        check_recordable(each)
    with ExitStack() as stack:
        if not server_configured():
            LOG.info("starting a Prefect server for this run")
            LOG.info("the Prefect server is at %s", stack.enter_context(local_server()))
        yield lambda each: report_of(_flow(each), each)


def _flow(settings: Settings) -> Flow[..., Any]:
    if isinstance(settings, SceneSettings):
        from spectile.flows.deployed.scene import process_scene

        return process_scene
    if isinstance(settings, LineSettings):
        from spectile.flows.deployed.flight_line import process_flight_line

        return process_flight_line
    if isinstance(settings, FuseSettings):
        from spectile.flows.deployed.fusion import process_fusion

        return process_fusion
    from spectile.flows.deployed.watch import watch

    return watch
