"""Notifications: a JSON POST to the one URL that the environment or a block names.

Such URLs are secrets in themselves. This one is no parameter, and nothing but its host is ever shown.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError

from spectile.catalog.errors import UsageError
from spectile.catalog.redaction import redact
from spectile.catalog.urls import Location, locate

LOG = logging.getLogger("spectile")

VARIABLE = "SPECTILE_NOTIFY_URL"
"""The environment variable that holds the URL."""
BLOCK = "spectile-notify-url"
"""The Prefect Secret block with the URL, used with a server if the variable is not set."""
SECONDS = 15.0
"""Timeout of a notification, seconds."""


def notify_location() -> Location | None:
    """The place for notifications; None if none is set.

    Raises
    ------
    UsageError : the URL is not one that can be posted to.
    """
    url = os.environ.get(VARIABLE) or _block()
    if not url:
        return None
    try:
        place = locate(url)
    except UsageError:
        place = None
    if not isinstance(place, Location) or not place.scheme.startswith("http"):
        # The URL itself is not shown: its path may be a secret.
        raise UsageError(
            "notifications cannot be sent", got=f"another URL in {VARIABLE}",
            expected="https://HOST/PATH, or http:// on this machine",
        )  # fmt: skip
    return place


def notify(text: str, **facts: object) -> None:
    """Post a line of text and facts as JSON, if a URL is set; a failure is only logged.

    URLs in them lose their secrets.
    """
    try:
        place = notify_location()
        if place is not None:
            _post(place, _redacted({"text": text, **facts}))
    except UsageError as err:
        LOG.warning("%s", err)
    except HTTPError as err:
        LOG.warning("the notification was refused: HTTP status %d", err.code)
    except (OSError, ValueError) as err:
        # The error's text may hold the URL.
        LOG.warning("the notification was not delivered: %s", type(err).__name__)


def _redacted(value: object) -> object:
    """The plain value, with every string in it as ``redact`` leaves it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _redacted(part) for key, part in value.items()}
    return [_redacted(part) for part in value] if isinstance(value, list | tuple) else value


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Notify of a flow run that failed or crashed; a hook of flows. A subflow's caller does that."""
    if flow_run.parent_task_run_id is None:
        what = f"{flow.name} {state.name.lower()}: {state.message or 'no message'}"
        notify(what, event="failed", flow=flow.name, run=flow_run.name, id=str(flow_run.id))


def _block() -> str | None:
    # A run without Prefect must not import it, and one without a server must not start one for this.
    if "prefect" not in sys.modules:
        return None
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is None:
        return None
    from prefect.blocks.system import Secret

    try:
        secret: Any = Secret.load(BLOCK, _sync=True)  # type: ignore[call-arg]
    except ValueError:
        return None
    return str(secret.get())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given: Any) -> None:
        """Refuse redirects: only the checked URL may get the message."""


def _post(place: Location, body: object) -> None:
    request = urllib.request.Request(
        place.url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "spectile"},
    )
    direct = [urllib.request.ProxyHandler({})] if place.is_here else []
    with urllib.request.build_opener(_NoRedirect, *direct).open(request, timeout=SECONDS):
        LOG.info("notified %s", place.host)
