"""Removes possible secrets from URLs before they are shown or recorded."""

from __future__ import annotations

import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]*[^\s'\"<>`;,:.)\]}]")


def redact_url(url: str) -> str:
    """The URL without user, password, query and fragment, which may hold signatures and tokens."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    authority, path, tail = re.fullmatch(r"([^/?#]*)([^?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host = authority.rpartition("@")[2]
    port = host.rpartition("]")[2].partition(":")[2]
    if port and not port.isdigit():
        return f"{scheme}://…"  # a password with a slash: its rest is parsed as part of the path
    return f"{scheme}://{host}{path}" + (f"{tail[0]}…" if tail else "")


def redact(text: str) -> str:
    """The text with every URL replaced by its ``redact_url``."""
    return _URL.sub(lambda match: redact_url(match.group()), text)
