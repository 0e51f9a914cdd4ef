"""Taking out of a URL what may be a secret, before it is shown or recorded."""

from __future__ import annotations

import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]*[^\s'\"<>`;,:.)\]}]")


def redact_url(url: str) -> str:
    """The URL without user, password, query and fragment; signatures and tokens live in those."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    authority, path, tail = re.fullmatch(r"([^/?#]*)([^?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host = authority.rpartition("@")[2]
    port = host.rpartition("]")[2].partition(":")[2]
    if port and not port.isdigit():
        return f"{scheme}://…"  # a password with a slash in it, of which the rest is in the path
    return f"{scheme}://{host}{path}" + (f"{tail[0]}…" if tail else "")


def redact(text: str) -> str:
    """A text in which every URL is as ``redact_url`` leaves it."""
    return _URL.sub(lambda match: redact_url(match.group()), text)
