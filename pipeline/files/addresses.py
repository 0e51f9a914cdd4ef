"""Which servers may be asked for scenes. Redirects to private addresses are refused."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import IPv6Address, ip_address
from typing import Literal
from urllib.parse import urljoin, urlsplit

from spectile.catalog.errors import SceneError
from spectile.catalog.urls import Location, locate

MOST_REDIRECTS = 5
SECONDS = 10.0
"""Time limit to connect and to get the first bytes, s."""

Kind = Literal["public", "private", "loopback", "link-local", "no server's"]


def resolve(location: Location, *, listed: bool = False, allow_private: bool = False) -> Location:
    """The final location of an object, after redirects.

    Locations in buckets are returned unchanged; the environment names their endpoint.

    Parameters
    ----------
    listed : a catalogue named the location, not the user: only public addresses are allowed.
    allow_private : allow addresses of any kind.

    Raises
    ------
    SceneError : it leads to an address that is not allowed, to another scheme, or through too many redirects.
    """
    if not location.scheme.startswith("http"):
        return location
    first = kind = _kind(location)
    for _ in range(MOST_REDIRECTS):
        if not allow_private:
            _check(location, kind, first, listed=listed)
        target = None if kind is None else _redirect(location)
        if target is None:
            return location
        following = locate(urljoin(location.url, target))
        if not isinstance(following, Location) or following.scheme != location.scheme:
            raise SceneError(
                "the server redirects to another scheme", where=str(location), got=urlsplit(target).scheme,
                expected=location.scheme,
            )  # fmt: skip
        location, kind = following, _kind(following)
    raise SceneError("too many redirects", where=str(location), expected=f"up to {MOST_REDIRECTS}")


def _check(location: Location, kind: Kind | None, first: Kind | None, *, listed: bool) -> None:
    refused = {"link-local", "no server's"} | ({"private", "loopback"} if listed else set())
    if kind in refused or kind != first:
        raise SceneError(
            "the URL leads to an address that is not allowed", where=str(location), got=f"a {kind} address",
            remedy="use --allow-private to allow it",
        )  # fmt: skip


def _kind(location: Location) -> Kind | None:
    """The kind of a host's address, the most private of several; None if the name cannot be resolved."""
    parts = urlsplit(str(location))
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError:
        return None  # the later request reports it
    kinds = {_kind_of(str(each[4][0]).partition("%")[0]) for each in found}
    order: tuple[Kind, ...] = ("no server's", "link-local", "loopback", "private", "public")
    return next(kind for kind in order if kind in kinds)


def _kind_of(text: str) -> Kind:
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast or address.is_unspecified:
        return "no server's"
    return "public" if address.is_global else "private"


def _redirect(location: Location) -> str | None:
    """The target of the server's redirect; None if there is none or the request fails."""
    make = HTTPSConnection if location.scheme == "https" else HTTPConnection
    connection = make(location.host, timeout=SECONDS)
    path = "/" + location.key + (f"?{location.query}" if location.query else "")
    try:
        # Signed URLs often allow GET only, so HEAD is not used.
        connection.request("GET", path, headers={"Range": "bytes=0-0"})
        answer = connection.getresponse()
        return answer.getheader("Location") if 300 <= answer.status < 400 else None
    except (OSError, HTTPException):
        return None  # the client tries again and reports the error
    finally:
        connection.close()
